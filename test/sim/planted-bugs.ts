/**
 * The bugs that are planted to see whether the simulator finds them. Most are classics of the field; the last
 * ones are mistakes that this design invites, one of which was really made and found by it.
 */
import type { PlantedBug } from "./planted";

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "answer-before-sync",
    what: "votes and acknowledgements leave before the batch that they speak of is on disk",
    patches: [
      {
        file: "src/member/loop.ts",
        find: "if (ready.sendNow.length > 0) this.#send(ready.sendNow);",
        replace: "this.#send([...ready.sendNow, ...ready.sendAfterPersist]);",
      },
    ],
  },
  {
    name: "log-resolves-before-sync",
    what: "the log calls a batch durable while its sync is under way",
    patches: [
      {
        file: "src/storage/wal/segmented-log.ts",
        find: "if (!(await this.#sync())) break;",
        replace: "void this.#sync();",
      },
    ],
  },
  {
    name: "vote-not-persisted",
    what: "the term is written down, the vote is not",
    patches: [
      {
        file: "src/storage/wal/segmented-log.ts",
        find: "      this.#builder.hardState(hardState);\n      pending.hardState = hardState;",
        replace:
          "      this.#builder.hardState({ ...hardState, vote: 0n });\n      pending.hardState = { ...hardState, vote: 0n };",
      },
    ],
  },
  {
    name: "leader-counts-itself-before-sync",
    what: "a leader takes its own entries for durable at once",
    patches: [
      {
        file: "src/consensus/leader.ts",
        find: "(id === core.id ? persisted : progress.get(id)!.match)",
        replace: "(id === core.id ? Math.max(persisted, log.lastIndex) : progress.get(id)!.match)",
      },
    ],
  },
  {
    name: "old-term-committed-by-counting",
    what: "a leader commits entries of earlier terms because a majority has them (Figure 8)",
    patches: [
      {
        file: "src/consensus/leader.ts",
        find: "if (index <= log.commit || log.term(index) !== core.term) return;",
        replace: "if (index <= log.commit) return;",
      },
    ],
  },
  {
    name: "no-log-match-check",
    what: "a follower appends behind whatever it has at the place before",
    patches: [
      {
        file: "src/consensus/follower.ts",
        find: "if (previousIndex > log.commit && log.term(previousIndex) !== previousTerm) {",
        replace: "if (previousIndex > log.commit && log.term(previousIndex) === undefined) {",
      },
    ],
  },
  {
    name: "campaign-with-unapplied-change",
    what: "a member campaigns by a configuration that a committed change has replaced",
    patches: [
      {
        file: "src/consensus/core.ts",
        find: "return isVoter(this.voters, this.id) && !this.log.hasUnappliedConfiguration;",
        replace: "return isVoter(this.voters, this.id);",
      },
      {
        file: "src/consensus/candidate.ts",
        find: "if (core.log.hasUnappliedConfiguration) {",
        replace: "if (core.term < 0) {",
      },
    ],
  },
  {
    name: "torn-tail-taken-for-good",
    what: "a restart believes the last frames of the log without looking at their checksums",
    patches: [
      {
        file: "src/storage/wal/format.ts",
        find: " &&\n    Bun.hash.xxHash3(frame.subarray(frameHeaderBytes)) === header.bodyChecksum",
        replace: "",
      },
      {
        file: "src/storage/wal/format.ts",
        find: "if (Bun.hash.crc32(bytes.subarray(offset + 4, offset + length)) !== view.getUint32(offset, true)) {",
        replace: "if (length < recordHeaderBytes) {",
      },
    ],
  },
  {
    name: "pre-vote-raises-term",
    what: "a voter enters the term that a pre-vote only asks about",
    patches: [
      {
        file: "src/consensus/raft.ts",
        find: 'case "pre-vote":\n      return !core.hearsLeader;',
        replace:
          'case "pre-vote":\n      if (core.hearsLeader) return false;\n      core.becomeFollower(message.term, noMember);\n      return true;',
      },
    ],
  },
  {
    name: "vote-while-leader-is-heard",
    what: "a voter takes part in an election although its leader is fine",
    patches: [
      {
        file: "src/consensus/raft.ts",
        find: "if (core.hearsLeader && !message.transfer) return false;",
        replace: "",
      },
    ],
  },
  {
    name: "read-index-without-quorum",
    what: "a leader confirms reads without asking anybody whether it still leads",
    patches: [
      {
        file: "src/consensus/leader.ts",
        find: "if (core.alone) core.confirmedReads.push(...reads.confirm());",
        replace: "if (core.term > 0) core.confirmedReads.push(...reads.confirm());",
      },
    ],
  },
  {
    name: "read-index-before-first-commit",
    what: "a new leader answers reads before it knows what is committed",
    patches: [
      {
        file: "src/consensus/leader.ts",
        find: "if (reads.anyWaiting && !reads.underWay && committedInTerm(core)) {",
        replace: "if (reads.anyWaiting && !reads.underWay) {",
      },
    ],
  },
  {
    name: "reused-read-context",
    what: "a late answer to an earlier round of reads confirms a later one (etcd #20418)",
    patches: [
      { file: "src/consensus/read-index.ts", find: "    this.#round++;", replace: "    this.#round = 1;" },
    ],
  },
  {
    name: "applied-index-apart-from-rows",
    what: "rows are committed without the applied index that belongs to them (etcd #13766)",
    patches: [
      {
        file: "src/state/position.ts",
        find: "    this.#save.run(\n",
        replace: "    if ((at.appliedIndex & 1) === 0) this.#save.run(\n",
      },
    ],
  },
  {
    name: "revision-reused-after-restart",
    what: "a restart forgets the newest revision, which is given out once more (etcd #17780)",
    patches: [
      {
        file: "src/state/position.ts",
        find: 'not match its checksum");\n    this.committedIndex = at.appliedIndex;\n',
        replace:
          'not match its checksum");\n    this.committedIndex = at.appliedIndex;\n    at.revision = Math.max(1, at.revision - 1);\n',
      },
    ],
  },
  {
    name: "snapshot-without-configuration",
    what: "a snapshot replaces state and log, the members stay those of before",
    patches: [
      {
        file: "src/consensus/follower.ts",
        find: "  core.setConfiguration(position.configuration);\n  if (core.leader",
        replace: "  if (core.leader",
      },
    ],
  },
  {
    name: "watch-resumes-late",
    what: "a watch from a revision begins one later",
    patches: [
      {
        file: "src/watch/hub.ts",
        find: "startRevision === 0 ? this.#revision + 1 : startRevision,",
        replace: "startRevision + 1 + (startRevision === 0 ? this.#revision : 0),",
      },
    ],
  },
  {
    name: "progress-before-queued-events",
    what: "progress is told to watchers that have not seen everything (etcd #15220)",
    patches: [
      {
        file: "src/watch/hub.ts",
        find: "    for (const watcher of stream.watchers.values()) if (!this.#isCurrent(watcher)) return;\n    this.#answer(stream, noWatcher, {});",
        replace: "    this.#answer(stream, noWatcher, {});",
      },
    ],
  },
  {
    name: "compaction-drops-tombstone",
    what: "a compaction at the revision of a delete takes the tombstone away (etcd #18089, #19179)",
    patches: [
      {
        file: "src/state/mvcc/sweep.ts",
        find: "if (version === 0 && main < target) {",
        replace: "if (version === 0) {",
      },
    ],
  },
  {
    name: "lease-revoked-by-deposed-leader",
    what: "a revoke counts although the leader that decided it had lost its term (etcd #15247)",
    patches: [
      {
        file: "src/state/apply.ts",
        find: "if (expiredInTerm !== 0n && expiredInTerm !== BigInt(term)) {",
        replace: "if (expiredInTerm !== 0n && expiredInTerm > BigInt(term)) {",
      },
    ],
  },
  {
    name: "lease-shortened-by-new-leader",
    what: "a new leader gives leases half of their time",
    patches: [
      {
        file: "src/member/lease-keeper.ts",
        find: "const seconds = remainingSeconds > 0 ? remainingSeconds : ttlSeconds;",
        replace:
          "const seconds = (remainingSeconds > 0 ? remainingSeconds : ttlSeconds) / 2 - this.#electionTimeoutMs / 1_000;",
      },
    ],
  },
  {
    name: "forwarded-batch-taken-twice",
    what: "a leader appends a forwarded batch each time it comes",
    patches: [
      {
        file: "src/member/forwarded.ts",
        find: "batch.term !== this.#ledTerm || !this.#seen.take(batch.from, batch.incarnation, batch.batch)",
        replace: "batch.term !== this.#ledTerm",
      },
    ],
  },
  {
    name: "timeout-called-definite",
    what: "a request whose time ran out is said to have had no effect",
    patches: [
      { file: "src/errors.ts", find: '  "timeout",\n', replace: "" },
      { file: "src/errors.ts", find: '  "timeoutDueToLeaderFail",\n', replace: "" },
      { file: "src/errors.ts", find: '  "timeoutDueToConnectionLost",\n', replace: "" },
    ],
  },
  {
    name: "renewal-without-proof",
    what: "a deposed leader renews leases (etcd #12528)",
    patches: [
      {
        file: "src/member/lease-renewals.ts",
        find: "    if (!alone()) await linearizable();\n",
        replace: "    if (alone()) await linearizable();\n",
      },
    ],
  },
  {
    name: "renewal-after-revoke",
    what: "a leader whose own disk is behind renews a lease that the others have revoked; found by this simulator",
    patches: [
      {
        file: "src/member/lease-renewals.ts",
        find: "    if (now === undefined) return 0n;\n    return now === ttlSeconds ? BigInt(ttlSeconds) : undefined;",
        replace: "    return now === undefined || now === ttlSeconds ? BigInt(ttlSeconds) : undefined;",
      },
    ],
  },
  {
    name: "snapshot-offered-without-end",
    what: "a leader offers what its consensus has cut behind, over and over; found by this simulator",
    patches: [
      {
        file: "src/member/snapshots.ts",
        find: "Math.max(log.firstIndex, raft.status().startIndex + 1)",
        replace: "log.firstIndex",
      },
    ],
  },
];
