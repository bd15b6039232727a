/** What the REST operations are made of: the services that every door calls. */
import type { ClusterService } from "../../service/cluster";
import type { HistoryService } from "../../service/history";
import type { Jobs } from "../../service/jobs";
import type { KeyBrowser } from "../../service/key-browser";
import type { KvService } from "../../service/kv";
import type { LeaseService } from "../../service/lease";
import type { LockService } from "../../service/lock";
import type { MaintenanceService } from "../../service/maintenance";
import type { Overview } from "../../service/overview";
import type { Snapshots } from "../../service/snapshots";
import type { WatchService } from "../../service/watch";

/** What REST reads of the store itself. */
export interface StoreView {
  readonly revision: number;
  /** Reads below it are refused; -1 before the first compaction. */
  readonly compactedRevision: number;
}

export interface RestServices {
  readonly store: StoreView;
  readonly kv: KvService;
  readonly lease: LeaseService;
  readonly lock: LockService;
  readonly watch: WatchService;
  readonly cluster: ClusterService;
  readonly maintenance: MaintenanceService;
  readonly history: HistoryService;
  readonly browser: KeyBrowser;
  readonly overview: Overview;
  readonly snapshots: Snapshots;
  readonly jobs: Jobs;
}
