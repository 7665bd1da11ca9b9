// Shows pushes while no page is open, each once, and leads to the page it is about. It keeps nothing and serves nothing.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.waitUntil(inTurn(() => show(event.data))));
self.addEventListener("notificationclick", (event) => event.waitUntil(open(event.notification)));
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

function read(data) {
  try {
    return data.json();
  } catch {
    return {};
  }
}

// A browser shows two pushes that come together in any order, whichever has its icon first: each waits for the one before.
let last = Promise.resolve();

function inTurn(work) {
  const done = last.then(work);
  last = done.catch(() => {});
  return done;
}

// A repeat has the same tag and takes its own place. What is newer about the same top-up makes older news untrue, also
// where the push service brings the older one last: then the newer one is shown again, as a push must show something.
async function show(data) {
  const { title = "Tidemark", body = "", tag = "", about = null, at = "", url = "/" } = read(data);
  const shown = about ? await self.registration.getNotifications() : [];
  const others = shown.filter((each) => each.data?.about === about && each.tag !== tag);
  const newer = others.find((each) => (each.data.at ?? "") > at);
  if (newer) {
    await put(newer);
    return;
  }
  await put({ title, body, tag, data: { about, at, url } });
  for (const older of others) older.close();
}

async function put({ title, body, tag, data }) {
  const timestamp = Date.parse(data.at) || Date.now();
  await self.registration.showNotification(title, { body, tag, icon: "/static/icon-192.png", timestamp, data });
}

// On our own site alone, whatever a push says.
async function open(notification) {
  notification.close();
  const wanted = new URL(notification.data?.url ?? "/", self.location.origin);
  const url = wanted.origin === self.location.origin ? wanted.href : self.location.origin;
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find((window) => window.url === url);
  await (there ? there.focus() : self.clients.openWindow(url));
}

// The browser has changed its subscription by itself: say so, as long as its owner is signed in.
async function renew(event) {
  const { key, csrf } = await (await fetch("/push/key", { headers: { Accept: "application/json" } })).json();
  if (!csrf) return;
  const subscription =
    event.newSubscription ??
    (await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }));
  await fetch("/push/subscriptions", {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(subscription),
  });
}
