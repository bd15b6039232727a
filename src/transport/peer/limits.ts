/** The bounds of the peer transport, with their units in their names. */

/** Messages that wait for one member, encoded: what drops when a member reads too slowly. */
export const queueBytesMax = { urgent: 4 * 1024 ** 2, bulk: 64 * 1024 ** 2 } as const;
export const queueMessagesMax = { urgent: 16_384, bulk: 65_536 } as const;
/** The same while there is no connection yet. */
export const dialingQueueBytesMax = 4 * 1024 ** 2;
/** A queue's memory above this is given back when the queue is empty. */
export const queueBytesKept = 4 * 1024 ** 2;
/** Answers and questions above this travel with the appends, so that heartbeats never wait behind them. */
export const urgentMessageBytesMax = 16 * 1024;
/** The longest message, unless a client's request may be longer. */
export const messageBytesMaxDefault = 64 * 1024 ** 2;
/** What a message may exceed the largest request by. */
export const messageOverheadBytes = 16 * 1024 ** 2;
/** How much a member may send on one stream before it was read. */
export const streamWindowBytes = 8 * 1024 ** 2;
/** Answers that wait in memory for members that do not read them. */
export const answerBytesInFlightMax = 64 * 1024 ** 2;

/** Pieces of files. */
export const pieceBytesMax = 4 * 1024 ** 2;
export const fileNameBytesMax = 512;
/** A piece that shows no progress for this long is given up. */
export const pieceIdleMs = 30_000;
/** Requests for pieces that one member may have open. */
export const piecesAtOnceMax = 4;
/** A connection for pieces is closed when it was not used for this long. */
export const fileConnectionIdleMs = 30_000;

/** Connections that the peer port holds; further ones are closed at once. */
export const connectionsMax = 512;
/** A connection that does not say who it is within this time is closed. */
export const helloTimeoutMs = 5_000;
/** Requests that one connection may have open. */
export const streamsPerConnectionMax = 16;
/** Pings per connection and 10 s. */
export const pingsMax = 2_000;

/** A silent connection counts as dead after the election timeout, but not before this. */
export const deadMsMin = 500;
/** Looks at every connection so many times within that. */
export const looksPerDeadTime = 4;
/** How long connecting and the handshake may take, each, at least. */
export const dialTimeoutMsMin = 1_000;
/** Pauses between attempts to connect: doubled from the first to the last, minus up to half of it. */
export const retryFirstMs = 20;
export const retryLastMs = 1_000;
/** The pause after a refusal that time alone does not change. */
export const retryRefusedMs = 5_000;
/** A connection that lasted this long starts the pauses over. */
export const settledMs = 1_000;
/** How long the last messages have to leave when the transport closes. */
export const lingerMs = 200;
