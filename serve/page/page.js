"use strict";
// One page for everything: what is shown is told by the address. All text from the cache is
// foreign and goes into the page as text only.

const $ = (id) => document.getElementById(id);
const main = $("main"), form = $("search"), q = $("q"), status = $("status"), player = $("player");
const ONCE = ["not", "folder", "path", "caption", "after", "before", "longer", "shorter",
  "per_video", "min_confidence", "k", "gallery"];
const PAGE = 60;
let picture = null, turn = 0, aborter = new AbortController();

/* ---- small helpers ---- */

function el(tag, attributes = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...inner.filter((one) => one !== null && one !== undefined));
  return made;
}

// Control characters and those that turn the direction of writing are shown, not obeyed.
const shown = (text) => String(text).replace(
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g,
  (one) => "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0"));
const number = (value) => value.toLocaleString("en");
const count = (value, one, many = one + "s") => `${number(value)} ${value === 1 ? one : many}`;

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds * 10) / 10), rest = whole % 60;
  const end = rest % 1 ? rest.toFixed(1) : String(Math.floor(rest));
  const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  const two = end.split(".")[0].length < 2 ? "0" + end : end;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${two}` : `${minutes}:${two}`;
}

function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (bytes < 1000) return `${bytes < 10 && unit !== "B" ? bytes.toFixed(1) : Math.round(bytes)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} TB`;
}

async function api(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { signal: aborter.signal, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is c4c serve still running?");
  }
  if (reply.status === 401) {
    await askToken();
    return api(path, options);
  }
  if (reply.status === 204) return null;
  const content = await reply.json().catch((error) => {
    if (error.name === "AbortError") throw error;  // another page is shown meanwhile
    return null;
  });
  if (!reply.ok) throw new Error(content?.error || `The server says ${reply.status}.`);
  if (!content) throw new Error("The server's answer was cut short.");
  return content;
}

let asking = null;
function askToken() {
  if (asking) return asking;
  asking = new Promise((done) => {
    const dialog = $("ask");
    $("askform").onsubmit = async (event) => {
      event.preventDefault();
      const reply = await fetch("/api/session", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ token: $("token").value.trim() }) });
      if (!reply.ok) { $("asked").textContent = "That is not the token."; return; }
      dialog.close(); asking = null; done();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
  return asking;
}

const videos = new Map();
function video(id) {
  if (!videos.has(id)) {
    const asked = api(`/api/videos/${id}`, { signal: null });
    asked.catch(() => videos.delete(id));
    videos.set(id, asked);
  }
  return videos.get(id);
}
const curves = new Map();
function scoresOf(id, asked) {
  const path = `/api/videos/${id}/scores?${asked}`;
  if (curves.size > 500) curves.clear();
  if (!curves.has(path)) {
    const found = api(path);
    found.catch(() => curves.delete(path));
    curves.set(path, found);
  }
  return curves.get(path);
}
const thumbnail = (id, at, width = 320) => `/api/videos/${id}/thumbnail?at=${at.toFixed(2)}&width=${width}`;

// Where to find a stretch of a video as something that this browser plays.
function source(info, start, end) {
  if (info.played) return `/api/videos/${info.id}/file#t=${start.toFixed(2)},${end.toFixed(2)}`;
  const seconds = Math.min(120, Math.max(1, end - start));
  return `/api/videos/${info.id}/preview?start=${start.toFixed(1)}&seconds=${seconds.toFixed(1)}`;
}

/* ---- the address ---- */

const here = () => new URLSearchParams(location.search);
function address(changes, path = "/") {
  const state = here();
  for (const [name, value] of Object.entries(changes)) {
    state.delete(name);
    if (value !== null && value !== "") state.set(name, value);
  }
  const text = state.toString();
  return path + (text ? "?" + text : "");
}
function go(where, replace = false) {
  if (replace) history.replaceState(null, "", where); else history.pushState(null, "", where);
  show();
}
// What of the address the search understands.
function wanted(state, names = ["q", "like", "at", ...ONCE]) {
  const asked = new URLSearchParams();
  for (const name of names) for (const value of state.getAll(name)) if (value) asked.append(name, value);
  return asked;
}

