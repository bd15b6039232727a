// What pages gain where scripts run: figures that move, a palette, keys, copying. Everything else works without.
"use strict";

const root = document.documentElement;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
root.classList.add("has-script");

/* Figures that move */

/** Browsers hold six connections to a server over HTTP/1.1, for all tabs together: this many may stream. */
const streamsMax = 4;
const pollMs = 2_000;
const staleMs = 3_500;

const live = {
  template: find("#live"),
  element: undefined,
  release: undefined,
  timer: undefined,
  heardAt: performance.now(),
  heardAtMs: Date.now(),
  /** The next figures are all of them, after a pause: nothing is tinted. */
  fresh: true,
  /** Whoever started last goes on; what was started before ends. */
  turn: 0,
};

function setConnection(state, text) {
  const place = find("#connection");
  if (!place) return;
  place.dataset.state = state;
  const words = find("#connection-text");
  if (words.textContent !== text) words.textContent = text;
}

const clock = (ms) =>
  new Date(ms).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });

function heard() {
  live.heardAt = performance.now();
  live.heardAtMs = Date.now();
  if (root.classList.contains("is-stale")) {
    root.classList.remove("is-stale");
    find("#stale").hidden = true;
  }
  setConnection(live.release ? "live" : "polling", live.release ? "Live" : "Every 2 s");
}

function lookAtAge() {
  if (document.hidden || !live.template || performance.now() - live.heardAt < staleMs) return;
  setConnection("stale", "Not connected");
  if (root.classList.contains("is-stale")) return;
  root.classList.add("is-stale");
  find("#stale-since").textContent = clock(live.heardAtMs);
  find("#stale").hidden = false;
}

/** One of a few places to stream, shared by all tabs; undefined when all are taken. */
async function takePlace() {
  // Outside of secure contexts tabs cannot agree; then only hidden ones make room.
  if (!navigator.locks) return () => {};
  for (let place = 0; place < streamsMax; place++) {
    const release = await new Promise((resolve) => {
      navigator.locks
        .request(`keelson-live-${place}`, { ifAvailable: true }, (lock) => {
          if (!lock) return resolve(undefined);
          return new Promise((free) => resolve(free));
        })
        .catch(() => resolve(undefined));
    });
    if (release) return release;
  }
  return undefined;
}

async function startLive() {
  if (!live.template || document.hidden || live.element) return;
  const turn = ++live.turn;
  const release = await takePlace();
  if (turn !== live.turn || document.hidden) {
    release?.();
    return;
  }
  live.release = release;
  live.fresh = true;
  const element = document.createElement("div");
  element.hidden = true;
  element.setAttribute("hx-swap", "none");
  live.element = element;
  document.body.append(element);
  if (!release) return poll(turn);
  element.setAttribute("hx-sse:connect", live.template.dataset.liveUrl);
  htmx.process(element);
  // A first connection that fails is not repeated by itself.
  element.addEventListener("htmx:error", () => again(turn));
  element.addEventListener("htmx:sse:close", () => again(turn));
  element.addEventListener("htmx:response:error", () => again(turn));
}

function again(turn) {
  setTimeout(() => {
    if (turn !== live.turn) return;
    stopLive();
    startLive();
  }, 1_000);
}

async function poll(turn) {
  try {
    await htmx.ajax("GET", `${live.template.dataset.liveUrl}&once`, { source: live.element, swap: "none" });
  } catch {
    // Silence shows by itself.
  }
  if (turn !== live.turn) return;
  live.timer = setTimeout(() => {
    if (turn !== live.turn) return;
    stopLive();
    startLive();
  }, pollMs);
}

function stopLive() {
  live.turn++;
  clearTimeout(live.timer);
  live.release?.();
  live.release = undefined;
  live.element?.remove();
  live.element = undefined;
}

document.addEventListener("htmx:sse:after:message", ({ detail }) => {
  heard();
  const { event, data } = detail.message;
  if (event === "boot" && data !== root.dataset.boot) restarted();
  if (!event) setTimeout(() => (live.fresh = false), 50);
});
document.addEventListener("htmx:after:request", ({ detail }) => {
  if (detail.ctx?.sourceElement === live.element && detail.ctx?.response?.status === 200 && !live.release)
    heard();
});

/* Rows never move under the pointer: what is new waits until it has left. */

