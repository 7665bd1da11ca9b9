// Notifications in this browser: asked for after a tap alone, and whatever stands in the way is said in a sentence.

class Trouble extends Error {
  constructor(name, words) {
    super(words ?? name);
    this.name = name;
    this.words = words;
  }
}

const box = document.querySelector("[data-push]");
const turnOn = box.querySelector("[data-push-turn-on]");
const json = { Accept: "application/json" };

function onApple() {
  return /iPhone|iPad|iPod/.test(navigator.userAgent) || (navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1);
}

function hindrance() {
  if (!globalThis.isSecureContext) return "insecure";
  const able = "serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis;
  if (able) return Notification.permission === "denied" ? "denied" : null;
  return onApple() && !matchMedia("(display-mode: standalone)").matches ? "home" : "unsupported";
}

function show(state) {
  box.querySelector("[data-push-state]").textContent = box.dataset[state];
  turnOn.hidden = state !== "off";
}

function complain(name, words) {
  const place = box.querySelector("[data-push-trouble]");
  place.querySelector("span").textContent = words ?? box.dataset[name] ?? box.dataset.broken;
  place.hidden = false;
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Trouble("unreachable");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Trouble("unreachable", told.message);
  return told;
}

function bytesOf(text) {
  const padded = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(padded), (sign) => sign.charCodeAt(0));
}

function same(buffer, bytes) {
  const other = new Uint8Array(buffer ?? 0);
  return other.length === bytes.length && other.every((byte, place) => byte === bytes[place]);
}

async function markOf(subscription) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(subscription.endpoint));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function ownEntry() {
  const registration = await navigator.serviceWorker.getRegistration("/");
  const subscription = await registration?.pushManager.getSubscription();
  if (!subscription) return {};
  const entry = document.querySelector(`[data-push-mark="${await markOf(subscription)}"]`);
  return { subscription, entry };
}

async function subscribe(registration, key) {
  const known = await registration.pushManager.getSubscription();
  if (known && same(known.options.applicationServerKey, key)) return known;
  await known?.unsubscribe();
  try {
    return await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  } catch (error) {
    throw new Trouble({ AbortError: "service", NotAllowedError: "denied" }[error.name] ?? "broken");
  }
}

async function begin() {
  const allowed = await Notification.requestPermission();
  if (allowed !== "granted") throw new Trouble(allowed === "denied" ? "denied" : "dismissed");
  await navigator.serviceWorker.register("/service-worker.js");
  const registration = await navigator.serviceWorker.ready;
  const { key } = await ask("/push/key", { headers: json });
  const subscription = await subscribe(registration, bytesOf(key));
  const csrf = document.querySelector("meta[name=csrf]").content;
  await ask("/push/subscriptions", {
    method: "POST",
    headers: { ...json, "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(subscription),
  });
  location.assign("/push?done=push-on");
}

async function tryToBegin() {
  turnOn.disabled = true;
  box.querySelector("[data-push-trouble]").hidden = true;
  try {
    await begin();
  } catch (error) {
    complain(error.name, error.words);
  } finally {
    turnOn.disabled = false;
  }
}

async function end(event, subscription) {
  event.preventDefault();
  await subscription.unsubscribe().catch(() => {});
  event.target.submit();
}

async function look() {
  const stands = hindrance();
  if (stands) return show(stands);
  const { subscription, entry } = await ownEntry();
  if (!entry) return show("off");
  entry.querySelector("[data-push-own]").hidden = false;
  entry.querySelector("form").addEventListener("submit", (event) => end(event, subscription));
  return show("on");
}

turnOn.addEventListener("click", tryToBegin);
look().catch(() => show("off"));