/* ---- search ---- */

function fill(state) {
  q.value = state.get("q") || "";
  for (const name of ONCE) if (form.elements[name]) form.elements[name].value = state.get(name) || "";
  const used = ONCE.filter((name) => state.get(name)).length;
  $("more").textContent = used ? `Filters (${used})` : "Filters";
}

function read(keep = {}) {
  const state = new URLSearchParams();
  if (q.value.trim()) state.set("q", q.value.trim());
  for (const name of ONCE) {
    const value = form.elements[name] ? form.elements[name].value.trim() : "";
    if (value) state.set(name, value);
  }
  for (const [name, value] of Object.entries(keep)) if (value) state.set(name, value);
  const text = state.toString();
  return text ? "/?" + text : "/";
}

async function showSearch(mine) {
  const state = here(), asked = wanted(state);
  fill(state);
  if (picture) for (const name of ["q", "not", "like", "at", "weight", "min_confidence"]) asked.delete(name);
  const asks = picture || state.get("q") || state.get("like");
  document.title = state.get("q") ? `${shown(state.get("q"))} · c4c` : "c4c";
  if (!asks) return welcome(mine);
  if (!asked.has("k")) asked.set("k", 12);
  waiting("Searching");
  const options = picture ? { method: "POST", body: picture, headers: { "content-type": picture.type || "application/octet-stream" } } : {};
  const found = await api(`/api/search${picture ? "/image" : ""}?${asked}`, options);
  if (mine !== turn) return;
  results(found, state);
}

function results(found, state) {
  const parts = [], hits = found.hits, about = lead(state);
  parts.push(el("h1", { class: "hidden" }, "Moments"), about);
  if (!hits.length) {
    parts.push(note("Nothing fits", "No moment is left. Take filters away, or ask for less confidence."));
    say("Nothing fits");
  } else {
    if (found.nothing_fits) {
      parts.push(note("Nothing here seems to fit",
        "Unrelated sentences score as well as the best of these. The nearest moments are shown all the same."));
    }
    const cards = hits.map((hit) => card(hit, state));
    parts.push(el("ol", { class: "cards" }, ...cards));
    say(`${count(hits.length, "moment")}${found.nothing_fits ? ", but nothing seems to fit" : ""}`);
    if (hits.length === Number(state.get("k") || 12) && hits.length < 96) {
      const more = Math.min(96, hits.length * 2);
      parts.push(el("p", {}, el("a", { href: address({ k: more }), "data-go": true }, "Show more")));
    }
  }
  main.replaceChildren(...parts.filter(Boolean));
}

function lead(state) {
  const chips = [];
  const chip = (words, changes) => chips.push(el("li", {}, el("button", {
    class: "chip", type: "button", "aria-label": `Remove: ${words}`,
    onclick: () => { if (changes.picture) { picture = null; go(address({}), true); } else go(address(changes)); },
  }, `${words} ×`)));
  if (picture) chip(`like the picture ${shown(picture.name || "")}`, { picture: true });
  if (state.get("like")) {
    const at = state.get("at");
    chip(at ? `like the moment at ${clock(Number(at))} of a video` : "like a video", { like: "", at: "" });
  }
  const words = { not: "not", folder: "in", path: "name", caption: "caption", after: "from", before: "until",
    longer: "longer than", shorter: "shorter than", per_video: "per video", min_confidence: "confidence ≥", gallery: "gallery" };
  for (const [name, word] of Object.entries(words)) {
    if (state.get(name)) chip(`${word} ${shown(state.get(name))}`, { [name]: "" });
  }
  return chips.length ? el("ul", { class: "chips", "aria-label": "Narrowed by" }, ...chips) : null;
}

