/** `keelson snapshot save`: takes a snapshot by REST, downloads it in pieces that may be cut, and checks it. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { BadSnapshot, checkSnapshot, type Progress, type SnapshotFacts } from "./file";

const pollMs = 200;
/** Downloads that break off are continued this often in a row without a byte in between. */
const retriesMax = 5;
const retryMs = 500;

export interface SaveOptions {
  readonly endpoint: string;
  readonly file: string;
  readonly token: string | undefined;
  /** The member that takes it; undefined: the one at the endpoint. */
  readonly member: string | undefined;
  /** Leave the server's own copy where it is. */
  readonly keep: boolean;
}

export interface Saved extends SnapshotFacts {
  readonly name: string;
  readonly member: string;
}

interface Job {
  readonly id: string;
  readonly state: string;
  readonly error?: string;
  readonly result?: { readonly name: string; readonly member: string; readonly bytes: string };
}

/** @throws Error that says what went wrong; the file is there only when everything went well. */
export async function save(options: SaveOptions, progress: Progress): Promise<Saved> {
  if (existsSync(options.file)) throw new BadSnapshot(`${options.file} exists already`);
  const folder = dirname(options.file);
  // Before a member has worked for it.
  if (!existsSync(folder))
    throw new BadSnapshot(`${folder}, where ${options.file} is to lie, does not exist`);
  const base = `${options.endpoint.replace(/\/$/, "")}/api/v1`;
  const headers: Record<string, string> =
    options.token === undefined ? {} : { authorization: `Bearer ${options.token}` };
  let job = await ask<Job>(`${base}/snapshots`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(options.member === undefined ? {} : { member: options.member }),
  });
  while (job.state === "running") {
    await Bun.sleep(pollMs);
    job = await ask<Job>(`${base}/jobs/${job.id}`, { headers });
  }
  if (job.result === undefined) throw new Error(`the snapshot could not be taken: ${job.error ?? job.state}`);
  const { name, member, bytes } = job.result;
  const partial = `${options.file}.part`;
  try {
    await download(`${base}/snapshots/${name}/content`, headers, partial, Number(bytes), progress);
    const facts = checkSnapshot(partial, () => {});
    renameSync(partial, options.file);
    return { ...facts, name, member };
  } finally {
    rmSync(partial, { force: true });
    if (!options.keep)
      await ask(`${base}/snapshots/${name}`, { method: "DELETE", headers }).catch(() => undefined);
  }
}

async function ask<Shape>(url: string, init: RequestInit): Promise<Shape> {
  const response = await fetch(url, init).catch((error: unknown) => {
    throw new Error(`${url} cannot be reached: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  });
  const text = await response.text();
  let body: Shape & { detail?: string; fix?: string };
  try {
    body = JSON.parse(text) as typeof body;
  } catch (error) {
    const said = `${init.method ?? "GET"} ${url} answered ${response.status} ${JSON.stringify(text.slice(0, 100).trim())}`;
    throw new Error(`${said}: is a Keelson member there, and not etcd or a proxy?`, { cause: error });
  }
  if (response.ok) return body;
  throw new Error(
    `${init.method ?? "GET"} ${url} answered ${response.status}: ${body.detail ?? ""} ${body.fix ?? ""}`,
  );
}

/** Goes on where it broke off, as long as every try brings something. */
async function download(
  url: string,
  headers: Readonly<Record<string, string>>,
  path: string,
  bytes: number,
  progress: Progress,
): Promise<void> {
  const file = openSync(path, "w");
  try {
    let offset = 0;
    let failures = 0;
    while (offset < bytes) {
      const before = offset;
      try {
        const response = await fetch(url, { headers: { ...headers, range: `bytes=${offset}-` } });
        if (response.status !== 206 || response.body === null) {
          throw new Error(`the download answered ${response.status}: ${await response.text()}`);
        }
        for await (const piece of response.body) {
          for (let written = 0; written < piece.length;) {
            written += writeSync(file, piece, written, piece.length - written, offset + written);
          }
          offset += piece.length;
          progress(offset, bytes);
        }
      } catch (error) {
        failures = offset > before ? 1 : failures + 1;
        if (failures > retriesMax) throw error;
        await Bun.sleep(retryMs);
      }
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
