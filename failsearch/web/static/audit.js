// The review queue: one key a decision.

import { attempt, call, shortcutKey } from "./app.js";
import "./job.js";

const entries = [...document.querySelectorAll(".finding")];
const left = document.getElementById("left");

const current = () => document.activeElement?.closest?.(".finding");

function move(step) {
  const at = entries.indexOf(current());
  const next = entries[at < 0 ? 0 : Math.min(Math.max(at + step, 0), entries.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "center" });
}

async function decide(entry, verdict, right = null) {
  const stored = await attempt(() => call("/api/audit/decide",
    { method: "POST", body: { id: entry.dataset.id, verdict, right } }));
  if (!stored) return;
  if (!entry.classList.contains("decided")) left.textContent = Number(left.textContent) - 1;
  entry.classList.add("decided");
  entry.querySelector(".verdict").textContent = right ? `${verdict}: ${right}` : verdict;
  if (current() === entry) move(1);
}

for (const entry of entries) {
  for (const button of entry.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => decide(entry, button.dataset.verdict, button.dataset.right));
  }
  const other = entry.querySelector(".other input");
  other?.addEventListener("change", () => {
    if (other.value) decide(entry, "wrong label", other.value);
  });
  other?.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    other.value = "";
    entry.focus();
  });
}

const STEPS = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 };
const KEYS = { f: "fine", b: "ambiguous", x: "not an image" };
document.addEventListener("keydown", (event) => {
  const key = shortcutKey(event);
  if (event.defaultPrevented || !key) return;
  const entry = current();
  // Arrows scroll through findings without a decision, and move among the pictures of one.
  const arrows = entry?.dataset.id && entry === document.activeElement;
  const step = STEPS[key];
  if (step && (arrows || !key.startsWith("Arrow"))) {
    event.preventDefault();
    move(step);
    return;
  }
  if (!entry?.dataset.id) return;
  const wrong = entry.querySelectorAll('[data-verdict="wrong label"]')[Number(key) - 1];
  if (wrong) decide(entry, "wrong label", wrong.dataset.right);
  else if (KEYS[key]) decide(entry, KEYS[key]);
});

if (left) entries[0].focus({ preventScroll: true });