function card(hit, state) {
  const best = hit.best === null ? hit.start : hit.best;
  const end = hit.end === null ? hit.start + 10 : hit.end;
  const span = `${clock(hit.start)} – ${hit.end === null ? "end" : clock(hit.end)}`;
  const missing = hit.notes.some((words) => words.startsWith("missing"));
  const image = el("img", { src: thumbnail(hit.video, best), alt: "", loading: "lazy", decoding: "async" });
  const shot = el("button", { class: "shot", type: "button", "data-why": missing ? "The video file does not exist" : "No picture can be shown",
    "aria-label": `Play ${shown(hit.name)} at ${clock(best)}` }, image, el("span", { class: "when" }, span));
  image.addEventListener("error", () => { image.remove(); shot.classList.add("empty"); });
  if (!missing) {
    shot.addEventListener("click", () => play(hit.video, best, hit.name, state));
    hover(shot, hit.video, hit.start, end);
  }
  const like = address({ q: "", like: hit.video, at: best, gallery: state.get("gallery") });
  const body = el("div", { class: "body" },
    el("a", { class: "name", href: videoAddress(hit.video, state), "data-go": true, title: shown(hit.path) }, el("bdi", {}, shown(hit.name))),
    sure(hit, state.get("like")), picture ? null : timeline(hit, state),
    ...hit.notes.map((words) => el("p", { class: "small warn" }, shown(words))),
    el("div", { class: "links" },
      el("a", { href: like, "data-go": true, "aria-label": `More moments like this one of ${shown(hit.name)}` }, "More like this"),
      el("button", { type: "button", onclick: (event) => copy(event, hit, best) }, "Copy time")));
  return el("li", {}, el("article", { class: "card", "data-hit": true }, shot, body));
}

// Confidence is told by sentences; what is like a video or a picture scores higher than those.
function sure(hit, like = null) {
  if (hit.confidence === null || like) return el("div", { class: "sure" }, `likeness ${Math.round(Math.max(0, hit.score) * 100)} %`);
  const percent = Math.round(hit.confidence * 100), low = hit.confidence < 0.5;
  const bar = el("i"); bar.style.width = `${percent}%`;
  return el("div", { class: "sure", title: `score ${hit.score.toFixed(3)}` },
    el("span", { class: `meter${low ? " low" : ""}`, "aria-hidden": "true" }, bar),
    el("span", {}, `${percent} % confident`));
}

function copy(event, hit, best) {
  const button = event.currentTarget;
  navigator.clipboard?.writeText(`${hit.path}\t${best.toFixed(2)}`).then(
    () => { button.textContent = "Copied"; say("Copied"); },
    () => { button.textContent = "Cannot copy"; });
}

// The span plays while the pointer or the focus rests on it.
function hover(shot, id, start, end) {
  let film = null, timer = 0;
  const off = () => { clearTimeout(timer); film?.remove(); film = null; };
  const on = () => {
    off();
    timer = setTimeout(async () => {
      const mine = timer;
      const info = await video(id).catch(() => null);
      if (!info || mine !== timer || !info.exists || !shot.isConnected) return;
      film = el("video", { muted: true, playsinline: true, preload: "auto", "aria-hidden": "true", tabindex: "-1" });
      film.muted = true;
      film.src = source(info, start, end);
      const first = info.played ? start : 0, last = info.played ? end : Infinity;
      film.addEventListener("loadedmetadata", (event) => { event.target.currentTime = first; });
      film.addEventListener("timeupdate", (event) => {
        if (event.target.currentTime >= last - 0.05) { event.target.currentTime = first; event.target.play().catch(() => {}); }
      });
      film.addEventListener("ended", (event) => { event.target.currentTime = first; event.target.play().catch(() => {}); });
      film.addEventListener("pause", (event) => { if (!event.target.ended && event.target.isConnected) event.target.play().catch(() => {}); });
      film.addEventListener("error", (event) => event.target.remove());
      shot.append(film);
      film.play().catch(() => {});
    }, 180);
  };
  const leave = () => { off(); timer = 0; };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  shot.addEventListener("mouseenter", on); shot.addEventListener("mouseleave", leave);
  if (!still) { shot.addEventListener("focus", on); shot.addEventListener("blur", leave); }
}

