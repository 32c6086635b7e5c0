// The page of a sample: heat-map, brush and paste.

import { attempt, call, element } from "./app.js";

const stage = document.getElementById("stage");
const { id, label, prediction } = stage.dataset;
const picture = stage.querySelector(".picture");
const heat = stage.querySelector(".heat");
const canvas = stage.querySelector(".brush");
const answer = document.getElementById("answer");
const control = (name) => document.getElementById(name);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

// The model is loaded while the page is read: the first explanation should not wait for it.
const loaded = new Promise((resolve) => addEventListener("load", resolve))
  .then(() => call("/api/model", { method: "POST" }))
  .catch(() => null); // what is wrong is said when somebody asks for the explanation

let view = null; // the explanation: what the model sees and where it is hot
let pending = null; // the request of the last stroke, given up when the next one ends

control("explain").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const asking = control("asking");
  button.disabled = true;
  asking.textContent = "Loading the model …";
  await loaded;
  asking.textContent = "Asking the model …";
  const found = await attempt(() => call(`/api/explanation?${new URLSearchParams({ id })}`));
  asking.textContent = "";
  button.disabled = false;
  if (!found) return;
  view = found;
  picture.src = view.view;
  heat.src = view.heat;
  heat.hidden = false;
  canvas.width = view.width;
  canvas.height = view.height;
  canvas.hidden = false;
  control("ask").hidden = true;
  control("tools").hidden = false;
  setOpacity();
  control("opacity").focus();
});

function setOpacity() {
  heat.style.opacity = control("opacity").value / 100;
}
control("opacity").addEventListener("input", setOpacity);

// -- the brush -------------------------------------------------------------------------------

const ink = canvas.getContext("2d", { willReadFrequently: true });
let last = null;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * canvas.width,
    ((event.clientY - box.top) / box.height) * canvas.height,
  ];
}

function paint(event) {
  const [x, y] = place(event);
  ink.strokeStyle = ink.fillStyle = "#19c3ff";
  ink.lineCap = "round";
  ink.lineWidth = (control("size").value / 100) * 2 * Math.max(canvas.width, canvas.height);
  ink.beginPath();
  ink.moveTo(...(last ?? [x, y]));
  ink.lineTo(x, y);
  ink.stroke();
  last = [x, y];
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = null;
  paint(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (event.buttons) paint(event);
});
canvas.addEventListener("pointerup", () => {
  last = null;
  ask();
});
control("fill").addEventListener("change", ask);
control("clear").addEventListener("click", () => {
  ink.clearRect(0, 0, canvas.width, canvas.height);
  answer.hidden = true;
});

/** Read the brushed pixels as bits, row by row, in base64. */
function mask() {
  const alpha = ink.getImageData(0, 0, canvas.width, canvas.height).data;
  const bits = new Uint8Array(Math.ceil((canvas.width * canvas.height) / 8));
  let any = false;
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    if (alpha[4 * i + 3] < 128) continue;
    bits[i >> 3] |= 128 >> (i & 7);
    any = true;
  }
  if (!any) return null;
  let text = "";
  for (const byte of bits) text += String.fromCharCode(byte);
  return { id, mask: btoa(text), width: canvas.width, height: canvas.height };
}

/** Brush what is hottest: the way to the mask without a pointer. */
control("salient").addEventListener("click", async () => {
  const image = new Image();
  image.src = view.heat;
  await image.decode();
  const copy = document.createElement("canvas");
  copy.width = canvas.width;
  copy.height = canvas.height;
  const pen = copy.getContext("2d");
  pen.filter = "blur(1px)"; // single pixels of a gradient are noise
  pen.drawImage(image, 0, 0);
  const data = pen.getImageData(0, 0, copy.width, copy.height).data;
  const alpha = data.filter((_, i) => i % 4 === 3);
  const limit = [...alpha].sort((a, b) => b - a)[Math.round(alpha.length * 0.05)];
  const painted = ink.createImageData(copy.width, copy.height);
  alpha.forEach((value, i) => {
    if (value > limit) painted.data.set([25, 195, 255, 255], 4 * i);
  });
  ink.putImageData(painted, 0, 0);
  ask();
});

async function ask() {
  const body = mask();
  if (!body) return;
  pending?.abort();
  pending = new AbortController();
  const { signal } = pending;
  const fill = control("fill").value;
  await attempt(async () => {
    const found = await call("/api/mask", { method: "POST", body: { ...body, fill }, signal });
    showMasked(found);
  });
}

// -- answers ---------------------------------------------------------------------------------

function showMasked(found) {
  const random = found.regions.find((row) => row.region === "random");
  const brush = found.regions.find((row) => row.region === "brush");
  const top = Object.entries(found.before).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const gained = Object.entries(brush.after).sort((a, b) => b[1] - a[1])[0][0];
  const names = [...new Set([label, prediction, gained, ...top])].slice(0, 5);
  const rows = names.map((name) => [
    name,
    percent(found.before[name]),
    percent(brush.after[name]),
    `${percent(random.after[name])} ± ${(100 * random.deviation[name]).toFixed(1)}`,
  ]);
  show(
    `Without the brushed ${percent(found.area)} of the picture`,
    table(["class", "before", "brushed", "random place"], rows),
    "The random places have the same shape and area: only what differs from them tells something.",
  );
}

control("paste").addEventListener("click", async (event) => {
  const body = mask();
  if (!body) {
    show("Brush something first", "What you brush is pasted onto other images.");
    return;
  }
  const button = event.target;
  button.disabled = true;
  await attempt(async () => {
    const onto = control("onto").value;
    const found = await call("/api/paste", { method: "POST", body: { ...body, onto } });
    const rows = found.regions.map((row) => [
      row.region,
      `${row.moved} of ${found.images}`,
      `${(100 * row.change).toFixed(1)} points`,
      row.flipped,
    ]);
    const gallery = element("ul", { class: "gallery strip" });
    for (const one of found.pictures) {
      const caption = element("span", { class: "caption" }, `${percent(one.before)} → ${percent(one.after)}`);
      const card = element("a", { class: "card", href: `/sample?${new URLSearchParams({ id: one.id })}` },
        element("img", { src: one.picture, alt: "" }), caption);
      gallery.append(element("li", {}, card));
    }
    show(
      `Pasted onto ${found.images} images of ${found.onto}`,
      table(["region", `more ${found.wrong}`, "change", `now taken for ${found.wrong}`], rows),
      gallery,
    );
  });
  button.disabled = false;
});

function show(title, ...parts) {
  answer.hidden = false;
  answer.replaceChildren(element("h2", {}, title),
    ...parts.map((part) => (typeof part === "string" ? element("p", { class: "soft" }, part) : part)));
}

function table(head, rows) {
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell, i) =>
    element(kind, i ? { class: "number" } : {}, element("bdi", {}, String(cell)))));
  return element("table", { class: "wide" }, element("thead", {}, line("th", head)),
    element("tbody", {}, ...rows.map((row) => line("td", row))));
}
