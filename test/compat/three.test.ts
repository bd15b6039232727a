/** Three Keelsons beside three reference etcds: an operator's session with both must go the same way. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Cluster, startCluster } from "../tools/cluster";
import {
  addLearner,
  leasesEverywhere,
  lookAround,
  moveLeader,
  promoteAndUpdate,
  removeMembers,
  Session,
  strictChecks,
  useLearner,
  withoutQuorum,
} from "./cluster-session";

let reference: Cluster;
let subject: Cluster;
let theirs: Session;
let ours: Session;

beforeAll(async () => {
  [reference, subject] = await Promise.all([
    startCluster({ size: 3, kind: "etcd" }),
    startCluster({ size: 3 }),
  ]);
  expect(subject.kind).toBe(process.env["KEELSON_TEST_SUBJECT"] === "etcd" ? "etcd" : "keelson");
  theirs = new Session(reference);
  ours = new Session(subject);
}, 60_000);
afterAll(async () => {
  await Promise.all([reference.kill(), subject.kill()]);
}, 30_000);

/** Plays one part of the session on both clusters; every note has to be equal. */
async function both(part: (session: Session) => Promise<void>): Promise<void> {
  const before = theirs.notes.length;
  await Promise.all([part(theirs), part(ours)]);
  expect(theirs.notes.length).toBeGreaterThan(before);
  expect(ours.notes.slice(before)).toEqual(theirs.notes.slice(before));
}

describe("an operator sees of three members what etcd's show", () => {
  test(
    "member list, endpoint status, health and hashkv in every format; defrag; alarms",
    () => both(lookAround),
    90_000,
  );
  test("a lease on three members, of which one leads", () => both(leasesEverywhere), 60_000);
  test(
    "move-leader: to a follower, from a follower, to itself, to strangers",
    () => both(moveLeader),
    60_000,
  );
  test("one of three is left: what it serves, and how it refuses", () => both(withoutQuorum), 90_000);
  test(
    "member add: learner, limits, duplicate and bad URLs; promotion of what is not ready",
    () => both(addLearner),
    60_000,
  );
  test("a learner serves what etcd's serves, and refuses the rest", () => both(useLearner), 90_000);
  test("promotion, and new peer URLs", () => both(promoteAndUpdate), 60_000);
  test("removal of a follower and of the leader; both processes end", () => both(removeMembers), 60_000);
  test("strict checks of a cluster of two", () => both(strictChecks), 60_000);
});
