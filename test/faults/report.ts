/** What is kept of a run that failed: the history as lines of JSON, and a page that shows it on a timeline. */
import { toJson, type DescMessage, type Message } from "@bufbuild/protobuf";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as rpc from "../../src/proto/gen/etcd/rpc_pb";
import { operationText } from "../check/describe";
import type { Operation } from "../check/history";
import type { RunResult, ScenarioRun } from "./scenario-run";

const schemas = new Map<string, DescMessage>(
  rpc.file_etcd_rpc.messages.map((schema) => [schema.typeName, schema]),
);

function json(message: unknown): unknown {
  const schema = schemas.get((message as Message).$typeName);
  return schema === undefined ? undefined : toJson(schema, message as Message);
}

function line(operation: Operation): string {
  const { id, client, member, kind, request, callAt, returnAt, outcome } = operation;
  const shown = outcome.kind === "replied" ? { kind: outcome.kind, reply: json(outcome.reply) } : outcome;
  return JSON.stringify({
    id,
    client,
    member,
    kind,
    callAt,
    returnAt: Number.isFinite(returnAt) ? returnAt : null,
    request: json(request),
    outcome: shown,
  });
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const laneHeight = 14;
const pixelsPerSecond = 400;

function color(operation: Operation): string {
  if (operation.outcome.kind === "unanswered") return "#c33";
  if (operation.outcome.kind === "failed") return operation.outcome.definite ? "#e90" : "#d66";
  return operation.kind === "range" ? "#6a9" : "#47b";
}

/** One bar per operation, one lane per client, and the faults as vertical lines. */
function timelineSvg(run: ScenarioRun): string {
  const { operations } = run.recorder;
  const begin = Math.min(...operations.map(({ callAt }) => callAt));
  const end = Math.max(
    ...operations.map(({ callAt, returnAt }) => (Number.isFinite(returnAt) ? returnAt : callAt)),
  );
  const x = (at: number): string => (((at - begin) / 1000) * pixelsPerSecond).toFixed(1);
  const clients = [...new Set(operations.map(({ client }) => client))].sort((a, b) => a - b);
  const lane = new Map(clients.map((client, index) => [client, index]));
  const top = 120;
  const height = top + clients.length * laneHeight + 20;
  const width = Number(x(end)) + 200;
  const bars = operations.map((operation) => {
    const until = Number.isFinite(operation.returnAt) ? operation.returnAt : end;
    const wide = Math.max(1, Number(x(until)) - Number(x(operation.callAt)));
    const y = top + lane.get(operation.client)! * laneHeight;
    return `<rect x="${x(operation.callAt)}" y="${y}" width="${wide.toFixed(1)}" height="${laneHeight - 3}" fill="${color(operation)}"><title>${escape(operationText(operation))}</title></rect>`;
  });
  const marks = run.events.map(({ at, text }, index) => {
    const y = 14 + (index % 7) * 15;
    return `<line x1="${x(at)}" x2="${x(at)}" y1="${y}" y2="${height}" stroke="#888" stroke-dasharray="3 3"/><text x="${x(at)}" y="${y}">${escape(text.slice(0, 120))}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-size="11" font-family="sans-serif">${bars.join("")}${marks.join("")}</svg>`;
}

/** Writes `timeline.html` and `history.jsonl`; the path of the page. */
export function writeReport(run: ScenarioRun, result: RunResult): string {
  const [directory = "."] = result.directories;
  writeFileSync(join(directory, "history.jsonl"), `${run.recorder.operations.map(line).join("\n")}\n`);
  const { problems, counts } = result.judgement;
  const failures = [...run.recorder.failures].map(([text, count]) => `${count} × ${text}`);
  const list = (items: readonly string[]): string =>
    `<ul>${items.map((item) => `<li><pre>${escape(item)}</pre></li>`).join("")}</ul>`;
  const page = `<!doctype html><meta charset="utf-8"><title>${escape(result.scenario)}</title>
<h1>${escape(result.scenario)}</h1><p>${escape(run.scenario.title)}; ${run.options.subject}, seed ${run.options.seed}</p>
<h2>What is wrong</h2>${list(problems)}<h2>Notes</h2>${list(result.notes)}<h2>Failures that clients saw</h2>${list(failures)}
<h2>Counts</h2><pre>${escape(JSON.stringify(counts, undefined, 1))}</pre>
<h2>Timeline</h2><p>Blue: writes. Green: reads. Orange: refused. Red: nobody knows. Point at a bar for its request.</p>
<div style="overflow-x:auto">${run.recorder.operations.length === 0 ? "" : timelineSvg(run)}</div>
<h2>Folders</h2>${list(result.directories)}`;
  const path = join(directory, "timeline.html");
  writeFileSync(path, page);
  return path;
}
