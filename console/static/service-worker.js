// Shows pushes while no page is open, each once, and leads to the page it is about. It keeps nothing and serves nothing.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("push", (event) => event.waitUntil(show(event.data)));
self.addEventListener("notificationclick", (event) => event.waitUntil(open(event.notification)));
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

function read(data) {
  try {
    return data.json();
  } catch {
    return {};
  }
}

// A repeat has the same tag and takes its own place. What is newer about the same top-up makes older news untrue.
async function show(data) {
  const push = read(data);
  const { title = "Tidemark", body = "", tag = "", about = null, url = "/" } = push;
  const icon = "/static/icon-192.png";
  // Only what was there before this push is older than it: another push may be shown while this one still is.
  const before = await self.registration.getNotifications();
  await self.registration.showNotification(title, { body, tag, icon, data: { about, url } });
  for (const older of before) {
    if (about && older.data?.about === about && older.tag !== tag) older.close();
  }
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
