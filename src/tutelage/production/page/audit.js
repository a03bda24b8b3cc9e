"use strict";

const at = (id) => document.getElementById(id);
const KEYS = { a: "acceptable", d: "defective", s: "unsure" };
let item = null;
let busy = false;
let moderator = localStorage.getItem("moderator") || "";

async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Moderator": encodeURIComponent(moderator) },
    body: JSON.stringify(body || {}),
  });
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 409) return { ...found.detail, message: found.detail.message };
  if (!answer.ok) throw new Error(typeof found.detail === "string" ? found.detail : `the service answered ${answer.status}`);
  return found;
}

function say(text, wrong) {
  at("message").textContent = text;
  at("message").classList.toggle("wrong", Boolean(wrong));
}

function show(found) {
  item = found.item;
  const progress = found.progress;
  at("bar").max = Math.max(progress.wanted, 1);
  at("bar").value = progress.given;
  at("count").textContent = `${progress.given} of ${progress.wanted}, ${progress.mine} by you`;
  at("progress").hidden = false;
  at("welcome").hidden = true;
  at("desk").hidden = item === null;
  at("done").hidden = item !== null;
  at("verdicts").hidden = false;
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.disabled = item === null;
    button.classList.toggle("given", item !== null && item.verdict === button.dataset.verdict);
  }
  at("zoom").disabled = item === null;
  at("who").textContent = moderator;
  at("leave").setAttribute("aria-label", `${moderator}: change the name`);
  if (item === null) return;
  at("headline").textContent = item.headline || "No headline";
  at("subtask").textContent = item.subtask ? `If it is defective, the model takes it for: ${item.subtask}` : "";
  at("ad").textContent = item.ad_id;
  at("before").hidden = !item.verdict;
  at("before").textContent = item.verdict ? `You said: ${item.verdict}. Judge again.` : "";
  at("unseen").hidden = true;
  at("image").hidden = false;
  at("image").alt = `Image of ${item.headline || item.ad_id}`;
  at("image").src = `items/${item.id}/image`;
}

async function act(path, body, said) {
  if (busy) return;
  busy = true;
  try {
    const found = await ask(path, body);
    show(found);
    say(found.message || said || "", Boolean(found.message));
  } catch (error) {
    say(`Not kept: ${error.message}. Try again.`, true);
  } finally {
    busy = false;
  }
}

function judge(verdict) {
  if (item !== null) act("verdict", { item: item.id, verdict }, `You said: ${verdict}. Undo takes it back.`);
}

function blowUp() {
  if (item === null || at("image").hidden) return;
  at("blown").src = at("image").src;
  at("blown").alt = at("image").alt;
  at("large").showModal();
}

function welcome() {
  at("welcome").hidden = false;
  for (const id of ["desk", "done", "verdicts"]) at(id).hidden = true;
  item = null;
  at("name").value = moderator;
  at("name").focus();
}

at("image").addEventListener("error", async () => {
  if (item === null) return;
  const answer = await fetch(at("image").src).then((a) => a.json()).catch(() => ({}));
  at("image").hidden = true;
  at("unseen").hidden = false;
  at("unseen").textContent = `The image cannot be shown: ${answer.detail || "it did not arrive"}`;
});
at("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  moderator = at("name").value.trim();
  if (!moderator) return;
  localStorage.setItem("moderator", moderator);
  act("next");
});
for (const button of document.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", () => judge(button.dataset.verdict));
}
at("undo").addEventListener("click", () => act("undo", {}, "Taken back."));
at("again").addEventListener("click", () => act("next"));
at("leave").addEventListener("click", welcome);
at("zoom").addEventListener("click", blowUp);
at("picture").addEventListener("click", blowUp);
at("shut").addEventListener("click", () => at("large").close());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  if (at("large").open) {
    if (key === "z") at("large").close();
    if (!(key in KEYS)) return;
    at("large").close();
  }
  if (key in KEYS) judge(KEYS[key]);
  else if (key === "u" && moderator && at("welcome").hidden) act("undo", {}, "Taken back.");
  else if (key === "z") blowUp();
  else return;
  event.preventDefault();
});

if (moderator) act("next");
else welcome();
