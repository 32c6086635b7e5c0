// The map of the failures: points on a canvas, a lasso, and the gallery of what it holds.

import { attempt, call, element, taken } from "./app.js";
import "./job.js";

const canvas = document.getElementById("map");
const seen = document.getElementById("seen");
const panel = document.getElementById("selected");
const legend = document.getElementById("legend");
const ink = canvas?.getContext("2d");
const SHOWN = 120;
const MARGIN = 14;

let points = null; // ids, x, y, mode, label, prediction as the server sends them
let chosen = new Set();
let lasso = [];

// The golden angle keeps neighbouring numbers apart on the colour circle.
// One lightness for all, so that none is pale on a light page or dim on a dark one.
const colour = (mode) => (mode < 0 ? "#8888" : `oklch(.65 .16 ${(mode * 137.5) % 360})`);

function resize() {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw();
}

function at(i) {
  return [
    MARGIN + points.x[i] * (canvas.clientWidth - 2 * MARGIN),
    MARGIN + points.y[i] * (canvas.clientHeight - 2 * MARGIN),
  ];
}

function draw() {
  if (!points) return;
  ink.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const radius = scale * (points.ids.length > 5000 ? 2 : 3.5);
  points.ids.forEach((_, i) => {
    const [x, y] = at(i);
    ink.globalAlpha = chosen.size && !chosen.has(i) ? 0.18 : 0.9;
    ink.fillStyle = colour(points.mode[i]);
    ink.beginPath();
    ink.arc(x, y, chosen.has(i) ? radius + scale : radius, 0, 7);
    ink.fill();
  });
  ink.globalAlpha = 1;
  if (lasso.length < 2) return;
  ink.strokeStyle = getComputedStyle(canvas).color;
  ink.beginPath();
  lasso.forEach(([x, y], i) => (i ? ink.lineTo(x, y) : ink.moveTo(x, y)));
  ink.closePath();
  ink.stroke();
}

function inside([x, y], polygon) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function nearest(event) {
  const [left, top] = place(event);
  let best = -1;
  let least = 12 ** 2;
  points.ids.forEach((_, i) => {
    const [x, y] = at(i);
    const distance = (x - left) ** 2 + (y - top) ** 2;
    if (distance < least) [best, least] = [i, distance];
  });
  return best;
}

const thumbnail = (i) => `/thumbnail?${new URLSearchParams({ id: points.ids[i] })}`;
const within = (mode) => points.ids.map((_, i) => i).filter((i) => points.mode[i] === mode);

/** Show the picture under the pointer beside it. */
function peek(i) {
  seen.hidden = i < 0;
  if (i < 0) return;
  const [x, y] = at(i);
  const mode = points.modes[points.mode[i]]?.name ?? "in no mode";
  if (seen.dataset.id !== points.ids[i]) {
    seen.dataset.id = points.ids[i];
    seen.querySelector("img").src = thumbnail(i);
    seen.querySelector("figcaption").replaceChildren(
      ...taken(points.label[i], points.prediction[i]), element("span", { class: "name" }, points.ids[i]),
      element("span", { class: "name soft" }, mode));
  }
  seen.style.left = `${Math.min(x + 14, canvas.clientWidth - seen.offsetWidth)}px`;
  seen.style.top = `${Math.min(y + 14, canvas.clientHeight - seen.offsetHeight)}px`;
}

function select(found) {
  chosen = new Set(found);
  panel.hidden = found.length === 0;
  draw();
  if (!found.length) return;
  const shown = found.length > SHOWN ? `, the first ${SHOWN} shown` : "";
  panel.querySelector("h2").textContent = `${found.length} failures selected${shown}`;
  panel.querySelector(".gallery").replaceChildren(...found.slice(0, SHOWN).map(card));
  const search = new URLSearchParams(found.slice(0, 50).map((i) => ["id", points.ids[i]]));
  document.getElementById("as-search").href = `/search?${search}`;
}

function card(i) {
  const id = new URLSearchParams({ id: points.ids[i] });
  const caption = element("span", { class: "caption" }, ...taken(points.label[i], points.prediction[i]));
  const title = `${points.ids[i]}: ${points.label[i]} → ${points.prediction[i]}`;
  return element("li", {}, element("a", { class: "card", href: `/sample?${id}`, "data-id": points.ids[i], title },
    element("img", { src: thumbnail(i), alt: "", loading: "lazy" }), caption));
}

/** One button a mode; pressing it selects the mode, pressing it again lets go. */
function explain() {
  const entries = points.modes.map(({ id, name }, number) => [number, id, name]);
  if (entries.length && within(-1).length) entries.push([-1, "none", "in no mode"]);
  legend.replaceChildren(...entries.map(([number, id, name]) => {
    const dot = element("span", { class: "dot" });
    dot.style.background = colour(number);
    const button = element("button", { type: "button", "aria-pressed": "false", "data-mode": id, title: name },
      dot, element("bdi", { class: "clamp" }, name), element("span", { class: "soft" }, String(within(number).length)));
    button.addEventListener("click", () => pick(button, number));
    return element("li", {}, button);
  }));
}

function pick(button, number) {
  const pressed = button.getAttribute("aria-pressed") === "true";
  release();
  button.setAttribute("aria-pressed", String(!pressed));
  select(pressed ? [] : within(number));
}

function release() {
  for (const other of legend.querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
}

function listen() {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    lasso = [];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) {
      seen.hidden = true;
      lasso.push(place(event));
      draw();
    } else peek(nearest(event));
  });
  canvas.addEventListener("pointerleave", () => peek(-1));
  canvas.addEventListener("pointerup", (event) => {
    const drawn = lasso;
    lasso = [];
    release();
    const one = nearest(event);
    if (drawn.length > 4) select(points.ids.map((_, i) => i).filter((i) => inside(at(i), drawn)));
    else select(one < 0 ? [] : [one]);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    lasso = [];
    seen.hidden = true;
    release();
    select([]);
  });
  document.getElementById("as-mode")?.addEventListener("click", () =>
    attempt(async () => {
      const samples = [...chosen].map((i) => points.ids[i]);
      const mode = await call("/api/modes/form", { method: "POST", body: { samples } });
      location.assign(`/modes/${encodeURIComponent(mode.id)}`);
    }));
}

if (canvas) {
  points = (await attempt(() => call("/api/map"))) ?? null;
  if (points) {
    explain();
    listen();
    new ResizeObserver(resize).observe(canvas);
    const asked = new URLSearchParams(location.search).get("mode");
    legend.querySelector(`[data-mode="${CSS.escape(asked ?? "")}"]`)?.click();
  }
}
