/** Work that is gathered within one turn of the event loop and done at its end, for all connections together. */
export interface TurnEnded {
  turnEnded(): void;
}

let due: TurnEnded[] = [];
let scheduled = false;

/** Calls `turnEnded` once when this turn's events were handled. The caller sees to it that it asks once. */
export function atEndOfTurn(one: TurnEnded): void {
  due.push(one);
  if (scheduled) return;
  scheduled = true;
  setImmediate(endTurn);
}

function endTurn(): void {
  const now = due;
  due = [];
  scheduled = false;
  for (const one of now) one.turnEnded();
}
