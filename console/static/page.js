// What every page does: times in the reader's own zone, and no form sent twice by a second tap.

const language = document.documentElement.lang || undefined;
const shapes = {
  moment: new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }),
  clock: new Intl.DateTimeFormat(language, { timeStyle: "medium" }),
};

const shown = new WeakMap();

// Again and again, as a part of the page that comes anew says its times as the server does.
function showInOwnZone() {
  for (const element of document.querySelectorAll("time[data-moment], time[data-clock]")) {
    const at = new Date(element.dateTime);
    if (shown.get(element) === element.textContent || Number.isNaN(at.getTime())) continue;
    element.title = element.textContent.trim();
    element.textContent = ("clock" in element.dataset ? shapes.clock : shapes.moment).format(at);
    shown.set(element, element.textContent);
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

showInOwnZone();
new MutationObserver(showInOwnZone).observe(document.body, { childList: true, characterData: true, subtree: true });

// After all others have had their say: one that stays on the page is not held. The next turn, as the button's own name
// and value are to be sent too.
window.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) setTimeout(() => hold(event.target, true));
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) hold(form, false);
});
