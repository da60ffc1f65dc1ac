// The browser view: rows of panels as the bot draws them, put where they belong.
//
//   WebSocket ──► take(message) ──► blocks, rows, charts        live
//   while it is cut: GET /view every second, the same messages  polling
//   while neither answers: what was there, dimmed               lost since …
//
// A message has what is newer than the version that this page has. Nothing is ever sent to the
// bot but which view is wanted: what runs cannot be touched from here.
"use strict";

const BASE_PX = 13, NARROW_PX = 12, NARROW = 700, LINE = 1.17;
const LEAST_ROWS = 8, EMPTY = /^[\s│┃|]*$/;
const GOES = 1012; // what a socket is closed with by a bot that stops
const POLL_MS = 1000, FIRST_MS = 500, LONGEST_MS = 15000, SILENT_MS = 3500, STALE_S = 10;

const page = (id) => document.getElementById(id);
const screen_ = page("screen"), status_ = page("status"), market = page("market");

let view = { panel: "", market: "", ...chosen() };
let version = 0, blocks = [], socket = null, fails = 0, polling = 0, reconnecting = 0;
let newest = null, answeredAt = 0, lostAt = 0, stopped = false, by = "";

// --- what is wanted ---

function chosen() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function fit() {
  const width = document.documentElement.clientWidth - 16;
  const base = width < NARROW ? NARROW_PX : BASE_PX;
  setSize(base);
  const probe = page("probe"), cell = probe.getBoundingClientRect().width / probe.textContent.length;
  const columns = Math.max(40, Math.min(240, Math.floor(width / cell / 2) * 2));
  const size = base * width / (columns * cell);
  setSize(size);
  const line = Math.round(size * LINE);
  const room = Math.floor((window.innerHeight - screen_.offsetTop - 8) / line);
  const least = width < NARROW ? (view.panel ? 50 : 96) : 40;
  return { columns, rows: Math.min(120, Math.max(least, Math.floor(room / 2) * 2)) };
}

function setSize(px) {
  document.documentElement.style.setProperty("--size", `${px}px`);
  document.documentElement.style.setProperty("--row", `${Math.round(px * LINE)}px`);
}

function named({ panel, market, columns, rows }) {
  return [panel, market, columns, rows].join(" ");
}

function want(change) {
  view = { ...view, ...change };
  Object.assign(view, fit());
  version = 0;
  if (change.panel !== undefined) window.scrollTo(0, 0);
  const words = new URLSearchParams({ panel: view.panel, market: view.market });
  history.replaceState(null, "", view.panel || view.market ? `#${words}` : location.pathname);
  for (const button of document.querySelectorAll("[data-key]")) {
    const pressed = button.dataset.panel === view.panel;
    button.setAttribute("aria-pressed", String(pressed));
    if (pressed) button.scrollIntoView({ block: "nearest", inline: "center" });
  }
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(view));
  else if (by !== "") poll();
}

// --- what comes ---

function take(message, way) {
  if (message.view !== named(view)) return; // of what was wanted before
  answeredAt = performance.now();
  lostAt = 0;
  stopped = false;
  by = way;
  newest = message;
  if (message.bands) lay(message.bands, message.markets);
  if (message.version < version) return;
  version = message.version;
  for (const [number, rows] of Object.entries(message.rows || {})) {
    for (const [at, html] of Object.entries(rows)) {
      const row = blocks[number] && blocks[number].children[at];
      if (row) row.innerHTML = html;
    }
  }
  if (view.panel) trim();
  if (message.charts) draw(message.charts);
  show();
  document.dispatchEvent(new CustomEvent("drawn", { detail: message }));
}

function lay(bands, markets) {
  blocks = [];
  screen_.replaceChildren(...bands.map((band) => {
    const line = element("div", "band");
    line.append(...band.map((one) => {
      const block = element("pre", "block");
      block.dataset.panel = one.panel;
      block.setAttribute("role", "region");
      block.setAttribute("aria-label", one.panel);
      block.style.width = `${one.columns}ch`;
      block.append(...Array.from({ length: one.rows }, () => document.createElement("div")));
      blocks[one.block] = block;
      return block;
    }));
    return line;
  }));
  const known = [...market.options].map((option) => option.value);
  for (const ticker of markets) if (!known.includes(ticker)) market.add(new Option(ticker, ticker));
  market.value = view.market;
}

// A panel alone is as tall as the window, as on a terminal. What it does not need of that is left
// out, so that charts follow; it grows with what it has, and shrinks only for another view.
function trim() {
  const rows = [...blocks.at(-1).children], last = rows.length - 1;
  let need = last - 1;
  while (need > LEAST_ROWS && EMPTY.test(rows[need].textContent)) need -= 1;
  for (let at = need + 1; at < last; at += 1) rows[at].hidden = !rows[at].dataset.needed;
  for (let at = 0; at <= need; at += 1) {
    rows[at].dataset.needed = "1";
    rows[at].hidden = false;
  }
}

function element(name, style) {
  const made = document.createElement(name);
  made.className = style;
  return made;
}

// --- charts ---

let plotly = null;

function loaded() {
  plotly ||= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "/page/plotly.js";
    script.onload = () => done(window.Plotly);
    script.onerror = failed;
    document.head.append(script);
  });
  return plotly;
}

