// What every page does: times in the reader's own zone, and no form sent twice by a second tap.

const language = document.documentElement.lang || undefined;
const shapes = {
  moment: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }),
  clock: new Intl.DateTimeFormat(language, { timeStyle: "medium" }),
};

function showInOwnZone(root) {
  for (const element of root.querySelectorAll("time[data-moment], time[data-clock]")) {
    const at = new Date(element.dateTime);
    if (element.title || Number.isNaN(at.getTime())) continue;
    element.title = element.textContent.trim();
    element.textContent = ("clock" in element.dataset ? shapes.clock : shapes.moment).format(at);
  }
}

function hold(form, held) {
  form.ariaBusy = held ? "true" : null;
  for (const button of form.querySelectorAll("button:not([type=button])")) {
    if (held && !button.disabled) button.dataset.held = "";
    if (!held && !("held" in button.dataset)) continue;
    button.disabled = held;
    if (!held) delete button.dataset.held;
  }
}

showInOwnZone(document);
new MutationObserver(() => showInOwnZone(document)).observe(document.body, { childList: true, subtree: true });

// After all others have had their say: one that stays on the page is not held. The next turn, as the button's own name
// and value are to be sent too.
window.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) setTimeout(() => hold(event.target, true));
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) hold(form, false);
});
