// Passkeys: a form with data-passkey is sent once a passkey has answered; what goes wrong is said in the form itself.

class Trouble extends Error {
  constructor(name, words) {
    super(words ?? name);
    this.name = name;
    this.words = words;
  }
}

const REASONS = {
  AbortError: "cancelled",
  ConstraintError: "unlocked",
  InvalidStateError: "known",
  NotAllowedError: "cancelled",
  NotSupportedError: "unsupported",
  SecurityError: "elsewhere",
};

export function supported() {
  return Boolean(
    navigator.credentials &&
      globalThis.PublicKeyCredential?.parseCreationOptionsFromJSON &&
      PublicKeyCredential.parseRequestOptionsFromJSON &&
      PublicKeyCredential.prototype.toJSON,
  );
}

async function fetchOptions(address) {
  const csrf = document.querySelector("meta[name=csrf]")?.content;
  let answer;
  try {
    answer = await fetch(address, {
      method: "POST",
      headers: { Accept: "application/json", ...(csrf && { "X-CSRF-Token": csrf }) },
    });
  } catch {
    throw new Trouble("unreachable");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Trouble("unreachable", told.message);
  return told;
}

async function answerWith(kind, options) {
  const began = performance.now();
  try {
    const credential =
      kind === "create"
        ? await navigator.credentials.create({
            publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options),
          })
        : await navigator.credentials.get({
            publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options),
          });
    if (!credential) throw new Trouble("cancelled");
    return credential.toJSON();
  } catch (error) {
    if (error instanceof Trouble) throw error;
    const late = error.name === "NotAllowedError" && performance.now() - began >= (options.timeout ?? Infinity);
    throw new Trouble(late ? "timeout" : (REASONS[error.name] ?? "broken"));
  }
}

function tell(form, trouble) {
  const place = form.querySelector("[data-passkey-trouble]");
  const words = trouble.words ?? form.dataset[trouble.name] ?? form.dataset.broken;
  place.querySelector("span").textContent = words;
  place.hidden = false;
}

function hold(form, held) {
  form.ariaBusy = held ? "true" : null;
  for (const button of form.querySelectorAll("button[type=submit]")) button.disabled = held;
}

/** Have a passkey answer for this form, and send it; resolves to false where it did not. */
export async function perform(form) {
  form.querySelector("[data-passkey-trouble]").hidden = true;
  hold(form, true);
  try {
    if (!supported()) throw new Trouble("unsupported");
    const { given, options: address, passkey: kind } = form.dataset;
    const options = given ? JSON.parse(given) : await fetchOptions(address);
    form.elements.credential.value = JSON.stringify(await answerWith(kind, options));
    form.submit();
    return true;
  } catch (trouble) {
    tell(form, trouble);
    hold(form, false);
    return false;
  }
}

export { perform as confirm, perform as register, perform as signIn };

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-passkey]")) return;
  event.preventDefault();
  void perform(event.target);
});

// A page that comes back from the browser's memory holds an answer that was used up.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.elements.credential.value = "";
    hold(form, false);
  }
});
