/** A `node:http` server that does not listen: its connections are watched, and their requests begin one by one. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type ConnectionTimeouts, watchConnections } from "./connection-deadlines";
import { OneByOne } from "./one-by-one";

export interface HttpServerOptions {
  readonly headerBytesMax: number;
  readonly timeouts: ConnectionTimeouts;
  /** Whether a request's body may stay open for ever. Default: none. */
  readonly bodyIsStream?: (request: IncomingMessage) => boolean;
}

/** `serve` must not throw. */
export function createHttpServer(
  { headerBytesMax, timeouts, bodyIsStream = () => false }: HttpServerOptions,
  serve: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const order = new OneByOne();
  // Timeouts of the server itself are off: watchConnections covers sockets however they came.
  const server = createServer(
    { maxHeaderSize: headerBytesMax, requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 },
    (request, response) =>
      order.take(request, response, () => {
        begun(request, response);
        serve(request, response);
      }),
  );
  const begun = watchConnections(server, timeouts, bodyIsStream);
  return server;
}
