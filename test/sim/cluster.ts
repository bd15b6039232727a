/** Several whole members in one virtual time, each in a world of its own, with a network between them. */
import type { MemberId } from "../../src/ids";
import type { JoinPlan } from "../../src/member/join-plan";
import type { Member, MemberOptions } from "../../src/member/member";
import { SeededRng } from "../../src/rng";
import { VirtualClock } from "./clock";
import { Network } from "./network";
import { World } from "./world";

/** A place where a member lives, dies and lives again. */
export interface Node {
  readonly name: string;
  world: World;
  readonly options: Partial<MemberOptions>;
  /** The running member; undefined while it is down. */
  member: Member | undefined;
  /** Told that it was removed from the cluster. */
  removed: boolean;
}

export class Cluster {
  readonly clock = new VirtualClock();
  readonly network: Network;
  readonly nodes: Node[] = [];
  readonly #rng: SeededRng;
  readonly #options: Partial<MemberOptions>;

  /** `size` founders, not yet started. */
  constructor(size: number, seed = 1, options: Partial<MemberOptions> = {}) {
    this.#rng = new SeededRng(seed);
    this.network = new Network(this.clock, this.#rng.fork(1));
    const initialCluster = Array.from({ length: size }, (_, i) => ({
      name: `m${i + 1}`,
      peerUrls: [peerUrl(`m${i + 1}`)],
    }));
    this.#options = { ...options, initialCluster };
    for (const { name } of initialCluster) this.#addNode(name, {});
  }

  #newWorld(removed: () => void): World {
    const { clock } = this;
    return new World(this.#rng.below(1_000_000), {}, { clock, peers: () => this.network.connect(), removed });
  }

  #addNode(name: string, options: Partial<MemberOptions>): Node {
    const node: Node = {
      name,
      world: this.#newWorld(() => {
        node.removed = true;
      }),
      options: { ...this.#options, name, clientUrls: [`http://${name}:2379`], ...options },
      member: undefined,
      removed: false,
    };
    this.nodes.push(node);
    return node;
  }

  /** Starts every member and lets time pass until all of them serve. */
  start(): this {
    for (const node of this.nodes) this.open(node);
    this.clock.settle(Promise.all(this.running().map((member) => member.ready())));
    return this;
  }

  /** Starts a member that is down; it is not ready to serve yet. */
  open(node: Node): Member {
    node.member = node.world.open(node.options);
    return node.member;
  }

  /** Power fails at one member. */
  crash(node: Node): void {
    if (node.member !== undefined) this.network.disconnect(node.member.id);
    node.member = undefined;
    node.world.crash();
  }

  /** As {@link crash}, and the disk is lost: an empty one takes its place. */
  loseDisk(node: Node): void {
    this.crash(node);
    node.world = this.#newWorld(() => {
      node.removed = true;
    });
  }

  /** A new place for a member that the cluster knows already, with what it is told to begin with. */
  join(name: string, joining: JoinPlan): Node {
    const node = this.#addNode(name, { joining, initialClusterState: "existing" });
    this.open(node);
    return node;
  }

  running(): Member[] {
    return this.nodes.flatMap(({ member }) => (member === undefined ? [] : [member]));
  }

  node(id: MemberId): Node {
    const found = this.nodes.find(({ member }) => member?.id === id);
    if (found === undefined) throw new Error(`member ${id} is not running`);
    return found;
  }

  /** Lets time pass until exactly one running member leads and `followers` others follow it in its term. */
  leader(followers = this.running().length - 1): Member {
    return this.until(() => {
      const leading = this.running().filter((member) => member.status().role === "leader");
      const newest = leading.sort((a, b) => b.term - a.term)[0];
      if (newest === undefined) return undefined;
      const following = this.running().filter(
        (member) => member !== newest && member.leader === newest.id && member.term === newest.term,
      );
      return following.length >= followers ? newest : undefined;
    });
  }

  /** The running members that do not lead. */
  followers(): Member[] {
    const leader = this.leader();
    return this.running().filter((member) => member !== leader);
  }

  /** Lets time pass until the condition gives a value. */
  until<Value>(condition: () => Value | undefined | false, withinMs = 60_000): Value {
    const endMs = this.clock.monotonicMs() + withinMs;
    for (;;) {
      const value = condition();
      if (value !== undefined && value !== false) return value;
      if (this.clock.monotonicMs() >= endMs)
        throw new Error(`nothing came of it within ${withinMs} virtual ms`);
      this.clock.run(1);
    }
  }

  /** What members found wrong with themselves. */
  fatal(): unknown[] {
    return this.nodes.flatMap(({ world }) => world.fatal);
  }
}

export function peerUrl(name: string): string {
  return `http://${name}:2380`;
}
