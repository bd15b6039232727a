/** Help and the listing of compatibility, both made from the table of flags. */
import {
  flagGroups,
  flagNames,
  flagOf,
  type FlagGroup,
  type FlagName,
  forgottenNames,
  oldNames,
} from "./flags";

const lineWidth = 100;
const indent = "      ";

function wrap(paragraph: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of paragraph.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > lineWidth) {
      lines.push(indent + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, indent + line].join("\n");
}

function describe(name: FlagName): string {
  const { type, fallback, description } = flagOf(name);
  const head = type.placeholder === "" ? `  --${name}` : `  --${name} <${type.placeholder}>`;
  const shownDefault = fallback === undefined || fallback === "" ? "" : ` (default ${fallback})`;
  return `${head}\n${wrap(description + shownDefault)}`;
}

/** What `keelson help` prints. */
export function generalHelp(): string {
  return `keelson - a strongly consistent key-value store with etcd's API

Usage:
  keelson [server] [flags]     start a member; without flags it serves http://localhost:2379
  keelson bench [options]      put load on any etcd endpoint and measure
  keelson snapshot <command>   save, status, restore: take snapshots, check them, begin a cluster from one
  keelson health [url]         exit with 0 if the member at http://127.0.0.1:2379, or url, is healthy
  keelson version              print the version
  keelson help server          all flags of a member
  keelson help bench           all options of the benchmark
  keelson help snapshot        the snapshot commands
  keelson help compatibility   how each flag of etcd is treated, as Markdown

First steps:
  keelson --data-dir /var/lib/keelson
  etcdctl put greeting hello && etcdctl get greeting

One more member for a cluster that runs:
  keelson --name m2 --data-dir /var/lib/keelson --join http://10.0.0.1:2379 \\
    --listen-client-urls http://10.0.0.2:2379 --listen-peer-urls http://10.0.0.2:2380
`;
}

/** What `keelson server --help` prints: the flags that do something here, by group. */
export function serverHelp(): string {
  const parts = [
    `Usage: keelson [server] [flags]

Each flag can also be given as a variable (--listen-client-urls as KEELSON_LISTEN_CLIENT_URLS or
ETCD_LISTEN_CLIENT_URLS; a flag counts more than a variable, KEELSON_ more than ETCD_), or in a
configuration file. Durations are written like 100ms, 5s or 1h30m.

  --config-file <file>
      YAML or JSON with the names below; all other flags and variables are then ignored
  --version
      print the version
  --help
      print this help`,
  ];
  for (const [group, title] of Object.entries(flagGroups) as [FlagGroup, string][]) {
    const names = flagNames.filter(
      (name) => flagOf(name).group === group && flagOf(name).status.kind === "implemented",
    );
    parts.push(`${title}:\n\n${names.map(describe).join("\n")}`);
  }
  parts.push(`Other flags of etcd are accepted with a warning where they mean nothing here, and refused where they ask
for something that is not there: "keelson help compatibility" lists them.`);
  return `${parts.join("\n\n")}\n`;
}

const cell = (content: string): string => content.replaceAll("|", "\\|");

/** Every flag of etcd and what becomes of it, as a Markdown table. */
export function compatibilityListing(): string {
  const rows = ["| flag | default | here |", "| --- | --- | --- |"];
  for (const name of flagNames) {
    const { fallback, status, description } = flagOf(name);
    const treatment =
      status.kind === "implemented"
        ? description
        : status.kind === "ignored"
          ? `accepted without effect: ${status.reason}`
          : `refused when it asks for it: ${status.reason}`;
    rows.push(`| ${name} | ${cell(fallback ?? "")} | ${cell(treatment)} |`);
  }
  for (const [name, old] of oldNames) {
    rows.push(`| ${name} | | old name of ${"flag" in old ? old.flag : `feature gate ${old.gate}`} |`);
  }
  for (const name of forgottenNames) rows.push(`| ${name} | | accepted without effect, as in etcd |`);
  return `${rows.join("\n")}\n`;
}
