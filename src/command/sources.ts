/** Where settings come from: flags, variables and the configuration file, and which of them counts. */
import { parse as parseYaml, YAMLParseError } from "yaml";

import { BadValue } from "./flag-types";
import { flagNames, flagOf, type FlagName, forgottenNames, oldNames } from "./flags";
import { nearestName } from "./nearest";

/** Input that cannot be obeyed; the message is the one line that the user reads. */
export class BadUsage extends Error {
  override readonly name = "BadUsage";
}

/** One value that somebody gave, and how to name the place to them. */
export interface Setting {
  readonly text: string;
  /** "--name", "ETCD_NAME", or "name in config.yaml". */
  readonly shownAs: string;
}

/** The settings that count, by flag; flags that nobody set are absent. */
export interface Settings {
  readonly byFlag: ReadonlyMap<FlagName, Setting>;
  readonly warnings: readonly string[];
}

/** What the flags themselves say before anything else is read. */
export interface ReadArguments extends Settings {
  readonly configFile: Setting | undefined;
  readonly wants: "server" | "help" | "version";
}

const knownFlags: ReadonlySet<string> = new Set(flagNames);

function isFlagName(name: string): name is FlagName {
  return knownFlags.has(name);
}

/** Gathers settings of one source; later ones of the same flag replace earlier ones. */
class Gatherer {
  readonly byFlag = new Map<FlagName, Setting>();
  readonly warnings: string[] = [];
  readonly #gates = new Map<string, Setting>();
  readonly #throughOldName = new Map<FlagName, string>();

  /** Takes a setting under its present or an old name; false when there is no such name. */
  take(name: string, setting: Setting): boolean {
    if (isFlagName(name)) {
      this.#refuseBoth(name, setting.shownAs, this.#throughOldName.get(name));
      this.byFlag.set(name, setting);
      return true;
    }
    if (forgottenNames.has(name)) {
      this.warnings.push(`${setting.shownAs} has had no effect in etcd for years, and has none here`);
      return true;
    }
    const old = oldNames.get(name);
    if (old === undefined) return false;
    if ("flag" in old) {
      const present = this.byFlag.get(old.flag);
      if (!this.#throughOldName.has(old.flag)) this.#refuseBoth(old.flag, setting.shownAs, present?.shownAs);
      this.warnings.push(`${setting.shownAs} is an old name; use ${old.flag}`);
      this.#throughOldName.set(old.flag, setting.shownAs);
      this.byFlag.set(old.flag, setting);
    } else {
      this.warnings.push(`${setting.shownAs} is an old name; use feature-gates with ${old.gate}`);
      this.#gates.set(old.gate, setting);
    }
    return true;
  }

  #refuseBoth(name: FlagName, one: string, other: string | undefined): void {
    if (other === undefined) return;
    throw new BadUsage(`${one} and ${other} say the same twice; give only ${name}`);
  }

