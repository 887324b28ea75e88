// The page: receives server-sent events and shows them. Data from the network becomes text, never markup: createElement
// makes the nodes, and textContent fills them. Memory is bounded: tables have the agent's rows, charts have a ring.
"use strict";

const MAX_ROWS = 50;
const SILENCE = 10_000;
const AGAIN = 10_000;
// Points of a line, and rows of a chart's table.
const POINTS = 240;
const TABLE_ROWS = 12;
const SVG = "http://www.w3.org/2000/svg";

// The charts: the title, and the index in a sample.
const CHARTS = [
  ["Packets a second", 1], ["Probes a second", 2], ["Dropped a second", 3],
  ["Sources remembered", 4], ["Open findings", 5], ["Bans", 6],
];

const byId = (id) => document.getElementById(id);
const state = { findings: null, sources: [], bans: [], samples: [], capacity: 2160, every: 10, known: null, heard: 0 };

function setText(node, text) {
  // Unchanged text is not replaced: selections stay, and screen readers do not read it again.
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

// ---- words

const whole = (n) => Math.round(n).toLocaleString("en");
const number = (n) => (n >= 100 ? whole(n) : String(Math.round(n * 10) / 10));
const time = (text) => new Date(text).toLocaleTimeString();
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const host = (net) => net.replace(/\/(32|128)$/, (end) => (net.includes(":") === (end === "/128") ? "" : end));

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

const pairs = (list) => list.map(([name, n]) => `${whole(n)} ${name}`).join(", ");
const who = (finding) => (finding.actor ? finding.actor : finding.sources >= 2 ? `${whole(finding.sources)} sources` : finding.source ? host(finding.source) : "forged");

// ---- tables: rows are kept by key, and only cells that differ are changed

// A cell is a text, or [text, class]. The first is the row's header.
function fill(body, items, keyOf, cellsOf, netOf) {
  const before = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const isFirst = body.rows.length === 0;
  const rows = items.slice(0, MAX_ROWS).map((item) => {
    const key = keyOf(item);
    const cells = cellsOf(item);
    let row = before.get(key);
    if (!row) {
      row = make("tr", undefined, isFirst ? "" : "new");
      row.dataset.key = key;
      cells.forEach((_, place) => {
        const cell = make(place === 0 ? "th" : "td");
        if (place === 0) cell.scope = "row";
        row.append(cell);
      });
      if (netOf) row.append(chooser());
    }
    before.delete(key);
    cells.forEach((cell, place) => {
      const [text, className] = Array.isArray(cell) ? cell : [cell, ""];
      setText(row.cells[place], String(text));
      if (row.cells[place].className !== className) row.cells[place].className = className;
    });
    if (netOf) choosable(row.lastElementChild.firstElementChild, netOf(item));
    return row;
  });
  for (const row of before.values()) row.remove();
  rows.forEach((row, place) => {
    // Only a row with a new position is moved, so that the focused element keeps the focus.
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
}

function chooser() {
  const cell = make("td", undefined, "order");
  const button = make("button", "Choose");
  button.type = "button";
  button.addEventListener("click", () => {
    byId("net").value = button.dataset.net;
    byId("net").focus();
  });
  cell.append(button);
  return cell;
}

function choosable(button, net) {
  button.hidden = !net;
  button.dataset.net = net;
  button.setAttribute("aria-label", `Choose ${net} for an order`);
}

function wanted(items) {
  const word = byId("filter").value.trim().toLowerCase();
  return word ? items.filter((item) => JSON.stringify(item).toLowerCase().includes(word)) : items;
}

function list(name, items, total, keyOf, cellsOf, netOf) {
  const shown = wanted(items);
  fill(byId(`${name}-rows`), shown, keyOf, cellsOf, netOf);
  const some = shown.length === total ? whole(total) : `${whole(shown.length)} of ${whole(total)}`;
  setText(byId(`${name}-count`), some);
  byId(`${name}-empty`).hidden = total > 0;
}

const SEVERITY = { high: "bad", medium: "warn", low: "", info: "" };

function showFindings() {
  const { open, findings } = state.findings;
  const cells = (f) => [
    who(f),
    f.rule,
    [f.severity, SEVERITY[f.severity] ?? ""],
    f.confidence,
    [whole(f.probes), "number"],
    time(f.last_seen),
    [f.said ? `${f.reason} (${f.said})` : f.reason, "wide"],
    f.spoofable,
    [f.policy, "wide"],
  ];
  list("findings", findings, open, (f) => f.id, cells, (f) => (f.source ? host(f.source) : ""));
}

const BAN = { none: "", allowed: "good", shielded: "warn", banned: "warn", counted: "warn", dropped: "bad" };

function showSources() {
  const cells = (s) => [
    host(s.net),
    [number(s.per_second), "number"],
    [whole(s.probes), "number"],
    [whole(s.services), "number"],
    [whole(s.hosts), "number"],
    [whole(s.completed), "number"],
    `${span(s.seconds_since_last)} ago`,
    [s.country, s.network].filter(Boolean).join(" "),
    [s.ban === "none" ? "" : s.ban, BAN[s.ban] ?? ""],
    s.rules.join(", "),
    [pairs(s.classes), "wide"],
  ];
  list("sources", state.sources, state.active ?? state.sources.length, (s) => s.net, cells, (s) => host(s.net));
}

// The state of a ban that does not drop packets, by mode.
const NOT_DROPPED = { "dry-run": "counted", observe: "nothing" };

function showBans() {
  const cells = (b) => [
    host(b.net),
    b.response,
    b.by === "rule" ? `rule ${b.rule}` : b.by,
    [b.reason, "wide"],
    new Date(b.since).toLocaleString(),
    b.seconds_left === null ? "when it is taken back" : `in ${span(b.seconds_left)}`,
    [b.packets === null ? "" : whole(b.packets), "number"],
    b.drops ? ["dropped", "bad"] : [NOT_DROPPED[state.mode] ?? "not dropped", "warn"],
  ];
  list("bans", state.bans, state.banned ?? state.bans.length, (b) => b.net, cells, (b) => host(b.net));
}

// ---- overview

function figure(list, key, name, value) {
  let box = list.querySelector(`[data-key="${key}"]`);
  if (!box) {
    box = make("div");
    box.dataset.key = key;
    box.append(make("dt", name), make("dd"));
    list.append(box);
  }
  setText(box.lastElementChild, value);
}

function showOverview(o) {
  const figures = byId("figures");
  const bans = o.bans.rule + o.bans.hand + o.bans.crowdsec + o.bans.adopted;
  figure(figures, "mode", "Mode", o.mode);
  figure(figures, "findings", "Open findings", whole(o.findings_open));
  figure(figures, "bans", "Bans", `${whole(bans)} of ${whole(o.max_bans)}`);
  figure(figures, "shields", "Shields", `${whole(o.shields.held)} of ${whole(o.shields.most)}`);
  figure(figures, "feeds", "Banned by feeds", whole(o.feed_networks));
  figure(figures, "sources", "Sources remembered", whole(o.sources_remembered));
  figure(figures, "active", "Active sources", whole(o.sources_active));
  figure(figures, "packets", "Packets", whole(o.packets));
  figure(figures, "probes", "Probes", whole(o.probes));
  figure(figures, "uptime", "Running for", span(o.uptime_seconds));
  fill(byId("interfaces"), o.interfaces, ([name]) => name,
    ([name, mode]) => [name, mode === null ? ["not attached", "bad"] : [mode, "good"]]);
  const counted = ([name, n]) => [name, [whole(n), "number"]];
  fill(byId("probes-by"), o.probes_by, ([name]) => name, counted);
  fill(byId("packets-by"), o.packets_by, ([name]) => name, counted);
  setText(byId("version"), o.version);
  const alarm = byId("alarm");
  alarm.hidden = !o.circuit_breaker_open;
  setText(alarm, o.circuit_breaker_open ? "The circuit breaker is open: rules would ban in too many networks, and make no new bans until the storm is over. All other bans hold." : "");
  byId("orders").hidden = !o.has_token;
  document.body.classList.toggle("has-token", o.has_token);
  state.active = o.sources_active;
  state.banned = bans + o.shields.held;
  if (state.mode !== o.mode) {
    state.mode = o.mode;
    showBans();
  }
  const title = o.findings_open > 0 ? `(${o.findings_open}) ScanGuard` : "ScanGuard";
  if (document.title !== title) document.title = title;
}

// Announces new findings to screen readers, all at once and only when nothing else is read.
function announce(findings) {
  const before = state.known;
  state.known = new Set(findings.map((f) => f.id));
  if (!before) return;
  const fresh = findings.filter((f) => !before.has(f.id));
  if (fresh.length === 1) setText(byId("news"), `New finding: ${fresh[0].rule} by ${who(fresh[0])}`);
  if (fresh.length > 1) setText(byId("news"), `${fresh.length} new findings`);
}

// ---- charts

function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const charts = CHARTS.map(([title, place]) => {
  const box = make("figure");
  const caption = make("figcaption");
  const now = make("span");
  caption.append(make("b", title), now);
  const picture = svg("svg", { viewBox: `0 0 ${POINTS} 100`, preserveAspectRatio: "none", role: "img" });
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  picture.append(area, line);
  const [from, to] = [make("span"), make("span")];
  const ends = make("p", undefined, "ends");
  ends.append(from, to);
  const details = make("details");
  const table = make("table");
  const head = make("tr");
  for (const name of ["From", "Mean", "Highest"]) {
    const cell = make("th", name, name === "From" ? "" : "number");
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody");
  table.append(make("caption", title), make("thead"), body);
  table.tHead.append(head);
  details.append(make("summary", `${title} as a table`), table);
  box.append(caption, picture, ends, details);
  byId("charts").append(box);
  return { title, place, now, picture, area, line, from, to, body };
});

// Divides the time into parts of equal length, each with its samples.
function parts(count, first, last) {
  const split = Array.from({ length: count }, () => []);
  const width = Math.max(last - first, 1) / count;
  for (const sample of state.samples) {
    split[Math.min(count - 1, Math.max(0, Math.floor((sample[0] - first) / width)))].push(sample);
  }
  return { split, width };
}

function draw() {
  const { samples } = state;
  if (samples.length === 0) return;
  const first = samples[0][0];
  const last = samples.at(-1)[0];
  const fine = parts(Math.min(POINTS, samples.length), first, last);
  const coarse = parts(Math.min(TABLE_ROWS, samples.length), first, last);
  for (const chart of charts) {
    const of = (sample) => sample[chart.place];
    const highest = samples.reduce((most, sample) => Math.max(most, of(sample)), 0);
    const now = of(samples.at(-1));
    const scale = 92 / Math.max(highest, 1);
    const step = POINTS / Math.max(fine.split.length - 1, 1);
    let [line, area, open] = ["", "", null];
    fine.split.forEach((part, place) => {
      // No samples: the agent did not run, or did not poll.
      if (part.length === 0) return;
      const x = (place * step).toFixed(1);
      const y = (99 - scale * part.reduce((most, sample) => Math.max(most, of(sample)), 0)).toFixed(1);
      line += `${open === null ? "M" : "L"}${x} ${y}`;
      open ??= x;
      area = `${area || `M${x} 100`}L${x} ${y}`;
    });
    chart.line.setAttribute("d", line);
    chart.area.setAttribute("d", area && `${area}V100Z`);
    setText(chart.now, `now ${number(now)}, highest ${number(highest)}`);
    setText(chart.from, clock(first));
    setText(chart.to, clock(last));
    const said = `${chart.title} from ${clock(first)} to ${clock(last)}: now ${number(now)}, highest ${number(highest)}`;
    chart.picture.setAttribute("aria-label", said);
    const rows = coarse.split.map((part, place) => [first + place * coarse.width, part]).filter(([, part]) => part.length > 0);
    fill(chart.body, rows, ([from]) => String(from), ([from, part]) => [
      clock(from),
      [number(part.reduce((sum, sample) => sum + of(sample), 0) / part.length), "number"],
      [number(part.reduce((most, sample) => Math.max(most, of(sample)), 0)), "number"],
    ]);
  }
}

function addSample(sample) {
  const { samples, capacity } = state;
  const last = samples.at(-1)?.[0] ?? -Infinity;
  if (!sample || sample[0] === last) return;
  if (sample[0] < last) {
    // The clock of the host was set back: the agent's history decides which samples are still shown.
    void loadHistory().catch(() => {});
    return;
  }
  samples.push(sample);
  samples.splice(0, Math.max(0, samples.length - capacity));
  draw();
}

async function loadHistory() {
  const answer = await fetch("page/history");
  if (!answer.ok) return;
  const { every_seconds: every, capacity, samples } = await answer.json();
  Object.assign(state, { every, capacity, samples });
  draw();
}

// ---- the connection

const TAKE = {
  overview: showOverview,
  findings: (findings) => {
    state.findings = findings;
    announce(findings.findings);
    showFindings();
  },
  sources: (sources) => {
    state.sources = sources;
    showSources();
  },
  bans: (bans) => {
    state.bans = bans;
    showBans();
  },
  sample: addSample,
};

let source = null;
let again = null;

function say(text, isLost) {
  setText(byId("connection"), text);
  byId("connection").classList.toggle("lost", isLost);
}

function connect() {
  disconnect();
  source = new EventSource("page/events");
  source.addEventListener("open", () => void loadHistory().catch(() => {}));
  for (const [name, take] of Object.entries(TAKE)) {
    source.addEventListener(name, (event) => {
      state.heard = Date.now();
      take(JSON.parse(event.data));
      say("Live", false);
    });
  }
  source.addEventListener("displaced", () => {
    disconnect();
    say("Another browser has taken this one's place: as many look as may (page.max_clients). It is tried again soon.", true);
    again = setTimeout(connect, AGAIN);
  });
  source.addEventListener("error", () => {
    lost();
    // The browser reconnects by itself, unless it was refused.
    if (source?.readyState === EventSource.CLOSED) again = setTimeout(connect, AGAIN);
  });
}

function disconnect() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function lost() {
  const since = state.heard ? `This picture is of ${new Date(state.heard).toLocaleTimeString()}` : "There is no picture yet";
  say(`Not connected: the agent does not answer. ${since}`, true);
}

setInterval(() => {
  if (source && state.heard && Date.now() - state.heard > SILENCE) lost();
}, 1000);

// A hidden page needs no slot.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    disconnect();
    say("Paused while nobody looks", false);
  } else {
    connect();
  }
});

byId("filter").addEventListener("input", () => {
  if (state.findings) showFindings();
  showSources();
  showBans();
});
byId("filter-form").addEventListener("submit", (event) => event.preventDefault());

// ---- orders

byId("order-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const order = event.submitter?.value ?? "ban";
  const body = { net: byId("net").value.trim() };
  if (order === "ban") {
    body.reason = "by hand, from the page";
    if (byId("lasts").value) body.seconds = Number(byId("lasts").value);
  }
  const said = byId("order-said");
  said.className = "";
  try {
    const answer = await fetch(`page/orders/${order}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Scanguard-Token": byId("token").value },
      body: JSON.stringify(body),
    });
    const { said: done, notes = [], error } = await answer.json();
    said.className = answer.ok ? "good" : "bad";
    setText(said, answer.ok ? [done, ...notes].join(". ") : error);
  } catch (error) {
    said.className = "bad";
    setText(said, `The agent does not answer: ${error.message}`);
  }
});

if (!document.hidden) connect();
