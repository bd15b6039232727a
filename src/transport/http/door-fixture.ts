/** For tests: a door on a real port, whose sockets come from a listener of another kind as in production. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { CapturingLogger } from "../../log";
import { createMetrics, type Metrics } from "../../metrics/metrics";
import { createGateway, type Gateway, type GatewayOptions } from "../gateway/gateway";
import { bindMethods, type Services } from "../methods";
import { createHttpDoor, type HttpDoorOptions } from "./door";
import type { Alarm, HealthSource } from "./health-source";

/** A health source whose answers a test changes as it goes. */
export class FakeHealth implements HealthSource {
  raised: Alarm[] = [];
  leader = true;
  learner = false;
  read: () => Promise<void> = () => Promise.resolve();

  alarms(): readonly Alarm[] {
    return this.raised;
  }

  hasLeader(): boolean {
    return this.leader;
  }

  isLearner(): boolean {
    return this.learner;
  }

  serializableRead(): Promise<void> {
    return Promise.resolve();
  }

  linearizableRead(): Promise<void> {
    return this.read();
  }

  versions(): { etcdserver: string; etcdcluster: string; storage: string } {
    return { etcdserver: "3.6.14", etcdcluster: "3.6.0", storage: "3.6.0" };
  }
}

export interface RunningDoor {
  readonly port: number;
  readonly url: string;
  readonly health: FakeHealth;
  readonly log: CapturingLogger;
  readonly metrics: Metrics;
  readonly gateway: Gateway;
  /** Sends bytes as they are and gives back everything until the server closes, or until `enough` appears. */
  raw(bytes: string | Uint8Array, enough?: string): Promise<string>;
  /** A connection to speak over by hand. */
  connect(): Promise<Socket>;
  close(): Promise<void>;
}

export async function runDoor(
  services: Services = {},
  door: Partial<HttpDoorOptions> = {},
  gatewayOptions: Partial<GatewayOptions> = {},
): Promise<RunningDoor> {
  const health = new FakeHealth();
  const log = new CapturingLogger();
  const metrics = createMetrics();
  const gateway = createGateway({
    methods: bindMethods(services),
    log,
    observer: metrics.grpc,
    ...gatewayOptions,
  });
  const http = createHttpDoor({ health, metrics, log, gateway, ...door });
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    http.emit("connection", socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket: Socket = connect(port, "127.0.0.1", () => resolve(socket));
      socket.on("error", reject);
    });
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    health,
    log,
    metrics,
    gateway,
    connect: open,
    async raw(bytes, enough) {
      const socket = await open();
      return new Promise((resolve) => {
        let text = "";
        socket.on("data", (chunk: Buffer) => {
          text += chunk.toString("latin1");
          if (enough !== undefined && text.includes(enough)) socket.destroy();
        });
        socket.on("error", () => {});
        socket.on("close", () => resolve(text));
        socket.write(bytes);
      });
    },
    async close() {
      await gateway.stop();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
