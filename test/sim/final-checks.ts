/** Members against each other and against the model. */
import { create } from "@bufbuild/protobuf";
import { RangeRequestSchema } from "../../src/proto/gen/etcd/rpc_pb";
import type { HashAnswer } from "../../src/state/results";
import { modelRecord } from "../model/kv-model";
import type { SimulatedHost } from "./host";
import { latin1 } from "./replies";
import type { Truth } from "./truth";
import { claim } from "./violation";

/** etcd's HashKV of one member at a revision. */
function hashOf(host: SimulatedHost, revision: number): HashAnswer {
  const sliced = host.member!.state.hashKV(revision);
  try {
    for (;;) {
      const answer = sliced.next(10_000);
      if (answer !== undefined) return answer;
    }
  } finally {
    sliced.close();
  }
}

/** Members that have compacted alike say the same hash of the newest revision that all of them have. */
export function hashesAgree(hosts: readonly SimulatedHost[]): void {
  const able = hosts.filter(({ member }) => member !== undefined && !member.state.pending);
  const first = able[0];
  if (first === undefined) return;
  const { compactedRevision } = first.member!.state;
  const alike = able.filter(({ member }) => member!.state.compactedRevision === compactedRevision);
  const revision = Math.min(...alike.map(({ member }) => member!.revision));
  if (revision < compactedRevision || revision < 1) return;
  const expected = hashOf(first, revision);
  for (const host of alike) {
    const { hash } = hashOf(host, revision);
    claim(
      hash === expected.hash,
      () => `hashes differ at revision ${revision}: ${first.name} ${expected.hash}, ${host.name} ${hash}`,
    );
  }
}

/** At the end, with all members at the same entry. */
export function finalChecks(truth: Truth, hosts: readonly SimulatedHost[]): void {
  hashesAgree(hosts);
  const { model } = truth;
  const live = model.live("\0", "\0", model.revision).map((version) => modelRecord(version));
  const everything = create(RangeRequestSchema, { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) });
  for (const host of hosts) {
    const { state } = host.member!;
    const { records, revision } = state.range(everything);
    claim(
      revision === model.revision,
      () => `${host.name} ends at revision ${revision}, not ${model.revision}`,
    );
    claim(
      records.length === live.length && records.every((record, i) => latin1(record) === live[i]),
      () => `P2: ${host.name} ends with other keys than the model`,
    );
    claim(
      state.compactedRevision === model.compacted,
      () => `P14: ${host.name} is compacted at ${state.compactedRevision}, the model at ${model.compacted}`,
    );
    claim(
      state.leases().length === model.leases.size,
      () => `P15: ${host.name} has ${state.leases().length} leases, the model ${model.leases.size}`,
    );
  }
}