/* ---- time line ---- */

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); entry.target.draw(); }
});

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function timeline(hit, state, pick = null) {
  const asked = wanted(state, ["q", "not", "like", "at"]);
  if (!asked.has("q") && !asked.has("like")) return null;
  const line = svg("svg", { class: "line", viewBox: "0 0 400 40", preserveAspectRatio: "none", role: "img", "aria-label": "Scores over the video" });
  line.draw = async () => {
    const scores = await scoresOf(hit.video, asked).catch(() => null);
    if (!scores || scores.seconds.length < 2) { line.remove(); return; }
    drawLine(line, scores, hit);
    const choose = pick || ((second) => play(hit.video, second, hit.name, state));
    const last = scores.seconds[scores.seconds.length - 1];
    line.addEventListener("click", (event) => {
      const box = line.getBoundingClientRect();
      choose(Math.max(0, (event.clientX - box.left) / box.width * last));
    });
  };
  watcher.observe(line);
  return line;
}

function drawLine(line, { seconds, scores }, hit) {
  const last = seconds[seconds.length - 1] || 1;
  const low = Math.min(...scores), high = Math.max(...scores), range = Math.max(0.02, high - low);
  const x = (second) => (second / last * 400).toFixed(1), y = (score) => (37 - (score - low) / range * 33).toFixed(1);
  const points = seconds.map((second, place) => `${x(second)} ${y(scores[place])}`);
  if (hit.start !== undefined) {
    const end = hit.end === null || hit.end === undefined ? last : Math.min(last, hit.end);
    line.append(svg("rect", { class: "span", x: x(hit.start), y: 0, width: Math.max(2, (end - hit.start) / last * 400).toFixed(1), height: 40 }));
  }
  line.append(svg("path", { class: "curve", d: `M0 40L${points.join("L")}L400 40Z` }), svg("path", { class: "top", d: `M${points.join("L")}` }));
  const best = seconds[scores.indexOf(high)];
  line.setAttribute("aria-label", `Scores over the video, highest at ${clock(best)} of ${clock(last)}`);
}

/* ---- player ---- */

async function play(id, second, name, state) {
  $("playing").textContent = shown(name);
  const stage = player.querySelector(".stage"), about = player.querySelector(".about");
  stage.replaceChildren(el("p", {}, "Opening the video…"));
  about.replaceChildren();
  if (!player.open) player.showModal();
  let info;
  try { info = await video(id); } catch (error) { stage.replaceChildren(el("p", {}, error.message)); return; }
  const jump = film(stage, info, second);
  const line = timeline({ video: id, name }, state, jump);
  about.replaceChildren(...[line,
    el("p", { class: "small" }, el("a", { href: videoAddress(id, state), "data-go": true }, "All of this video")),
    info.played || !info.exists ? null : el("p", { class: "small" },
      "Browsers do not play this format: a preview without sound is shown, two minutes at a time.")].filter(Boolean));
  say(`Playing at ${clock(second)}`);
}

// Puts a video into a stage, at a second; gives what jumps to another one.
function film(stage, info, second) {
  if (!info.exists) { stage.replaceChildren(el("p", {}, "The video file does not exist any more.")); return () => {}; }
  const player = el("video", { controls: true, playsinline: true });
  let base = 0;
  const jump = (to) => {
    if (info.played) { if (!player.src) player.src = `/api/videos/${info.id}/file`; at(to); return; }
    base = Math.max(0, Math.floor(to) - 1);
    player.src = `/api/videos/${info.id}/preview?start=${base}&seconds=120`;
    at(to - base);
  };
  const at = (to) => {
    const set = () => { player.currentTime = to; player.play().catch(() => {}); };
    if (player.readyState) set(); else player.addEventListener("loadedmetadata", set, { once: true });
  };
  player.addEventListener("ended", () => { if (!info.played && info.seconds > base + 121) jump(base + 120); });
  player.addEventListener("error", () => stage.replaceChildren(el("p", {}, "The video cannot be played.")));
  stage.replaceChildren(player);
  jump(second);
  return jump;
}

player.addEventListener("close", () => player.querySelector(".stage").replaceChildren());
player.addEventListener("click", (event) => { if (event.target === player) player.close(); });
$("close").addEventListener("click", () => player.close());

/* ---- a video's page ---- */

