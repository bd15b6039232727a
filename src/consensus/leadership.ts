/** What a member keeps only while it leads. */
import { noMember, type LogIndex, type MemberId } from "../ids";
import { Inflights } from "./inflights";
import type { ConsensusOptions } from "./options";
import { Progress } from "./progress";
import { ReadIndexQueue } from "./read-index";
import type { Configuration } from "./types";

export class Leadership {
  /** Every other member. */
  readonly progress = new Map<MemberId, Progress>();
  readonly reads = new ReadIndexQueue();
  /** The entry with which the term was opened. */
  openingIndex: LogIndex = 0;
  /** Membership changes are refused until this is applied: a change may be under way up to here (R9). */
  pendingConfigurationIndex: LogIndex = 0;
  /** To whom leadership is being handed over. */
  transferee: MemberId = noMember;
  transferElapsed = 0;
  heartbeatElapsed = 0;
  /** Bytes of entries that are appended and not committed. */
  uncommittedBytes = 0;
  /** Followers may be owed something: see to it with the next Ready. */
  flushDue = false;
  /** A snapshot was asked for and not named yet. */
  snapshotAwaited = false;
  /** Not yet told to the driver. */
  snapshotWanted = false;
  /** Ranges to ask storage for. */
  wanted: { low: LogIndex; high: LogIndex; bytesMax: number }[] = [];

  /** Brings the followers in line with the configuration; new ones start at the log's end. */
  follow(configuration: Configuration, self: MemberId, lastIndex: LogIndex, options: ConsensusOptions): void {
    for (const id of this.progress.keys()) {
      if (!configuration.voters.includes(id) && !configuration.learners.includes(id))
        this.progress.delete(id);
    }
    for (const [ids, learner] of [
      [configuration.voters, false],
      [configuration.learners, true],
    ] as const) {
      for (const id of ids) {
        if (id === self) continue;
        const known = this.progress.get(id);
        if (known !== undefined) known.learner = learner;
        else {
          const inflights = new Inflights(options.inflightMessagesMax, options.inflightBytesMax);
          // A newcomer counts as active, so that the next check for a quorum does not hold its silence against it.
          this.progress.set(id, new Progress(id, learner, lastIndex + 1, true, inflights));
        }
      }
    }
  }
}
