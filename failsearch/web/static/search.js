// The search page: an image of one's own, and searching by what one likes.

import { attempt, call, element, shortcutKey, taken } from "./app.js";

const form = document.getElementById("by-image");
const drop = document.getElementById("drop");
const input = document.getElementById("file");
const preview = document.getElementById("preview");
const label = document.getElementById("label");
let chosen = null;

function choose(file) {
  if (!file) return;
  chosen = file;
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  label.focus();
  // By the time a class is chosen, the model is there; what is wrong is said by the search itself.
  call("/api/model", { method: "POST" }).catch(() => null);
}

input.addEventListener("change", () => choose(input.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!chosen) {
    input.click();
    return;
  }
  const button = form.querySelector("button");
  const asking = document.getElementById("asking");
  button.disabled = true;
  asking.textContent = "Asking the model …";
  await attempt(async () => {
    const address = `/api/search?${new URLSearchParams({ label: label.value, k: 24 })}`;
    const found = await call(address, { method: "POST", body: chosen });
    const query = found.query;
    const title = query.correct ? `Recognised as ${query.prediction_name}`
      : `Taken for ${query.prediction_name}, sure to ${(100 * query.confidence).toFixed(1)} %`;
    const gallery = element("ul", { class: "gallery neighbours" });
    for (const one of found.neighbours) gallery.append(element("li", {}, card(one)));
    document.getElementById("results").replaceChildren(element("div", { class: "panel" },
      element("h2", {}, title), element("p", { class: "soft" }, "Failures with the nearest profiles:"), gallery));
    gallery.scrollIntoView({ block: "nearest" });
  });
  asking.textContent = "";
  button.disabled = false;
});

function card(one) {
  const id = new URLSearchParams({ id: one.id });
  const caption = element("span", { class: "caption scored" }, element("b", { class: "score" }, one.score.toFixed(3)),
    ...taken(one.label_name, one.prediction_name));
  const title = `${one.id}: ${one.label_name} → ${one.prediction_name}`;
  return element("a", { class: "card", href: `/sample?${id}`, title },
    element("img", { src: `/thumbnail?${id}`, alt: "", loading: "lazy" }), caption);
}

// -- several liked ones ------------------------------------------------------------------------

const search = document.getElementById("search-liked");
const liked = () => [...document.querySelectorAll(".like[aria-pressed=true]")].map(
  (button) => button.previousElementSibling.dataset.id);

function toggle(button) {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  search.disabled = liked().length === 0;
  search.textContent = liked().length ? `Search by the ${liked().length} I like` : "Search by what I like";
}

for (const button of document.querySelectorAll(".like")) {
  button.addEventListener("click", () => toggle(button));
}
document.addEventListener("keydown", (event) => {
  const like = document.activeElement?.closest?.("li")?.querySelector(".like");
  if (like && shortcutKey(event) === "l") toggle(like);
});
search?.addEventListener("click", () => {
  const values = new URLSearchParams(new FormData(document.getElementById("by-id")));
  const queries = values.getAll("id").filter(Boolean);
  values.delete("id");
  for (const id of new Set([...queries, ...liked()])) values.append("id", id);
  location.assign(`/search?${values}`);
});
