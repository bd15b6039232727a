/** Finding what somebody probably meant to type. */

/** Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours. */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let distance = Math.min(
        previous[column]! + 1,
        current[column - 1]! + 1,
        previous[column - 1]! + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        distance = Math.min(distance, beforePrevious[column - 2]! + 1);
      }
      current.push(distance);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length]!;
}

/** The candidate closest to `wanted`, or undefined when none is close enough to be a typing mistake. */
export function nearestName(wanted: string, candidates: Iterable<string>): string | undefined {
  const normal = wanted.toLowerCase().replaceAll("_", "-");
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(normal.length / 3)) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - normal.length) >= bestDistance) continue;
    const distance = editDistance(normal, candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}
