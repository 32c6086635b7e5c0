// Starting, watching and stopping the work that runs behind the pages.

import { attempt, call, notify } from "./app.js";

const panel = document.querySelector("[data-job]");
const part = (name) => panel.querySelector(`[data-job-${name}]`);

function show(job) {
  panel.hidden = false;
  part("title").textContent = job.title;
  part("step").textContent = job.total ? `${job.step}: ${job.done} of ${job.total}` : job.step;
  const bar = part("bar");
  bar.hidden = part("stop").hidden = false;
  if (job.total) {
    bar.max = job.total;
    bar.value = job.done;
  } else bar.removeAttribute("value");
  part("stop").disabled = job.state !== "running";
}

/** Follow the job until it ends, then open its result. */
export async function watch() {
  let misses = 0;
  for (;;) {
    let job;
    try {
      job = (await call("/api/job", { anyVersion: true })).job;
      misses = 0;
    } catch (error) {
      if (++misses === 3) notify(error.message);
      await new Promise((resolve) => setTimeout(resolve, 2000));
      continue;
    }
    if (!job) return;
    show(job);
    if (job.state === "done") {
      location.assign(job.address);
      return;
    }
    if (!job.active) {
      part("step").textContent = job.error ?? "Stopped; nothing was changed.";
      part("bar").hidden = true;
      part("stop").hidden = true;
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
}

export async function start(path, body) {
  await attempt(async () => {
    show(await call(path, { method: "POST", body }));
    panel.scrollIntoView({ block: "nearest" });
    await watch();
  });
}

if (panel) {
  part("stop").addEventListener("click", () =>
    attempt(async () => show((await call("/api/job/stop", { method: "POST" })).job)));
  if (!panel.hidden) watch();
}

for (const button of document.querySelectorAll("[data-start]")) {
  button.addEventListener("click", async () => {
    if (button.dataset.ask && !confirm(button.dataset.ask)) return;
    button.disabled = true;
    const body = button.dataset.body ? JSON.parse(button.dataset.body) : undefined;
    await start(button.dataset.start, body);
    button.disabled = false;
  });
}