const videoAddress = (id, state) => {
  const kept = wanted(state, ["q", "not", "like", "at", "gallery"]).toString();
  return `/video/${id}${kept ? "?" + kept : ""}`;
};

async function showVideo(mine, id) {
  const state = here();
  fill(state);
  waiting("Opening");
  const info = await video(id);
  if (mine !== turn) return;
  document.title = `${shown(info.name)} · c4c`;
  const stage = el("div", { class: "stage" }), top = el("div", { class: "big" });
  const captioned = info.clips.flatMap((clip) => clip.captions.map((text) => ({ clip, text })));
  const facts = [info.seconds ? clock(info.seconds) : null, info.width ? `${info.width} × ${info.height}` : null, info.codec,
    count(info.clips.length, "clip")].filter(Boolean).join(" · ");
  const like = address({ q: "", like: id, at: "", gallery: info.gallery });
  const side = [
    el("section", { class: "panel" }, el("h2", {}, "About"), el("p", { class: "small" }, shown(info.path)), el("p", { class: "small" }, facts),
      statusOf(info.status), el("p", { class: "links" }, el("a", { href: like, "data-go": true }, "Find videos like this"))),
    el("section", { class: "panel" }, el("h2", {}, "Captions"), captioned.length
      ? el("ul", { class: "rows" }, ...captioned.slice(0, 200).map(({ clip, text }) => el("li", {}, shown(text), spanOf(clip, info))))
      : el("p", { class: "small" }, "This video has no captions.")),
  ];
  const wrong = info.clips.filter((clip) => clip.status !== "ok");
  if (wrong.length) side.push(el("section", { class: "panel" }, el("h2", {}, "What went wrong"), el("ul", { class: "rows" },
    ...wrong.map((clip) => el("li", {}, el("b", {}, shown(clip.id)), el("p", { class: "small" }, `${shown(clip.status)}: ${shown(clip.message)}`))))));
  const left = el("div", {}, stage, top);
  main.replaceChildren(el("h1", {}, el("bdi", {}, shown(info.name))), el("div", { class: "split" }, left, el("div", {}, ...side)));
  const second = Number(location.hash.replace("#t=", "")) || 0;
  const jump = film(stage, info, second);
  stage.querySelector("video")?.setAttribute("aria-label", shown(info.name));
  if (info.exists && !info.played) top.append(el("p", { class: "small" }, "Browsers do not play this format: a preview without sound is shown, two minutes at a time."));
  await moments(mine, info, state, left, top, jump);
}

async function moments(mine, info, state, left, top, jump) {
  if (!state.get("q") && !state.get("like")) {
    left.append(el("section", { class: "panel big" }, el("h2", {}, "Moments"), el("p", { class: "small" }, "Search above, and the moments of this video that fit come first here.")));
    return;
  }
  const line = timeline({ video: info.id, name: info.name }, state, jump);
  if (line) top.append(line, el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, "0:00"), el("span", {}, info.seconds ? clock(info.seconds) : "")));
  const asked = wanted(state, ["q", "not", "like", "at"]);
  asked.set("path", info.path.replace(/[[*?]/g, "[$&]"));
  asked.set("gallery", info.gallery); asked.set("k", 20);
  const found = await api(`/api/search?${asked}`).catch((error) => ({ hits: [], error: error.message }));
  if (mine !== turn) return;
  const own = found.hits.filter((hit) => hit.video === info.id);
  left.append(el("section", { class: "panel big" }, el("h2", {}, "Moments that fit"), own.length
    ? el("ul", { class: "rows" }, ...own.map((hit) => el("li", {}, el("button", { type: "button", class: "chip", onclick: () => jump(hit.best ?? hit.start) },
      `${clock(hit.start)} – ${hit.end === null ? "end" : clock(hit.end)}`), sure(hit))))
    : el("p", { class: "small" }, found.error || "No moment of this video fits.")));
}

function spanOf(clip, info) {
  if (clip.start === 0 && clip.end === null && info.clips.length === 1) return null;
  return el("span", { class: "small" }, ` ${clock(clip.start)} – ${clip.end === null ? "end" : clock(clip.end)}`);
}
const STATUS = { ok: ["good", "Extracted whole"], partial: ["warn", "Partial: the file is damaged"], failed: ["bad", "Failed: some clips have no features"] };
const statusOf = (kind) => el("p", { class: STATUS[kind][0] }, STATUS[kind][1]);

