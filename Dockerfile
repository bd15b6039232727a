# The executable is built from the sources; Node and npm only fetch Bun and the packages.
FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json bunfig.toml ./
COPY src src
COPY web web
RUN npm run build

FROM debian:bookworm-slim
# A manifest that starts "etcd" needs to change nothing but its image.
COPY --from=build /build/dist/keelson /usr/local/bin/keelson
RUN ln -s keelson /usr/local/bin/etcd \
 && useradd --system --uid 2379 --user-group --home-dir /var/lib/keelson --create-home \
      --shell /usr/sbin/nologin keelson \
 && chmod 0700 /var/lib/keelson
USER keelson
WORKDIR /var/lib/keelson
VOLUME /var/lib/keelson
EXPOSE 2379 2380
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["keelson", "health"]
ENTRYPOINT ["keelson"]
CMD ["--data-dir=/var/lib/keelson/data", "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://localhost:2379"]
