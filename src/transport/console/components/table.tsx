/** @jsxImportSource #console */
/** Tables with a caption, real headers, sorting by address, and rows of two lines where the window is narrow. */
import type { Child, Html } from "../html";
import { Icon } from "./icon";

export interface Column<Row> {
  readonly head: string;
  /** What stands in the head instead of its text, such as a box to tick. */
  readonly headContent?: Child;
  /** Right-aligned figures. */
  readonly numeric?: boolean;
  /** Names the row; one column does. */
  readonly names?: boolean;
  /** What it shows says what it is: on narrow windows its head is not repeated before it. */
  readonly bare?: boolean;
  /** On narrow windows: 1 stays in the first line, 2 goes into the second, 3 is left out. Default 2. */
  readonly priority?: 1 | 2 | 3;
  /** The name that sorts by it. */
  readonly sort?: string;
  readonly cell: (row: Row) => Child;
}

export interface Sorting {
  readonly by: string;
  readonly descending: boolean;
  /** The address of the page sorted otherwise. */
  readonly href: (by: string, descending: boolean) => string;
}

export function Table<Row>({
  caption,
  columns,
  rows,
  rowId,
  rowHref,
  sorting,
  empty,
  class: more,
}: {
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly rowId?: (row: Row) => string | undefined;
  /** Where Enter leads on a row that was chosen with j and k. */
  readonly rowHref?: (row: Row) => string | undefined;
  readonly sorting?: Sorting;
  /** What stands in the place of rows. */
  readonly empty?: Child;
  readonly class?: string;
}): Html {
  return (
    <div
      class={more === undefined ? "table-frame" : `table-frame ${more}`}
      role="region"
      aria-label={caption}
      tabindex="0"
    >
      <table>
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <Head column={column as Column<never>} sorting={sorting} />
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.length === 0 && empty !== undefined && (
            <tr class="empty-row">
              <td colspan={columns.length}>{empty}</td>
            </tr>
          )}
          {rows.map((row) => (
            <tr id={rowId?.(row)} data-href={rowHref?.(row)}>
              {columns.map((column) => cellOf(column, row))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Head({
  column,
  sorting,
}: {
  readonly column: Column<never>;
  readonly sorting: Sorting | undefined;
}): Html {
  const { head, headContent, numeric, sort, priority = 2 } = column;
  const sorted = sorting !== undefined && sort === sorting.by;
  const order = !sorted ? undefined : sorting.descending ? "descending" : "ascending";
  return (
    <th
      scope="col"
      class={numeric === true ? "numeric" : undefined}
      data-priority={priority}
      aria-sort={order}
    >
      {headContent ??
        (sorting === undefined || sort === undefined ? (
          head
        ) : (
          <a href={sorting.href(sort, sorted && !sorting.descending)}>
            {head}
            {sorted && <Icon name="chevron-down" {...(sorting.descending ? {} : { class: "up" })} />}
          </a>
        ))}
    </th>
  );
}

function cellOf<Row>({ head, numeric, names, bare, priority = 2, cell }: Column<Row>, row: Row): Html {
  const classes = numeric === true ? "numeric" : undefined;
  return names === true ? (
    <th scope="row" class={classes} data-priority={1}>
      {cell(row)}
    </th>
  ) : (
    <td class={classes} data-priority={priority} data-label={bare === true ? undefined : head}>
      {cell(row)}
    </td>
  );
}
