/** What the REST operations are made of: the services that every door calls. */
import type { ClusterService } from "../../service/cluster";
import type { KvService } from "../../service/kv";
import type { LeaseService } from "../../service/lease";
import type { LockService } from "../../service/lock";
import type { MaintenanceService } from "../../service/maintenance";
import type { WatchService } from "../../service/watch";

export interface RestServices {
  readonly kv: KvService;
  readonly lease: LeaseService;
  readonly lock: LockService;
  readonly watch: WatchService;
  readonly cluster: ClusterService;
  readonly maintenance: MaintenanceService;
}
