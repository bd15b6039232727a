/** What this build is. */
import { version } from "../package.json";

/** Keelson's own version. */
export const keelsonVersion: string = version;
/**
 * The etcd release whose behaviour is implemented and tested against. Clients switch features by it, so Status
 * and /version report this one (reference etcd-wire 10).
 */
export const etcdLevel = "3.6.16";
/** The cluster version that members agree on, and the storage version, in etcd's terms. */
export const etcdClusterVersion = "3.6.0";
