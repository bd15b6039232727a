/** How a member makes itself known to the cluster. */
import { refuse } from "../errors";
import type { LogIndex } from "../ids";
import { etcdClusterVersion } from "../version";
import { foundingTerm } from "./bootstrap";
import type { Member } from "./member";

/** One that could not make itself known tries again after this long. */
const retryMs = 500;
/** How often it is looked how far the log was replayed. */
const replayPollMs = 20;

/**
 * Resolves when the cluster has a version and knows the member. Repeats until a leader accepts; rejects only when the
 * member stops. Whoever is known is taken to have data of its own (`connect.ts`), so entries of a leader come first.
 */
export async function makeKnown(member: Member, failed: (error: unknown) => void): Promise<void> {
  for (;;) {
    try {
      if (member.state.clusterVersion === undefined) {
        await member.write({
          case: "clusterVersion",
          value: { $typeName: "keelson.ClusterVersion", version: etcdClusterVersion },
        });
      }
      if (member.state.appliedTerm <= foundingTerm) await member.linearizable();
      await publish(member, member.options.clientUrls);
      return;
    } catch (error) {
      if (member.stopping) throw error;
      failed(error);
    }
    // A refusal may come at once, and what it is about needs its turn.
    await member.pause(retryMs);
  }
}

/**
 * Resolves when everything up to `index` is applied. A member that starts without a leader serves its own state, which
 * must not be older than what its log knows as committed (P6); rejects when the member stops.
 */
export async function replayed(member: Member, index: LogIndex): Promise<void> {
  while (member.state.appliedIndex < index) {
    if (member.stopping) throw refuse("stopped");
    await member.pause(replayPollMs);
  }
}

/** Tells the cluster the member's name and the URLs at which clients find it. */
export async function publish(member: Member, clientUrls: readonly string[]): Promise<void> {
  await member.write({
    case: "publishMember",
    value: {
      $typeName: "keelson.PublishMember",
      memberId: member.id,
      name: nameToPublish(member),
      clientUrls: [...clientUrls],
    },
  });
}

/** A restart without a name keeps the one that the cluster knows. */
function nameToPublish({ id, options, state }: Member): string {
  if (options.nameGiven ?? true) return options.name;
  return state.members().find(({ ID }) => ID === id)?.name || options.name;
}