/* ---- the library ---- */

async function showLibrary(mine) {
  const state = here();
  fill(new URLSearchParams());
  document.title = "Library · c4c";
  if (!main.querySelector("[data-library]")) waiting("Opening the library");
  const { galleries } = await api("/api/library");
  if (mine !== turn) return;
  const box = el("div", { "data-library": true }, el("h1", {}, "Library"), ...galleries.map(gallery));
  const list = el("section", { class: "panel" }, el("h2", {}, "Videos"));
  box.append(list);
  main.replaceChildren(box);
  await listVideos(mine, list, state);
  setTimeout(() => refreshLibrary(mine), 4000);
}

async function refreshLibrary(mine) {
  if (mine !== turn || document.hidden) return mine === turn && setTimeout(() => refreshLibrary(mine), 4000);
  const found = await api("/api/library").catch(() => null);
  if (mine !== turn) return;
  if (found) for (const one of found.galleries) document.querySelector(`[data-gallery="${CSS.escape(one.name)}"]`)?.replaceWith(gallery(one));
  setTimeout(() => refreshLibrary(mine), 4000);
}

function gallery(one) {
  const figure = (name, value, words = false) => el("div", {}, el("dt", {}, name), el("dd", { class: words ? "words" : null }, value));
  const parts = [el("h2", {}, shown(one.name)), el("p", { class: "small" }, shown(one.path))];
  if (one.shards_written < one.shards_planned) {
    parts.push(el("p", {}, `Extraction goes on: ${one.shards_written} of ${one.shards_planned} shards are written.`),
      el("progress", { max: one.shards_planned, value: one.shards_written, "aria-label": "Extraction" }));
  } else if (one.waiting_for) parts.push(el("p", { class: "warn" }, shown(one.waiting_for)));
  parts.push(el("dl", { class: "figures" }, figure("Videos", number(one.videos)), figure("Clips", number(one.clips)), figure("Frames", number(one.frames)),
    figure("Captions", number(one.captions)), figure("Partial", number(one.partial)), figure("Failed", number(one.failed)),
    figure("Missing", number(one.missing)), figure("On disk", size(one.bytes)),
    figure("Backbone", shown(one.backbone), true), figure("Weights", shown(one.weights), true), figure("Head", shown(one.head), true)));
  if (one.problems.length) {
    parts.push(el("details", {}, el("summary", {}, `${count(one.problems.length, "clip")} with problems`), el("ul", { class: "rows" },
      ...one.problems.map((wrong) => el("li", {}, el("a", { href: `/video/${wrong.video}`, "data-go": true }, el("bdi", {}, shown(wrong.clip))),
        el("p", { class: `small ${wrong.status === "partial" ? "warn" : "bad"}` }, `${shown(wrong.status)}: ${shown(wrong.message)}`))))));
  }
  return el("section", { class: "panel", "data-gallery": one.name }, ...parts);
}

async function listVideos(mine, list, state) {
  const offset = Number(state.get("offset")) || 0;
  const asked = new URLSearchParams({ limit: PAGE, offset });
  if (state.get("gallery")) asked.set("gallery", state.get("gallery"));
  const found = await api(`/api/videos?${asked}`);
  if (mine !== turn) return;
  list.append(found.videos.length ? el("ol", { class: "cards" }, ...found.videos.map(videoCard)) : el("p", {}, "There are no videos."));
  const pages = [];
  if (offset > 0) pages.push(el("a", { href: address({ offset: Math.max(0, offset - PAGE) || "" }, "/library"), "data-go": true }, "Earlier ones"));
  if (offset + PAGE < found.total) pages.push(el("a", { href: address({ offset: offset + PAGE }, "/library"), "data-go": true }, "Further ones"));
  if (pages.length) list.append(el("p", { class: "links" }, ...pages));
}