// A chart takes the page tens of milliseconds: it is drawn when somebody looks at it, and only if
// it is another one than before.
const due = {};
const watching = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    target.dataset.seen = isIntersecting ? "1" : "";
    if (isIntersecting) plot(target);
  }
}, { rootMargin: "120px" });

function draw(figures) {
  for (const [name, figure] of Object.entries(figures)) {
    const frame = frameOf(name);
    const title = (figure.layout.meta && figure.layout.meta.title) || name;
    frame.firstChild.textContent = title;
    frame.lastChild.setAttribute("aria-label", title);
    frame.lastChild.style.minHeight = `${figure.layout.height}px`; // nothing moves once it is drawn
    due[name] = figure;
    if (frame.dataset.seen) plot(frame);
  }
}

function frameOf(name) {
  const charts = page("charts");
  let frame = charts.querySelector(`[data-chart="${name}"]`);
  if (!frame) {
    frame = element("figure", "");
    frame.dataset.chart = name;
    const plot = element("div", "plot");
    plot.setAttribute("role", "img");
    frame.append(document.createElement("figcaption"), plot);
    charts.append(frame);
    charts.hidden = false;
    watching.observe(frame);
  }
  return frame;
}

async function plot(frame) {
  const name = frame.dataset.chart, figure = due[name];
  if (!figure) return;
  delete due[name];
  const drag = window.innerWidth < NARROW ? { dragmode: false } : {};
  const config = { responsive: true, displayModeBar: false, displaylogo: false };
  try {
    const library = await loaded();
    await library.react(frame.lastChild, figure.data, { ...figure.layout, ...drag }, config);
  } catch (error) {
    plotly = null; // it is tried again with the next figures
  }
}

// --- the connection ---

function connect() {
  clearTimeout(reconnecting);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const made = socket = new WebSocket(`${scheme}://${location.host}/view/live`);
  made.onopen = () => made.send(JSON.stringify({ ...view, since: version }));
  made.onmessage = (event) => {
    if (made !== socket) return;
    fails = 0;
    clearTimeout(polling);
    polling = 0;
    take(JSON.parse(event.data), "live");
  };
  made.onclose = ({ code }) => {
    if (made !== socket) return;
    stopped ||= code === GOES;
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** fails++) * (0.75 + Math.random() / 2);
    reconnecting = setTimeout(connect, wait);
    if (!polling) poll();
  };
}

async function poll() {
  clearTimeout(polling);
  polling = setTimeout(poll, POLL_MS);
  try {
    const words = new URLSearchParams({ ...view, since: version });
    const answer = await fetch(`/view?${words}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return location.assign("/login");
    if (!answer.ok) throw new Error(answer.statusText);
    const message = await answer.json();
    if (polling) take(message, "polling");
  } catch (error) {
    lostAt ||= Date.now();
    by = "lost";
  }
  show();
}

const MEANT = {
  ended: "the recording was played to its end: this is how it stood there",
  live: "what the bot draws is here within a tenth of a second",
  polling: "something between lets no WebSocket through: the page requests once a second",
  stale: "the bot answers, and takes no frames, or old ones",
  lost: "nobody answers: is the bot running? What is shown is old; the page goes on trying",
};

function show() {
  const [state, words] = standing();
  if (status_.textContent !== words) status_.textContent = words;
  const title = state === "live" ? "bot" : `${words} · bot`;
  if (document.title !== title) document.title = title;
  status_.title = MEANT[state] || "";
  status_.dataset.state = state;
  document.body.classList.toggle("lost", state === "lost");
}

function standing() {
  const since = new Date(lostAt).toLocaleTimeString();
  if (by === "lost") return ["lost", stopped ? `bot stopped ${since}` : `lost since ${since}`];
  if (!newest) return ["begins", "connecting"];
  if (newest.ended) return ["ended", "ended"];
  if (newest.trouble) return ["stale", `stale: ${newest.trouble}`];
  const silent = performance.now() - answeredAt;
  if (silent > SILENT_MS) return ["stale", `stale: nothing for ${Math.round(silent / 1000)} s`];
  if (newest.age_s > STALE_S) return ["stale", `${by}, data ${Math.round(newest.age_s)} s old`];
  return [by, by];
}

// --- keys, clicks, the window ---

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === market) return;
  const button = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === event.key);
  if (button) want({ panel: button.dataset.panel });
});

const nav = document.querySelector("nav");
nav.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) want({ panel: button.dataset.panel });
});
nav.addEventListener("wheel", (event) => { // a wheel turns one way alone
  if (event.deltaX || nav.scrollWidth <= nav.clientWidth) return;
  event.preventDefault();
  nav.scrollLeft += event.deltaY;
}, { passive: false });

screen_.addEventListener("click", (event) => {
  const block = event.target.closest(".block");
  const button = block && document.querySelector(`button[data-panel="${block.dataset.panel}"]`);
  if (button && !String(getSelection())) want({ panel: view.panel ? "" : block.dataset.panel });
});

market.addEventListener("change", () => want({ market: market.value }));

let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => want({}), 150);
});
window.addEventListener("online", connect);
setInterval(show, 1000);

document.fonts.ready.then(() => {
  want({});
  connect();
});
