/** Revisions that readers still need. */
import type { Revision } from "../../ids";
import type { Pin } from "../results";

export class Pins {
  readonly #held = new Set<Pin>();

  hold(revision: Revision): Pin {
    const pin: Pin = { revision, release: () => void this.#held.delete(pin) };
    this.#held.add(pin);
    return pin;
  }

  get count(): number {
    return this.#held.size;
  }

  /** The oldest revision that is held; Infinity when none is. */
  get oldest(): Revision {
    let oldest = Infinity;
    for (const pin of this.#held) oldest = Math.min(oldest, pin.revision);
    return oldest;
  }
}