function videoCard(one) {
  const image = el("img", { src: thumbnail(one.id, 1), alt: "", loading: "lazy", decoding: "async" });
  const shot = el("div", { class: "shot", "data-why": "No picture can be shown" }, image);
  image.addEventListener("error", () => { image.remove(); shot.classList.add("empty"); });
  return el("li", {}, el("article", { class: "card" }, shot, el("div", { class: "body" },
    el("a", { class: "name", href: `/video/${one.id}`, "data-go": true, title: shown(one.path) }, el("bdi", {}, shown(one.name))),
    el("p", { class: "small" }, count(one.clips, "clip"), one.status === "ok" ? "" : el("span", { class: STATUS[one.status][0] }, ` · ${one.status}`)))));
}

/* ---- states ---- */

const note = (head, words, kind = "") => el("div", { class: `note ${kind}` }, el("h2", {}, head), el("p", {}, words));
function say(words) { status.textContent = words; }

function waiting(words) {
  say(words);
  const blank = () => el("li", {}, el("div", { class: "card" }, el("div", { class: "shot" }), el("div", { class: "body" }, el("b"), el("i"))));
  main.replaceChildren(el("h1", { class: "hidden" }, words), el("ul", { class: "cards wait", "aria-hidden": "true" }, ...Array.from({ length: 8 }, blank)));
}

async function welcome(mine) {
  const box = el("div", { class: "empty-state" }, el("h1", {}, "Find the moment"),
    el("p", {}, "Describe what happens in it. Or drop a picture here, and find moments that look like it."),
    el("p", { class: "small" }, "Keys: / to search, arrows between moments, Enter plays, m for more like it."));
  main.replaceChildren(box);
  say("");
  const { galleries } = await api("/api/library");
  if (mine !== turn) return;
  const all = galleries.reduce((sum, one) => sum + one.clips, 0), some = galleries.reduce((sum, one) => sum + one.videos, 0);
  box.append(el("p", { class: "small" }, `${count(all, "clip")} of ${count(some, "video")} are searched, on this machine alone.`));
  const letters = "aeiothsw", found = await api(`/api/suggest?q=${letters[Math.floor(Math.random() * 3)]}`);
  if (mine !== turn || !found.captions.length) return;
  box.append(el("ul", { class: "chips", "aria-label": "For example" }, ...found.captions.slice(0, 4).map((text) =>
    el("li", {}, el("a", { class: "chip", href: address({ q: text }), "data-go": true }, shown(text))))));
}

function failed(error) {
  say(error.message);
  main.replaceChildren(el("h1", { class: "hidden" }, "Error"), note("That did not work", error.message, "bad"),
    el("button", { type: "button", onclick: () => show() }, "Try again"));
}

async function show() {
  const mine = ++turn;
  aborter.abort(); aborter = new AbortController();
  if (player.open) player.close();
  close();
  const library = location.pathname === "/library", one = location.pathname.match(/^\/video\/([0-9a-f]{24})$/);
  const link = document.querySelector("nav a");
  if (library) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  try {
    if (library) await showLibrary(mine);
    else if (one) await showVideo(mine, one[1]);
    else await showSearch(mine);
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") failed(error);
  }
}

/* ---- suggestions ---- */