  /** Old names of feature gates become part of feature-gates; what is said there counts. */
  finish(): Settings {
    if (this.#gates.size > 0) {
      const said = this.byFlag.get("feature-gates");
      const shownAs = [...this.#gates.values()].map((setting) => setting.shownAs).join(", ");
      const parts = [...this.#gates].map(([gate, setting]) => `${gate}=${setting.text}`);
      this.byFlag.set("feature-gates", {
        text: [...parts, ...(said?.text ? [said.text] : [])].join(","),
        shownAs: said === undefined ? shownAs : `${said.shownAs}, ${shownAs}`,
      });
    }
    return { byFlag: this.byFlag, warnings: this.warnings };
  }
}

function standsAlone(name: string): boolean {
  if (forgottenNames.has(name)) return true;
  if (isFlagName(name)) return flagOf(name).type.standsAlone === true;
  const old = oldNames.get(name);
  if (old === undefined) return false;
  return "gate" in old || flagOf(old.flag).type.standsAlone === true;
}

/** All names that may stand behind dashes, for suggestions. */
function* namesBehindDashes(): Iterable<string> {
  yield* flagNames;
  yield* ["config-file", "help", "version"];
  yield* oldNames.keys();
}

/** Reads flags as Go's flag package does: one dash or two, a value behind "=" or as the next argument. */
export function readArguments(argv: readonly string[]): ReadArguments {
  const gatherer = new Gatherer();
  let configFile: Setting | undefined;
  let wants: ReadArguments["wants"] = "server";
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    const match = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(argument);
    if (match === null) {
      const previous = i > 0 ? argv[i - 1]!.replace(/^--?/, "") : "";
      const hint = argv[i - 1]?.startsWith("-") === true && standsAlone(previous);
      throw new BadUsage(
        `"${argument}" is not expected here${hint ? `; write --${previous}=${argument}` : ""}`,
      );
    }
    const name = match[1]!;
    let value = match[2];
    const shownAs = `--${name}`;
    if (name === "help" || name === "h" || name === "version") {
      wants = name === "version" ? "version" : "help";
      continue;
    }
    const known =
      name === "config-file" || isFlagName(name) || oldNames.has(name) || forgottenNames.has(name);
    if (!known) {
      const nearest = nearestName(name, namesBehindDashes());
      const hint = nearest === undefined ? `"keelson help" lists all flags` : `did you mean --${nearest}?`;
      throw new BadUsage(`${shownAs} is not a flag; ${hint}`);
    }
    if (value === undefined) {
      if (standsAlone(name)) value = "true";
      else if (i + 1 < argv.length) value = argv[++i]!;
      else throw new BadUsage(`${shownAs} needs a value`);
    }
    if (name === "config-file") configFile = { text: value, shownAs };
    else {
      gatherer.take(name, { text: value, shownAs });
      checkValue(name, { text: value, shownAs });
    }
  }
  return { ...gatherer.finish(), configFile, wants };
}

/** Refuses a bad value even when a later one of the same flag replaces it. */
function checkValue(name: string, setting: Setting): void {
  const old = oldNames.get(name);
  const flagName = isFlagName(name) ? name : old !== undefined && "flag" in old ? old.flag : undefined;
  if (flagName !== undefined) parseSetting(flagName, setting);
}

/** The value of a setting; throws {@link BadUsage} that names its place. */
export function parseSetting(name: FlagName, setting: Setting): unknown {
  try {
    return flagOf(name).type.parse(setting.text);
  } catch (error) {
    if (error instanceof BadValue) throw new BadUsage(`${setting.shownAs}: ${error.message}`);
    throw error;
  }
}

/** The prefixes of variables; earlier ones count more. */
const variablePrefixes = ["KEELSON_", "ETCD_"] as const;

/** "ETCD_" and "listen-client-urls" make "ETCD_LISTEN_CLIENT_URLS". */
export function variableName(prefix: string, name: string): string {
  return prefix + name.toUpperCase().replaceAll("-", "_");
}

export interface ReadVariables extends Settings {
  readonly configFile: Setting | undefined;
}

/** Reads `KEELSON_*` and `ETCD_*` variables; empty ones count as absent. */
export function readVariables(environment: Readonly<Record<string, string | undefined>>): ReadVariables {
  const gatherer = new Gatherer();
  const allNames = [...flagNames, ...oldNames.keys(), "config-file"];
  const used = new Set<string>();
  let configFile: Setting | undefined;
  for (const name of allNames) {
    const given: Setting[] = [];
    for (const prefix of variablePrefixes) {
      const variable = variableName(prefix, name);
      const value = environment[variable];
      if (value === undefined) continue;
      used.add(variable);
      if (value !== "") given.push({ text: value, shownAs: variable });
    }
    const [first, second] = given;
    if (first === undefined) continue;
    if (second !== undefined) {
      gatherer.warnings.push(`${second.shownAs} is overruled by ${first.shownAs}`);
    }
    if (name === "config-file") configFile = first;
    else gatherer.take(name, first);
  }
  for (const [variable, value] of Object.entries(environment)) {
    const prefix = variablePrefixes.find((one) => variable.startsWith(one));
    if (prefix === undefined || used.has(variable) || value === undefined) continue;
    const name = variable.slice(prefix.length).toLowerCase().replaceAll("_", "-");
    const nearest = nearestName(name, allNames);
    const hint = nearest === undefined ? "" : `; did you mean ${variableName(prefix, nearest)}?`;
    gatherer.warnings.push(`${variable} is not a variable that is known here${hint}`);
  }
  return { ...gatherer.finish(), configFile };
}

/** Flags win over variables; each variable that loses is named in a warning. */
export function mergeFlagsOverVariables(fromFlags: Settings, fromVariables: Settings): Settings {
  const byFlag = new Map(fromVariables.byFlag);
  const warnings = [...fromFlags.warnings, ...fromVariables.warnings];
  for (const [name, setting] of fromFlags.byFlag) {
    const loser = byFlag.get(name);
    if (loser !== undefined) warnings.push(`${loser.shownAs} is overruled by ${setting.shownAs}`);
    byFlag.set(name, setting);
  }
  return { byFlag, warnings };
}

/** The keys inside etcd's two blocks for TLS, and the flags that they stand for. */
const transportSecurity: Readonly<Record<string, Readonly<Record<string, FlagName>>>> = {
  "client-transport-security": {
    "cert-file": "cert-file",
    "key-file": "key-file",
    "client-cert-file": "client-cert-file",
    "client-key-file": "client-key-file",
    "client-cert-auth": "client-cert-auth",
    "trusted-ca-file": "trusted-ca-file",
    "auto-tls": "auto-tls",
    "allowed-hostname": "client-cert-allowed-hostname",
    "allowed-hostnames": "client-cert-allowed-hostname",
    "allowed-cn": "client-cert-allowed-hostname",
    "allowed-cns": "client-cert-allowed-hostname",
    "skip-client-san-verification": "peer-skip-client-san-verification",
  },
  "peer-transport-security": {
    "cert-file": "peer-cert-file",
    "key-file": "peer-key-file",
    "client-cert-file": "peer-client-cert-file",
    "client-key-file": "peer-client-key-file",
    "client-cert-auth": "peer-client-cert-auth",
    "trusted-ca-file": "peer-trusted-ca-file",
    "auto-tls": "peer-auto-tls",
    "allowed-cn": "peer-cert-allowed-cn",
    "allowed-cns": "peer-cert-allowed-cn",
    "allowed-hostname": "peer-cert-allowed-hostname",
    "allowed-hostnames": "peer-cert-allowed-hostname",
    "skip-client-san-verification": "peer-skip-client-san-verification",
  },
};

const isBlock = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads a configuration file in YAML (of which JSON is a part). */
export function readConfigFile(content: string, path: string): Settings {
  let document: unknown;
  try {
    document = parseYaml(content);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new BadUsage(`${path}: ${error.message.split("\n")[0]!.replace(/:$/, "")}`);
  }
  const gatherer = new Gatherer();
  if (document === null || document === undefined) return gatherer.finish();
  if (!isBlock(document)) throw new BadUsage(`${path}: must hold names with values`);
  for (const [key, value] of Object.entries(document)) {
    const block = transportSecurity[key];
    if (block !== undefined) readBlock(gatherer, key, block, value, path);
    else if (key === "discovery-config" && isEmptyDeep(value)) continue;
    else if (key === "discovery-config") {
      throw new BadUsage(`${key} in ${path}: discovery of other members is not part of this release`);
    } else takeKey(gatherer, key, key, value, path, [...flagNames, ...Object.keys(transportSecurity)]);
  }
  return gatherer.finish();
}

function readBlock(
  gatherer: Gatherer,
  blockName: string,
  block: Readonly<Record<string, FlagName>>,
  value: unknown,
  path: string,
): void {
  if (value === null) return;
  if (!isBlock(value)) throw new BadUsage(`${blockName} in ${path}: must hold names with values`);
  for (const [key, inner] of Object.entries(value)) {
    const shown = `${blockName}.${key}`;
    const flag = block[key];
    if (flag === undefined) {
      const nearest = nearestName(key, Object.keys(block));
      throw new BadUsage(`${shown} in ${path} is not known${nearest ? `; did you mean ${nearest}?` : ""}`);
    }
    if (isEmptyDeep(inner)) continue;
    takeKey(gatherer, shown, flag, inner, path, []);
  }
}

function takeKey(
  gatherer: Gatherer,
  shown: string,
  name: string,
  value: unknown,
  path: string,
  candidates: readonly string[],
): void {
  const shownAs = `${shown} in ${path}`;
  if (value === null) {
    if (isFlagName(name) || oldNames.has(name)) return;
  }
  const taken = gatherer.take(name, { text: valueText(name, value, shownAs), shownAs });
  if (taken) return;
  const nearest = nearestName(name, candidates);
  throw new BadUsage(`${shownAs} is not known${nearest === undefined ? "" : `; did you mean ${nearest}?`}`);
}

/** The text that a flag would have been given for this value of the file. */
function valueText(name: string, value: unknown, shownAs: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    const old = oldNames.get(name);
    const flagName = isFlagName(name) ? name : old !== undefined && "flag" in old ? old.flag : undefined;
    const fromNumber = flagName === undefined ? undefined : flagOf(flagName).type.fromNumber;
    return fromNumber === undefined ? String(value) : fromNumber(value);
  }
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value.join(",");
  if (isFlagName(name) || oldNames.has(name)) throw new BadUsage(`${shownAs}: must be a single value`);
  return "";
}

/** True for values that say nothing: "", false, null, and blocks or lists of such. */
function isEmptyDeep(value: unknown): boolean {
  if (value === "" || value === false || value === null || value === undefined) return true;
  if (Array.isArray(value)) return value.every(isEmptyDeep);
  return isBlock(value) && Object.values(value).every(isEmptyDeep);
}
