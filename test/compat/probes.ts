/**
 * The conformance probes of the etcd wire contract, by their numbers there. Each works on its own keys, so that all
 * can share one server; the first three need it fresh. Not here: 35 needs a member without quorum, and 39 to 41 need
 * the auth store.
 */
import type { Probe } from "./probe-context";
import { doorProbes } from "./probes-doors";
import { kvProbes } from "./probes-kv";
import { watchProbes } from "./probes-watch";

export { Context } from "./probe-context";
export { survivalProbes } from "./probes-doors";

/** All probes, in the order in which one server can take them. */
export const probes: readonly Probe[] = [...kvProbes, ...watchProbes, ...doorProbes];
