// The confirmation's time, counted down; when it is over, the way to ask anew takes the place of the button.

const confirming = document.querySelector("#confirm");
const again = document.querySelector("#again-form");
const left = confirming?.querySelector("[data-left]");
const ends = performance.now() + 1000 * Number(confirming?.dataset.secondsLeft);

function show() {
  const seconds = Math.ceil((ends - performance.now()) / 1000);
  if (seconds <= 0) {
    confirming.hidden = true;
    again.hidden = false;
    return;
  }
  left.textContent = seconds === 1 ? left.dataset.one : left.dataset.words.replace("{seconds}", seconds);
  setTimeout(show, 250);
}

if (confirming && again && left) show();
