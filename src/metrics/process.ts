/** The process_* and os_fd_* series, sampled from the operating system at each scrape. */
import { readFile, readdir } from "node:fs/promises";
import type { Catalogue } from "./catalogue";

/** Linux tells CPU time in these ticks for every program, whatever the kernel's own tick is. */
const ticksPerSecond = 100;

async function readProc(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return "";
  }
}

/** The soft limit on open files, from the text of /proc/self/limits; 0 when it is not there. */
export function parseOpenFilesLimit(limits: string): number {
  const found = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (found === undefined) return 0;
  return found === "unlimited" ? Infinity : Number(found);
}

/** Virtual size in bytes and CPU seconds, from the text of /proc/self/stat. */
export function parseStat(stat: string): { virtualBytes: number; cpuSeconds: number; startTicks: number } {
  // The program's name stands in parentheses and may hold anything, so count fields from the last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    cpuSeconds: (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond,
    startTicks: Number(fields[19] ?? 0),
    virtualBytes: Number(fields[20] ?? 0),
  };
}

/** Adds the series. Elsewhere than on Linux those that need /proc stay at zero. */
export function collectProcess(catalogue: Catalogue): void {
  const resident = catalogue.gauge("process_resident_memory_bytes", "Resident memory.");
  const virtual = catalogue.gauge("process_virtual_memory_bytes", "Virtual memory.");
  const cpu = catalogue.counter("process_cpu_seconds_total", "CPU time used, of user and system.");
  const start = catalogue.gauge("process_start_time_seconds", "Start of the process in seconds since 1970.");
  const openFiles = catalogue.gauge("process_open_fds", "Open file descriptors.");
  const openFilesMax = catalogue.gauge("process_max_fds", "Limit of open file descriptors.");
  const used = catalogue.gauge("os_fd_used", "Open file descriptors.");
  const limit = catalogue.gauge("os_fd_limit", "Limit of open file descriptors.");
  const heapUsed = catalogue.gauge("keelson_heap_used_bytes", "Memory of live objects of the runtime.");
  const heapTotal = catalogue.gauge("keelson_heap_size_bytes", "Memory that the runtime holds for objects.");
  const external = catalogue.gauge("keelson_heap_external_bytes", "Memory of buffers outside of the heap.");
  start.set(Math.round(Date.now() / 1000 - process.uptime()));

  catalogue.onScrape(async () => {
    const [stat, limits, descriptors] = await Promise.all([
      readProc("/proc/self/stat"),
      readProc("/proc/self/limits"),
      readdir("/proc/self/fd").catch(() => []),
    ]);
    const memory = process.memoryUsage();
    resident.set(memory.rss);
    heapUsed.set(memory.heapUsed);
    heapTotal.set(memory.heapTotal);
    external.set(memory.external);
    const { cpuSeconds, virtualBytes } = parseStat(stat);
    virtual.set(virtualBytes);
    cpu.value = cpuSeconds;
    openFiles.set(descriptors.length);
    used.set(descriptors.length);
    openFilesMax.set(parseOpenFilesLimit(limits));
    limit.set(openFilesMax.value);
  });
}