const list = $("suggestions");
let chosen = -1, typing = 0;
function close() { list.hidden = true; chosen = -1; q.setAttribute("aria-expanded", "false"); q.removeAttribute("aria-activedescendant"); }
function choose(place) {
  const options = [...list.children];
  chosen = (place + options.length) % options.length;
  options.forEach((option, at) => option.setAttribute("aria-selected", String(at === chosen)));
  q.setAttribute("aria-activedescendant", options[chosen].id);
  options[chosen].scrollIntoView({ block: "nearest" });
}
q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const words = q.value.trim();
    if (!words) return close();
    const asked = new URLSearchParams({ q: words });
    if (form.elements.gallery.value) asked.set("gallery", form.elements.gallery.value);
    const found = await api(`/api/suggest?${asked}`).catch(() => null);
    if (!found || q.value.trim() !== words || document.activeElement !== q) return;
    const captions = found.captions.filter((text) => text !== words);
    list.replaceChildren(...captions.map((text, place) => {
      const option = el("li", { role: "option", id: `option-${place}`, "aria-selected": "false" }, shown(text));
      option.addEventListener("mousedown", (event) => { event.preventDefault(); q.value = text; form.requestSubmit(); });
      return option;
    }));
    chosen = -1;
    list.hidden = !captions.length;
    q.setAttribute("aria-expanded", String(!list.hidden));
  }, 120);
});
q.addEventListener("keydown", (event) => {
  if (list.hidden || event.isComposing) return;
  if (event.key === "ArrowDown") { choose(chosen + 1); event.preventDefault(); }
  else if (event.key === "ArrowUp") { choose(chosen < 0 ? -1 : chosen - 1); event.preventDefault(); }
  else if (event.key === "Escape") { close(); event.preventDefault(); }
  else if (event.key === "Enter" && chosen >= 0) q.value = list.children[chosen].textContent;
});
q.addEventListener("blur", () => setTimeout(close, 100));

/* ---- events of the page ---- */

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  close();
  if (q.value.trim()) picture = null;
  const like = location.pathname === "/" ? { like: here().get("like"), at: here().get("at") } : {};
  const video = location.pathname.startsWith("/video/");
  const where = read(like);
  go(video ? location.pathname + where.slice(1) : where);
});
$("filters").addEventListener("change", (event) => {
  if (event.target.id === "picture") return byPicture(event.target.files[0]);
  if (q.value.trim() || picture || here().get("like")) form.requestSubmit();
});
$("more").addEventListener("click", () => {
  const box = $("filters");
  box.hidden = !box.hidden;
  $("more").setAttribute("aria-expanded", String(!box.hidden));
});
$("clear").addEventListener("click", () => {
  for (const name of ONCE) if (form.elements[name]) form.elements[name].value = "";
  form.requestSubmit();
});
function byPicture(file) {
  if (!file) return;
  picture = file;
  q.value = "";
  go(read());
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-go]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (link.classList.contains("brand")) picture = null;
  go(link.getAttribute("href"));
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
addEventListener("popstate", () => show());

let dragged = 0;
const isFile = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
addEventListener("dragenter", (event) => { if (isFile(event)) { dragged += 1; $("drop").hidden = false; } });
addEventListener("dragleave", (event) => { if (isFile(event) && --dragged <= 0) { dragged = 0; $("drop").hidden = true; } });
addEventListener("dragover", (event) => { if (isFile(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!isFile(event)) return;
  event.preventDefault();
  dragged = 0;
  $("drop").hidden = true;
  byPicture(event.dataTransfer.files[0]);
});

addEventListener("keydown", (event) => {
  const typed = event.target.closest("input, select, textarea, video, dialog[open]");
  if (typed || event.ctrlKey || event.metaKey || event.altKey) return;
  const shots = [...main.querySelectorAll("[data-hit] .shot")];
  const at = shots.findIndex((shot) => shot.closest("[data-hit]").contains(document.activeElement));
  if (event.key === "/") { q.focus(); q.select(); event.preventDefault(); }
  else if (event.key === "m" && at >= 0) shots[at].closest("[data-hit]").querySelector(".links a").click();
  else if (event.key.startsWith("Arrow") && shots.length) {
    const across = shots.filter((shot) => shot.getBoundingClientRect().top === shots[0].getBoundingClientRect().top).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (at < 0 && document.activeElement !== main && document.activeElement !== document.body) return;
    shots[at < 0 ? 0 : Math.min(shots.length - 1, Math.max(0, at + step))].focus();
    event.preventDefault();
  }
});

async function begin() {
  show();
  const { galleries } = await api("/api/library", { signal: null }).catch(() => ({ galleries: [] }));
  if (galleries.length > 1) {
    $("which").hidden = false;
    form.elements.gallery.append(...galleries.map((one, place) => el("option", { value: place ? one.name : "" }, shown(one.name))));
    form.elements.gallery.value = here().get("gallery") || "";
  }
  $("folders").append(...(galleries[0]?.folders || []).map((folder) => el("option", { value: folder })));
}
begin();
