/** Work that is gathered within one turn of the event loop and done at its end, for all connections together. */
export interface TurnEnded {
  /** Goes after the others: who is answered need not wait for what this side tells of itself. */
  readonly last?: boolean;
  turnEnded(): void;
}

let due: TurnEnded[] = [];
let dueLast: TurnEnded[] = [];
let scheduled = false;

/** Calls `turnEnded` once when this turn's events were handled. The caller sees to it that it asks once. */
export function atEndOfTurn(one: TurnEnded): void {
  (one.last === true ? dueLast : due).push(one);
  if (scheduled) return;
  scheduled = true;
  setImmediate(endTurn);
}

function endTurn(): void {
  const now = due;
  const nowLast = dueLast;
  due = [];
  dueLast = [];
  scheduled = false;
  for (const one of now) one.turnEnded();
  for (const one of nowLast) one.turnEnded();
}