let waiting = 0;
document.addEventListener("htmx:sse:before:message", ({ detail }) => {
  for (const list of all("[data-wait]")) {
    const cell = list.closest("[data-live]");
    if (!list.matches(":hover, :focus-within") || !detail.message.data.includes(`#${cell.id}"`)) continue;
    const parts = new DOMParser().parseFromString(detail.message.data, "text/html");
    const part = find(`hx-partial[hx-target="#${cell.id}"]`, parts);
    const now = part?.querySelector("[data-wait]");
    if (!now || now.textContent === list.textContent) continue;
    const first = list.firstElementChild?.lastElementChild?.textContent;
    const rows = [...now.children];
    const at = rows.findIndex((row) => row.lastElementChild?.textContent === first);
    waiting = at === -1 ? rows.length : at;
    part.remove();
    detail.message.data = all("hx-partial", parts)
      .map((one) => one.outerHTML)
      .join("");
    if (waiting > 0) toast(`${waiting} new`);
    list.addEventListener("pointerleave", catchUp, { once: true });
  }
});
function catchUp() {
  waiting = 0;
  if (live.element)
    htmx.ajax("GET", `${live.template.dataset.liveUrl}&once`, { source: live.element, swap: "none" });
}

/** Another process answers: its pages may be of another version, and forms of this one are still good. */
function restarted() {
  const written = all("main input, main textarea, main select").some(
    (field) => field.value !== field.defaultValue && field.type !== "hidden" && field.tagName !== "SELECT",
  );
  if (!written && !find("dialog[open]")) location.reload();
}

new MutationObserver((changes) => {
  if (live.fresh) return;
  for (const { target } of changes) {
    const element = target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement;
    const cell = element?.closest("[data-live]");
    if (!cell || cell.closest("svg") || cell.hasAttribute("data-still")) continue;
    const part = element === cell ? cell : element;
    part.classList.add("changed");
    part.addEventListener("animationend", () => part.classList.remove("changed"), { once: true });
  }
}).observe(document.body, { subtree: true, childList: true, characterData: true });

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return stopLive();
  // What was true before the pause is shown as old until there is something newer.
  if (performance.now() - live.heardAt >= staleMs) root.classList.add("is-stale");
  live.heardAt = performance.now();
  return startLive();
});
addEventListener("pagehide", stopLive);
addEventListener("pageshow", ({ persisted }) => persisted && startLive());
setInterval(lookAtAge, 500);
startLive();

/* Copying */

