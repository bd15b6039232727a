/** @jsxImportSource #console */
/**
 * Plots drawn here: lines of 1.5 px from zero, four gridlines, labels at the lines' ends, gaps where nothing was
 * measured, elections as ticks. The drawing stretches with the window, its texts do not.
 */
import type { Html } from "../html";
import { type Measured, shortened, written } from "../text";
import { Disclosure } from "./boxes";
import { type Column, Table } from "./table";

const height = 120;
const labelHeight = 14;
const labelWidth = 104;
/** What one point stands for. */
export const secondsPerPoint = 15;

/** One line: a member's figures, oldest first; null where there is none. */
export interface Line {
  readonly name: string;
  /** 1 to 7: the member's colour, the same everywhere. */
  readonly colour: number;
  readonly values: readonly (number | null)[];
}

export interface PlotInput {
  readonly id: string;
  readonly title: string;
  /** What is plotted, in one sentence. */
  readonly about: string;
  readonly lines: readonly Line[];
  /** How a figure is written, on the axis too. */
  readonly format: (value: number) => Measured;
  /** Figures that make round numbers: 1024 for bytes. Default 10. */
  readonly base?: 10 | 1024;
  /** Points at which a leader was elected. */
  readonly elections: readonly number[];
  /** When each point was, in words: "12:04". */
  readonly timeOf: (point: number) => string;
}

/** The end of an axis that holds `max`, so that a quarter of it is round too. */
export function axisEnd(max: number, base: 10 | 1024 = 10): number {
  if (max <= 0) return base === 10 ? 4 : 4 * 1024;
  const unit = base === 1024 ? 1024 ** Math.floor(Math.log(max) / Math.log(1024)) : 1;
  const scaled = max / unit;
  const power = 10 ** Math.floor(Math.log10(scaled));
  for (const step of [1, 2, 4, 6, 8, 10]) if (step * power >= scaled) return step * power * unit;
  return 10 * power * unit;
}

export function Plot(input: PlotInput): Html {
  const { id, title, about, lines, format, base, elections } = input;
  const points = Math.max(0, ...lines.map(({ values }) => values.length));
  const max = Math.max(0, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)));
  const end = axisEnd(max, base);
  const y = (value: number): number => height - (value / end) * height;
  const measured = lines.some(({ values }) => values.some((value) => value !== null));
  return (
    <figure
      class="plot"
      data-plot={id}
      data-end={end}
      data-seconds={points * secondsPerPoint}
      data-unit={base === 1024 ? "bytes" : format(1).unit}
    >
      <figcaption>
        <h2>{title}</h2>
        <span class="readout" aria-hidden="true"></span>
      </figcaption>
      <div class="plot-frame">
        <div class="axis" aria-hidden="true">
          {[1, 0.75, 0.5, 0.25, 0].map((share) => (
            <span>{share === 0 ? "0" : written(rounded(format(end * share)))}</span>
          ))}
        </div>
        <div class="canvas">
          <svg
            viewBox={`0 0 ${Math.max(1, points - 1)} ${height}`}
            preserveAspectRatio="none"
            role="img"
            aria-label={`${title}. ${about} ${described(input)}`}
          >
            {[0, 0.25, 0.5, 0.75].map((share) => (
              <line
                class="grid"
                x1="0"
                x2={Math.max(1, points - 1)}
                y1={height * share}
                y2={height * share}
              />
            ))}
            <line class="grid base" x1="0" x2={Math.max(1, points - 1)} y1={height} y2={height} />
            {elections.map((at) => (
              <line class="election" x1={at} x2={at} y1={height - 10} y2={height} />
            ))}
            {lines.map(({ name, colour, values }) => (
              <>
                <path class={`line member-${colour}`} d={pathOf(values, y)} data-name={name} />
                <path class={`dots member-${colour}`} d={lonePoints(values, y)} />
              </>
            ))}
          </svg>
          <span class="crosshair" hidden></span>
          {!measured && <p class="no-points">Nothing was measured yet.</p>}
        </div>
        <svg class="ends" width={labelWidth} height={height} aria-hidden="true">
          {endLabels(lines, y).map(({ line, at }) => (
            <text class={`member-${line.colour}`} x="8" y={at + 4}>
              {shortened(line.name, 6)}
              <tspan class="value" dx="5">
                {written(format(line.values.at(-1) ?? 0))}
              </tspan>
            </text>
          ))}
        </svg>
      </div>
    </figure>
  );
}

/** Marks of an axis are round: zeros behind the point say nothing. */
function rounded({ value, unit }: Measured): Measured {
  return { value: value.replace(/\.0+$|(\.\d*[1-9])0+$/, "$1"), unit };
}

function pathOf(values: readonly (number | null)[], y: (value: number) => number): string {
  let path = "";
  let drawing = false;
  values.forEach((value, at) => {
    if (value !== null) path += `${drawing ? "L" : "M"}${at} ${y(value).toFixed(1)}`;
    drawing = value !== null;
  });
  return path;
}

/** Points between two gaps, which no line leads to: lines of no length, which a round end makes visible. */
function lonePoints(values: readonly (number | null)[], y: (value: number) => number): string {
  const known = (at: number): boolean => (values[at] ?? null) !== null;
  return values
    .map((value, at) =>
      value === null || known(at - 1) || known(at + 1) ? "" : `M${at} ${y(value).toFixed(1)}h0`,
    )
    .join("");
}

/** Labels at the ends of lines, moved apart. */
function endLabels(
  lines: readonly Line[],
  y: (value: number) => number,
): { readonly line: Line; readonly at: number }[] {
  const labels = lines
    .filter(({ values }) => (values.at(-1) ?? null) !== null)
    .map((line) => ({ line, at: y(line.values.at(-1)!) }))
    .sort((a, b) => a.at - b.at);
  let free = labelHeight / 2;
  for (const label of labels) {
    label.at = Math.max(label.at, free);
    free = label.at + labelHeight;
  }
  // What was pushed below the frame goes up again.
  let limit = height - 2;
  for (const label of labels.toReversed()) {
    label.at = Math.min(label.at, limit);
    limit = label.at - labelHeight;
  }
  return labels;
}

function described({ lines, format }: PlotInput): string {
  return lines
    .map(({ name, values }) => {
      const last = values.at(-1);
      return `${name}: ${last === null || last === undefined ? "no figure" : written(format(last))}.`;
    })
    .join(" ");
}

const tableRows = 12;

/** The same figures as a table: the last of each five minutes. */
export function PlotTable({ title, lines, format, timeOf }: PlotInput): Html {
  const points = Math.max(0, ...lines.map(({ values }) => values.length));
  const step = Math.max(1, Math.floor(points / tableRows));
  const rows = Array.from(
    { length: Math.min(tableRows, points) },
    (_, row) => points - 1 - row * step,
  ).filter((at) => at >= 0);
  const columns: readonly Column<number>[] = [
    { head: "Time", names: true, cell: timeOf },
    ...lines.map(({ name, values }): Column<number> => ({
      head: name,
      numeric: true,
      cell: (at) => {
        const value = values[at];
        return value === null || value === undefined ? (
          <span class="unknown">–</span>
        ) : (
          written(format(value))
        );
      },
    })),
  ];
  return (
    <Disclosure summary={`${title} as a table`}>
      <Table caption={title} columns={columns} rows={rows} />
    </Disclosure>
  );
}
