/** The icons that the console uses. `npm run icons` writes them from Lucide into icons.svg, which is kept with the sources. */
import { join } from "node:path";

export const iconNames = [
  "activity",
  "archive",
  "arrow-left",
  "arrow-right",
  "book-open",
  "check",
  "chevron-down",
  "chevron-right",
  "circle",
  "circle-alert",
  "circle-check",
  "circle-help",
  "circle-x",
  "clock",
  "copy",
  "crown",
  "download",
  "ellipsis",
  "external-link",
  "file",
  "folder",
  "folder-open",
  "git-compare",
  "history",
  "key-round",
  "layout-dashboard",
  "loader-circle",
  "lock",
  "log-out",
  "menu",
  "minus",
  "monitor",
  "moon",
  "network",
  "pause",
  "pencil",
  "plus",
  "refresh-cw",
  "rotate-ccw",
  "search",
  "server",
  "shield-check",
  "sun",
  "terminal",
  "trash-2",
  "triangle-alert",
  "unplug",
  "upload",
  "x",
] as const;

export type IconName = (typeof iconNames)[number];

/** Only the shapes: size, stroke and colour are the style sheet's. */
async function symbolOf(name: IconName): Promise<string> {
  const source = await Bun.file(Bun.resolveSync(`lucide-static/icons/${name}.svg`, import.meta.dir)).text();
  const shapes = source
    .slice(source.indexOf(">", source.indexOf("<svg")) + 1, source.lastIndexOf("</svg>"))
    .replace(/\s+/g, " ")
    .replace(/ ?(\/?>) ?/g, "$1")
    .trim();
  return `<symbol id="${name}" viewBox="0 0 24 24">${shapes}</symbol>`;
}

if (import.meta.main) {
  const symbols = await Promise.all(iconNames.map(symbolOf));
  await Bun.write(
    join(import.meta.dir, "icons.svg"),
    `<svg xmlns="http://www.w3.org/2000/svg" fill="none" stroke="currentColor">\n${symbols.join("\n")}\n</svg>\n`,
  );
}