function toast(text) {
  find(".toast")?.remove();
  const element = document.createElement("div");
  element.className = "toast";
  element.setAttribute("role", "status");
  element.textContent = text;
  document.body.append(element);
  setTimeout(() => element.remove(), 2_000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure context there is no clipboard but the old one.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("Copied");
}

document.addEventListener("click", (event) => {
  const place = event.target.closest("[data-copy]");
  if (place && event.target.closest("button")) copy(place.dataset.copy);
});

/* Menu */

find(".menu-button")?.addEventListener("click", (event) => {
  event.preventDefault();
  const rail = find("#rail");
  const open = rail.classList.toggle("open");
  event.currentTarget.setAttribute("aria-expanded", String(open));
  if (open) find("a", rail).focus();
});

/* Palette */

const palette = {
  dialog: find("#palette"),
  input: find("#palette-input"),
  list: find("#palette-list"),
  at: 0,
};

function places(text) {
  const wanted = text.trim().toLowerCase();
  const known = [...all(".rail a[href]"), ...all("[data-place]")].map((link) => ({
    text: link.dataset.place ?? link.textContent.trim(),
    note: link.dataset.letter ? `g ${link.dataset.letter}` : (link.dataset.note ?? ""),
    href: link.getAttribute("href"),
  }));
  const found = known.filter((place) => wanted === "" || place.text.toLowerCase().includes(wanted));
  if (text === "") return found;
  const key = encodeURIComponent(text);
  return [
    ...found,
    { text: `Keys under ${text}`, note: "Keys", href: `/ui/keys?prefix=${key}` },
    { text: `Key ${text}`, note: "Key", href: `/ui/key?k=${key}` },
  ];
}

function drawPalette() {
  const { input, list } = palette;
  const items = places(input.value);
  palette.at = Math.max(0, Math.min(palette.at, items.length - 1));
  list.replaceChildren(
    ...items.map(({ text, note, href }, at) => {
      const item = document.createElement("li");
      item.id = `place-${at}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(at === palette.at));
      item.dataset.href = href;
      const small = document.createElement("small");
      small.textContent = note;
      item.append(text, small);
      return item;
    }),
  );
  input.setAttribute("aria-activedescendant", `place-${palette.at}`);
  find("[aria-selected=true]", list)?.scrollIntoView({ block: "nearest" });
}

function openPalette() {
  if (!palette.dialog || palette.dialog.open) return;
  palette.input.value = "";
  palette.at = 0;
  palette.dialog.showModal();
  drawPalette();
}

const opener = find("#open-palette");
if (opener) {
  opener.hidden = false;
  opener.addEventListener("click", openPalette);
}
palette.input?.addEventListener("input", () => {
  palette.at = 0;
  drawPalette();
});
palette.input?.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    palette.at += step;
    drawPalette();
  } else if (event.key === "Enter") {
    const chosen = find("[aria-selected=true]", palette.list);
    if (chosen) location.href = chosen.dataset.href;
  }
});
palette.list?.addEventListener("click", (event) => {
  const item = event.target.closest("[data-href]");
  if (item) location.href = item.dataset.href;
});
palette.dialog?.addEventListener("click", (event) => {
  if (event.target === palette.dialog) palette.dialog.close();
});

/* Keys */

let going = false;

function chooseRow(step) {
  const rows = all("main tbody tr:not(.empty-row)");
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.classList.contains("chosen"));
  const next = rows[at === -1 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))];
  rows[at]?.classList.remove("chosen");
  next.classList.add("chosen");
  next.scrollIntoView({ block: "nearest" });
}

function openRow() {
  const row = find("tr.chosen");
  const href = row?.dataset.href ?? row?.querySelector("a")?.getAttribute("href");
  if (href) location.href = href;
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
    return;
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    if (typing && !event.target.closest("dialog")) event.target.blur();
    find("tr.chosen")?.classList.remove("chosen");
    find("#rail.open")?.classList.remove("open");
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  if (going) {
    going = false;
    const entry = find(`.rail a[data-letter="${CSS.escape(event.key)}"]`);
    if (entry) location.href = entry.href;
    return;
  }
  switch (event.key) {
    case "g":
      going = true;
      setTimeout(() => (going = false), 1_000);
      return;
    case "/": {
      event.preventDefault();
      const field = find("main input[type=search]");
      if (field) field.focus();
      else openPalette();
      return;
    }
    case "?":
      location.href = "/ui/help#shortcuts";
      return;
    case "j":
      chooseRow(1);
      return;
    case "k":
      chooseRow(-1);
      return;
    case "e": {
      const edit = find("[data-key=e]");
      if (edit) edit.click();
      return;
    }
    case "Enter":
      if (!event.target.closest("a, button, summary")) openRow();
      return;
    default:
  }
});

/* Plots: one crosshair through all of them */

function readPoints(line) {
  const points = new Map();
  for (const [, x, y] of line.getAttribute("d").matchAll(/[ML](\d+) ([\d.-]+)/g))
    points.set(Number(x), Number(y));
  return points;
}

function figure(value, unit) {
  if (unit !== "bytes") {
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return `${value.toFixed(digits)} ${unit}`;
  }
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = Math.min(
    units.length - 1,
    Math.max(0, Math.floor(Math.log(Math.max(1, value)) / Math.log(1024))),
  );
  return `${(value / 1024 ** at).toFixed(at === 0 ? 0 : 1)} ${units[at]}`;
}

function showCrosshair(share) {
  for (const plot of all(".plot")) {
    const cross = find(".crosshair", plot);
    const readout = find(".readout", plot);
    cross.hidden = share === undefined;
    if (share === undefined) {
      readout.textContent = "";
      continue;
    }
    cross.style.left = `${share * 100}%`;
    const svg = find(".canvas svg", plot);
    const at = Math.round(share * svg.viewBox.baseVal.width);
    const seconds = Math.round((1 - share) * Number(plot.dataset.seconds));
    const ago = seconds < 60 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
    const parts = all(".line", plot).map((line) => {
      const y = readPoints(line).get(at);
      const value =
        y === undefined ? "–" : figure((1 - y / 120) * Number(plot.dataset.end), plot.dataset.unit);
      return `${line.dataset.name} ${value}`;
    });
    readout.textContent = `${ago} ago: ${parts.join(" · ")}`;
  }
}

if (find(".plot")) {
  document.addEventListener("pointermove", (event) => {
    const canvas = event.target.closest?.(".canvas");
    if (!canvas) return showCrosshair(undefined);
    const box = canvas.getBoundingClientRect();
    return showCrosshair(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  });
}
