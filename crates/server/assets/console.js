// What the console adds where JavaScript runs: copying, keys in the pending list, times that keep up, and news by
// itself. Every action works without it.
"use strict";

// ---- copying: the buttons show themselves only where they can work ----
function showCopyButtons(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const said = button.textContent;
  button.textContent = "copied";
  say("Copied");
  setTimeout(() => { button.textContent = said; }, 1500);
});

function say(text) {
  const status = document.getElementById("said");
  if (status) status.textContent = text;
}

// ---- times that keep up with the clock; the words are those of console/moment.rs ----
function brief(millis) {
  const seconds = Math.floor(millis / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return days === 1 ? "1 day" : `${days} days`;
}

// Nobody counts the minutes of what is hours over.
function whole(millis) {
  return millis < 3600000 ? millis : Math.floor(millis / 3600000) * 3600000;
}

const skew = Number(document.documentElement.dataset.now || Date.now()) - Date.now();

function keepTimes() {
  const now = Date.now() + skew;
  for (const time of document.querySelectorAll("time[data-says]")) {
    const away = now - Date.parse(time.dateTime);
    const says = time.dataset.says;
    if (says === "left") time.textContent = away < 0 ? brief(-away) : "no time";
    else if (says === "for") time.textContent = brief(Math.max(away, 0));
    else if (away < 7 * 86400000) time.textContent = away < 5000 ? "just now" : `${brief(whole(away))} ago`;
  }
}
setInterval(keepTimes, 1000);

// ---- the pending list: it brings itself up to date, and the tab's title counts ----
const titled = document.title.replace(/^\(\d+\) /, "");

function count(list) {
  const pending = Number(list.dataset.pending);
  document.title = pending ? `(${pending}) ${titled}` : titled;
  for (const place of document.querySelectorAll("[data-counts='pending']")) {
    if (place.textContent !== "" && Number(place.textContent) < pending) say("A new request waits");
    place.textContent = pending || "";
    place.hidden = !pending;
  }
}

document.addEventListener("htmx:afterSettle", (event) => {
  showCopyButtons(document);
  const list = document.getElementById("pending");
  if (list) count(list);
});

// A server that cannot be reached is said, not hidden; the list tries again by itself.
for (const gone of ["htmx:sendError", "htmx:responseError"]) document.addEventListener(gone, () => stale(true));
document.addEventListener("htmx:beforeSwap", () => stale(false));

function stale(is) {
  const note = document.getElementById("stale");
  if (!note || note.hidden === !is) return;
  note.hidden = !is;
  say(is ? note.textContent : "The server is reached again");
}

// ---- keys: only while a row of the list has the focus, so that nothing typed elsewhere decides anything ----
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const row = event.target.closest("[data-row]");
  const at = rows.indexOf(row);
  const key = event.key.toLowerCase();
  if (key === "j" || key === "k") {
    const next = rows[Math.min(Math.max(at + (key === "j" ? 1 : -1), 0), rows.length - 1)];
    next.querySelector("a[data-review]").focus();
  } else if (row && key === "a") {
    (row.querySelector("button[data-approve]") || row.querySelector("a[data-review]")).click();
  } else if (row && key === "d") {
    location.assign(row.querySelector("a[data-review]").href + "#comment");
  } else {
    return;
  }
  event.preventDefault();
});

// ---- files: measured as soon as they are chosen, and refused here where the server would refuse them unread ----
function refuseFile(why) {
  const said = document.getElementById("file-wrong");
  if (!said) return;
  said.textContent = why;
  said.hidden = !why;
  document.getElementById("file").toggleAttribute("aria-invalid", Boolean(why));
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (!field.matches("input[type=file][data-largest]") || !field.files.length) return;
  const most = Number(field.dataset.largest);
  const tooLarge = field.files[0].size > most;
  refuseFile(tooLarge ? `It has more than ${most / 1048576} MB, the most that is measured.` : "");
  if (tooLarge) field.value = "";
  else document.querySelector("button[data-measures]").click();
});

function arriving(loaded, total) {
  const bar = document.getElementById("arriving");
  if (!bar) return;
  bar.hidden = !total;
  if (total) [bar.max, bar.value] = [total, loaded];
  const says = document.getElementById("arriving-says");
  const now = !total ? "" : loaded < total ? "Sending…" : "Measuring…";
  if (says.textContent !== now) says.textContent = now;
}

document.addEventListener("htmx:xhr:progress", (event) => {
  if (event.target.matches("button[data-measures]") && event.detail.lengthComputable) arriving(event.detail.loaded, event.detail.total);
});

// A file that was refused comes back with its form, as every refused form does.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.requestConfig?.elt.matches("button[data-measures]")) return;
  const type = event.detail.xhr.getResponseHeader("content-type") || "";
  if (event.detail.xhr.status === 422 && type.startsWith("text/html")) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

for (const lost of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(lost, (event) => {
    if (!event.target.matches?.("button[data-measures]") || event.detail.xhr?.status === 422) return;
    arriving(0, 0);
    refuseFile("It was not measured: the server could not be reached, or could not take it. Try again in a moment.");
  });
}

document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
showCopyButtons(document);
for (const shown of document.querySelectorAll("[data-needs-script]")) shown.hidden = false;
if (location.hash === "#comment") document.getElementById("comment")?.focus();
