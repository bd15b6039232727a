/** Words about members that several pages use. */
import type { ClusterView, MemberView } from "../../service/cluster-status";
import { freshMs } from "../../service/verdict";
import type { Tone } from "./components/state";
import { shellQuoted } from "./components/values";
import { countOf, spanOf, written } from "./text";
import { plainLine } from "./values/visible";

/** Text with names in it that others chose: what cannot be seen, or turns what follows around, is named. */
export function plainText(text: string): string {
  return /^[ -~]*$/.test(text) ? text : plainLine(Buffer.from(text), 1_000);
}

/** Its name, or as long as it has none the beginning of its id. */
export function nameOf({ name, id }: Pick<MemberView, "name" | "id">): string {
  return plainText(name) || id.slice(0, 8);
}

/** The name of the member with this id. */
export function nameOfId(view: ClusterView, id: string): string {
  const member = view.members.find((one) => one.id === id);
  return member === undefined ? id.slice(0, 8) : nameOf(member);
}

/** Whether its figures say something about now. */
export function isFresh({ ageMs }: MemberView): boolean {
  return ageMs !== undefined && ageMs <= freshMs;
}

export interface StateWord {
  readonly tone: Tone;
  readonly word: string;
}

/** How a member is, in one word. */
export function memberState(member: MemberView): StateWord {
  if (!isFresh(member) && member.silentMs === undefined) return { tone: "muted", word: "Asking" };
  if (!isFresh(member) || member.status === undefined) {
    return member.name === "" ? { tone: "muted", word: "Not started" } : { tone: "bad", word: "Silent" };
  }
  if (member.status.receiving !== undefined) return { tone: "warn", word: "Installing snapshot" };
  if (member.status.leader === undefined) return { tone: "warn", word: "No leader" };
  if ((member.lagMs ?? 0) >= 5_000) return { tone: "warn", word: "Behind" };
  return { tone: "ok", word: "In step" };
}

/** Since when it says nothing, as words behind its state; empty while it answers. */
export function silence(member: MemberView): string {
  return isFresh(member) || member.silentMs === undefined || member.name === ""
    ? ""
    : ` for ${written(spanOf(member.silentMs))}`;
}

/** What it is in its cluster. */
export function roleOf(member: MemberView, view: ClusterView): string {
  if (member.learner) return "learner";
  if (isFresh(member) && member.status?.role === "leader") return "leader";
  if (member.id === view.leader && isFresh(member)) return "leader";
  if (isFresh(member) && member.status?.role === "candidate") return "candidate";
  return "voter";
}

/** How far it is behind, in entries and in time. */
export function lagOf(member: MemberView): string {
  const { lagEntries, lagMs } = member;
  // How far a silent member is, nobody knows.
  if (lagEntries === undefined || !isFresh(member)) return "–";
  if (lagEntries === 0) return "0";
  return (lagMs ?? 0) < 1_000
    ? `${countOf(lagEntries)}, < 1 s`
    : `${countOf(lagEntries)}, ${written(spanOf(lagMs ?? 0))}`;
}

/** The URL at which clients find a member: an own one of the address that the browser uses, if there is none. */
export function clientUrlOf(view: ClusterView, fallback: string): string {
  return view.members.find(({ id }) => id === view.self)?.clientUrls[0] ?? fallback;
}

/** Where a further member will be found, as far as somebody said. */
export interface NewPlace {
  readonly clientUrl: string;
  readonly peerUrl: string;
}

/** How to start a further member that joins by itself. */
export function joinCommand(
  view: ClusterView,
  name: string,
  fallback: string,
  { clientUrl, peerUrl }: NewPlace = { clientUrl: "http://ADDRESS:2379", peerUrl: "http://ADDRESS:2380" },
): string {
  const [client, peer] = [shellQuoted(clientUrl), shellQuoted(peerUrl)];
  return [
    `keelson --name ${name} --data-dir ${name}.keelson \\`,
    `  --join ${clientUrlOf(view, fallback)} \\`,
    `  --listen-client-urls ${client} --advertise-client-urls ${client} \\`,
    `  --listen-peer-urls ${peer} --initial-advertise-peer-urls ${peer}`,
  ].join("\n");
}
