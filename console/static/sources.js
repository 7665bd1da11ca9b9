// Ranking the sources: by dragging them, and by their buttons without a way to the server. What was moved is said aloud.

const list = document.querySelector("[data-ranked]");
const form = list?.closest("form");
const rows = () => [...list.querySelectorAll("[data-source]")];
const selectOf = (row) => row.querySelector("select");

function showHoldings() {
  const account = form.querySelector("input[name=account]:checked")?.value;
  const chosen = rows().map((row) => selectOf(row).value !== "");
  rows().forEach((row, place) => {
    row.querySelector("[data-holds]").textContent = selectOf(row).selectedOptions[0]?.dataset[account] ?? "";
    row.querySelector("[data-grip]").hidden = !chosen[place];
    row.querySelector("[data-move=up]").disabled = !chosen[place] || place === 0;
    row.querySelector("[data-move=down]").disabled = !chosen[place] || !chosen[place + 1];
    row.querySelector("[data-move=remove]").disabled = !chosen[place];
  });
}

// The rows stay where they are, with their names and places; what is chosen in them changes places.
function put(chosen) {
  rows().forEach((row, place) => {
    selectOf(row).value = chosen[place] ?? "";
    selectOf(row).removeAttribute("aria-invalid");
  });
  showHoldings();
  form.dispatchEvent(new Event("input", { bubbles: true }));
}

function say(words, asset, place) {
  document.querySelector("#announcements").textContent = words.replace("{asset}", asset).replace("{place}", place);
}

function move(from, to, { said = true } = {}) {
  const chosen = rows().map((row) => selectOf(row).value);
  const [asset] = chosen.splice(from, 1);
  chosen.splice(to, 0, asset);
  put(chosen);
  if (said && asset) say(list.dataset.moved, asset, to + 1);
}

function remove(place) {
  const chosen = rows().map((row) => selectOf(row).value);
  const [asset] = chosen.splice(place, 1);
  put(chosen);
  if (asset) say(list.dataset.removed, asset, place + 1);
}

function onButton(event) {
  const button = event.target.closest("button[data-move]");
  if (!button) return;
  event.preventDefault();
  const place = rows().indexOf(button.closest("[data-source]"));
  if (button.dataset.move === "remove") {
    remove(place);
    selectOf(rows()[place]).focus();
    return;
  }
  const to = place + (button.dataset.move === "up" ? -1 : 1);
  move(place, to);
  const other = rows()[to];
  const same = other.querySelector(`[data-move=${button.dataset.move}]`);
  (same.disabled ? other.querySelector("[data-move]:not(:disabled)") : same).focus();
}

// Pointer events, as they are the same for a finger, a pen and a mouse.
function onGrab(event) {
  const grip = event.target.closest("[data-grip]");
  if (!grip || event.button > 0) return;
  event.preventDefault();
  let place = rows().indexOf(grip.closest("[data-source]"));
  const from = place;
  const held = () => rows().forEach((row, at) => row.classList.toggle("dragging", at === place));
  const onMove = (moved) => {
    const at = rows().findIndex((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return moved.clientY >= top && moved.clientY <= bottom;
    });
    if (at < 0 || at === place) return;
    move(place, at, { said: false });
    place = at;
    held();
  };
  const onDrop = () => {
    const asset = selectOf(rows()[place]).value;
    if (place !== from) say(list.dataset.moved, asset, place + 1);
    place = -1;
    held();
    for (const [name, listener] of listeners) window.removeEventListener(name, listener);
  };
  const listeners = [["pointermove", onMove], ["pointerup", onDrop], ["pointercancel", onDrop]];
  for (const [name, listener] of listeners) window.addEventListener(name, listener);
  held();
}

function addGrips() {
  for (const row of rows()) {
    const grip = document.createElement("span");
    grip.dataset.grip = "";
    grip.className = "grip";
    grip.title = list.dataset.drag;
    grip.ariaHidden = "true";
    grip.append(document.querySelector("#grip-icon").content.cloneNode(true));
    row.querySelector(".source-buttons").prepend(grip);
  }
}

if (list && !form.querySelector("fieldset:disabled")) {
  addGrips();
  showHoldings();
  list.addEventListener("click", onButton);
  list.addEventListener("pointerdown", onGrab);
  form.addEventListener("change", showHoldings);
}

document.querySelector("#troubles")?.focus();
