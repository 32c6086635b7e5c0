// Shared by all pages: talking to the server, saying what went wrong, moving by keyboard.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

/** Call the JSON API; throws an Error with the server's own sentence. */
export async function call(path, { method = "GET", body, signal, anyVersion = false } = {}) {
  const headers = { accept: "application/json" };
  // The server refuses with 409 where the samples are no longer those that this page shows.
  if (!anyVersion) headers["x-failsearch-version"] = meta("index-version");
  if (method !== "GET") headers["x-failsearch-token"] = meta("form-token");
  if (body !== undefined && !(body instanceof Blob)) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, { method, body, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is `failsearch serve` still running?");
  }
  const type = response.headers.get("content-type") ?? "";
  const document = type.includes("json") ? await response.json() : null;
  if (!response.ok) throw new Error(document?.detail ?? `The server answered ${response.status}.`);
  return document;
}

/** Make an element; children are nodes or text, and text stays text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The lines of a card's caption that say what was taken for what, as the server writes them. */
export function taken(label, prediction) {
  return [element("span", { class: "name" }, element("bdi", {}, label)),
    element("span", { class: "name" }, "→ ", element("bdi", { class: "bad" }, prediction))];
}

const notices = document.getElementById("notices");

/** Say what went wrong, until it is read: Escape, the button or the next attempt takes it away. */
export function notify(text) {
  const close = element("button", { type: "button", "aria-label": "Dismiss" }, "×");
  const notice = element("div", {}, element("span", {}, text), close);
  close.addEventListener("click", () => notice.remove());
  notices.replaceChildren(notice);
}

/** Run an action and show what it throws. */
export async function attempt(action) {
  notices.replaceChildren();
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") notify(error.message);
    return undefined;
  }
}

/** Arrow keys move between the cards of a gallery, as the eye does. */
function moveInGallery(event) {
  const card = document.activeElement?.closest?.(".gallery .card");
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const cards = [...card.closest(".gallery").querySelectorAll(".card")];
  const top = cards[0].getBoundingClientRect().top;
  const columns = cards.findIndex((other) => other.getBoundingClientRect().top > top + 4);
  const row = columns < 0 ? cards.length : columns;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row };
  const target = cards[cards.indexOf(card) + (steps[event.key] ?? NaN)];
  if (!target) return;
  event.preventDefault();
  target.focus();
}

const SWITCH = "failsearch-letter-keys";
const letters = document.getElementById("letters");
letters.checked = remembered() !== "off";
letters.parentElement.hidden = false;
letters.addEventListener("change", () => remembered(letters.checked ? "on" : "off"));

/** Read, or set, whether letters are shortcuts; without storage it holds for the page alone. */
function remembered(value) {
  try {
    if (value !== undefined) localStorage.setItem(SWITCH, value);
    return localStorage.getItem(SWITCH);
  } catch {
    return null;
  }
}

/** The key of a shortcut: none in a field or with a modifier, and no character where those are off. */
export function shortcutKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return "";
  if (event.target.closest("input, select, textarea, [contenteditable]")) return "";
  return event.key.length === 1 && !letters.checked ? "" : event.key;
}

/** n and p turn pages; g and a letter opens a page, / focuses the first field. */
let pendingGo = false;
const PAGES = { o: "/", f: "/failures", s: "/search", m: "/modes", p: "/map", a: "/audit", r: "/repairs" };

function shortcut(event) {
  const key = shortcutKey(event);
  if (!key) return;
  if (pendingGo && PAGES[key]) {
    event.preventDefault(); // the letter means no decision on a page that has keys of its own
    location.href = PAGES[key];
  } else if (key === "n") document.querySelector('a[rel="next"]')?.click();
  else if (key === "p") document.querySelector('a[rel="prev"]')?.click();
  else if (key === "/") {
    event.preventDefault();
    document.querySelector("main form input, main form select")?.focus();
  }
  pendingGo = key === "g";
}

document.addEventListener("keydown", moveInGallery);
document.addEventListener("keydown", shortcut);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") notices.replaceChildren();
});

/** Where an original is gone, its thumbnail stands in; the page says why when it is asked to. */
for (const image of document.querySelectorAll("img[data-instead]")) {
  const replace = () => {
    image.src = image.dataset.instead;
    image.title = "The original is not where it was indexed; this is its thumbnail.";
  };
  if (image.complete && !image.naturalWidth) replace();
  else image.addEventListener("error", replace, { once: true });
}
