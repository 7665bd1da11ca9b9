// Shows a new message without a reload by hand: asks every two seconds, while the page is looked at.
const list = document.querySelector(".messages");
setInterval(async () => {
  if (document.hidden) return;
  try {
    const { data } = await (await fetch("/messages")).json();
    const same = (data[0]?.id ?? "") === list.dataset.newest && String(data.length) === list.dataset.count;
    if (!same) location.reload();
  } catch {
    // The inbox is stopped; asked again in two seconds.
  }
}, 2000);
