// The page of jobs: a connection, one of its lists, and one job with its loss curve. The address remembers the choice.

import { element, followColours, get, number, outerLink, say, stateBadge, terms, time } from "./common.js";

const PAGE = 25;
const OTHER = "\u0000other";
const POLL = 10_000;
const STORED = "airflow-provider-lamini.connection";

const by = (id) => document.getElementById(id);
const chosen = new URLSearchParams(location.search);
let listing = { jobs: [], total: 0 };
let first = 0;
let known = null; // what the connection offers
let request = 0; // responses to earlier requests are dropped
let polling = null;

function remember(changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (value) chosen.set(key, value);
    else chosen.delete(key);
  }
  history.replaceState(null, "", `?${chosen}`);
  if (changes.conn) store(changes.conn);
}

/** The connection that was chosen last in this browser; a browser may refuse to keep it. */
function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function store(conn) {
  try {
    localStorage.setItem(STORED, conn);
  } catch {
    // The next visit begins with the default connection.
  }
}

/** The connection to begin with: the last one, else a platform's default, else the first. */
function preferred(connections) {
  const ids = connections.map((each) => each.conn_id);
  return [stored(), ...ids.filter((id) => id.endsWith("_default")), ids[0]].find((id) => ids.includes(id));
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
  if (options.some(([key]) => key === value)) select.value = value;
}

function connectionPath(rest = "") {
  return `connections/${encodeURIComponent(chosen.get("conn"))}${rest}`;
}

/** Run a step of the page; its error becomes the page's message. A later step replaces an earlier one. */
async function step(work) {
  const mine = ++request;
  say("Loading…");
  try {
    const text = await work(() => mine === request);
    if (mine === request) say(text ?? null);
  } catch (error) {
    if (mine === request) say(error.message, true);
  }
}

async function loadConnections() {
  await step(async () => {
    const { connections } = await get("connections");
    const options = connections.map((each) => [each.conn_id, `${each.conn_id} (${each.platform})`]);
    const wanted = chosen.get("conn") ?? preferred(connections);
    const isListed = connections.some((each) => each.conn_id === wanted);
    fill(by("connection"), [...options, [OTHER, "Another one…"]], isListed ? wanted : OTHER);
    by("other").hidden = isListed;
    by("other-id").value = isListed || !wanted ? "" : wanted;
    if (wanted) {
      remember({ conn: wanted });
    } else {
      by("kind").closest("label").hidden = true;
      return "There is no connection to an LLM platform that you may read. Enter the id of one that is not in Airflow's database.";
    }
  });
  if (chosen.get("conn")) await loadConnection();
}

async function loadConnection() {
  known = null;
  clearList();
  await step(async (isCurrent) => {
    const found = await get(connectionPath());
    if (!isCurrent()) return;
    known = found;
    by("kind").closest("label").hidden = false;
    fill(by("kind"), known.lists.map((each) => [each.kind, each.title]), chosen.get("kind"));
    fill(by("find-kind"), known.kinds.map((each) => [each.kind, each.title]), chosen.get("jobkind"));
    by("find").hidden = false;
  });
  if (known) await loadScopes();
  if (known && chosen.get("job")) await showJob(chosen.get("jobkind"), chosen.get("job"));
}

async function loadScopes() {
  const list = known.lists.find((each) => each.kind === by("kind").value);
  by("scope-label").hidden = !list?.has_scopes;
  if (!list) {
    say(`${known.platform} lists no jobs. Find one by its id.`);
    return;
  }
  remember({ kind: list.kind });
  let ready = !list.has_scopes;
  if (list.has_scopes) {
    clearList();
    await step(async () => {
      const { scopes } = await get(connectionPath("/scopes"), { kind: list.kind });
      fill(by("scope"), scopes.map((each) => [each.id, each.name]), chosen.get("scope"));
      ready = scopes.length > 0;
      return ready ? null : "There are no projects yet.";
    });
  }
  if (ready) await loadJobs();
}

function clearList() {
  listing = { jobs: [], total: 0 };
  by("jobs").hidden = by("pager").hidden = true;
}

async function loadJobs() {
  const scope = by("scope-label").hidden ? "" : by("scope").value;
  remember({ scope });
  await step(async (isCurrent) => {
    const found = await get(connectionPath("/jobs"), { kind: by("kind").value, scope });
    if (!isCurrent()) return null;
    listing = found;
    first = 0;
    showPage();
    return found.total ? null : emptyText();
  });
}

/** An empty list, and where to look for the jobs that no list has. */
function emptyText() {
  const list = known.lists.find((each) => each.kind === by("kind").value);
  const unlisted = known.kinds.filter((kind) => !known.lists.some((each) => each.kind === kind.kind));
  const empty = `The list ${list.title} is empty.`;
  if (!unlisted.length) return empty;
  const titles = unlisted.map((kind) => kind.title).join(", ");
  return `${empty} ${known.platform} lists no jobs of these kinds: ${titles}. Find such a job by its id, or in its task's tab LLM results.`;
}

function showPage() {
  const page = listing.jobs.slice(first, first + PAGE);
  by("jobs").tBodies[0].replaceChildren(...page.map(jobRow));
  by("jobs").hidden = !page.length;
  const dated = listing.jobs.some((job) => job.updated_at !== null);
  for (const cell of by("jobs").querySelectorAll(".updated")) cell.hidden = !dated;
  by("pager").hidden = listing.jobs.length <= PAGE && listing.total === listing.jobs.length;
  const more = listing.total > listing.jobs.length ? ` (the newest of ${number(listing.total)})` : "";
  by("range").textContent = `${first + 1} to ${first + page.length} of ${number(listing.jobs.length)}${more}`;
  by("previous").disabled = first === 0;
  by("next").disabled = first + PAGE >= listing.jobs.length;
}

function jobRow(job) {
  const open = element("button", { type: "button", class: "job" }, job.job_id);
  const row = element(
    "tr",
    { "data-job": job.job_id, class: job.job_id === chosen.get("job") ? "selected" : null },
    element("td", { class: "job" }, open, job.name ? element("div", { class: "muted" }, job.name) : null),
    element("td", {}, stateBadge(job.state, job.word)),
    element("td", {}, ...progressOf(job)),
    element("td", { class: "time" }, time(job.created_at)),
    element("td", { class: "time updated" }, time(job.updated_at)),
    element("td", { class: "time" }, job.url ? outerLink(job.url, "Open") : ""),
  );
  row.addEventListener("click", () => {
    showJob(job.kind, job.job_id).then(() => by("detail").scrollIntoView({ block: "nearest" }));
  });
  return row;
}

function progressOf(job) {
  const parts = [];
  if (job.share !== null) parts.push(element("progress", { value: job.share, max: 1, title: job.progress }), " ");
  if (job.progress && !job.detail?.startsWith(job.progress)) parts.push(job.progress);
  if (job.detail) parts.push(element("div", { class: "muted" }, job.detail));
  return parts.length ? parts : ["–"];
}

/** Show one job; while it runs, again and again. */
async function showJob(kind, jobId) {
  clearTimeout(polling);
  remember({ jobkind: kind, job: jobId });
  for (const row of by("jobs").tBodies[0].rows) row.classList.toggle("selected", row.dataset.job === jobId);
  const panel = by("detail");
  const heading = element("h2", {}, jobId);
  try {
    const shown = await get(connectionPath("/job"), { kind, job_id: jobId });
    if (chosen.get("job") !== jobId) return;
    panel.replaceChildren(heading, ...jobDetail(shown));
    if (!shown.job.ended) polling = setTimeout(() => document.hidden || showJob(kind, jobId), POLL);
  } catch (error) {
    if (chosen.get("job") !== jobId) return;
    panel.replaceChildren(heading, element("p", { class: "message error" }, error.message));
  }
  panel.hidden = false;
}

function jobDetail({ job, losses, axis }) {
  const facts = terms([
    ["Kind", job.title],
    ["Name", job.name],
    ["State", stateBadge(job.state, job.word)],
    ["Platform says", job.word],
    ["Progress", job.progress],
    ["Detail", job.detail],
    ["Created", job.created_at ? time(job.created_at) : null],
    ["Updated", job.updated_at ? time(job.updated_at) : null],
    ["Page", job.url ? outerLink(job.url, "Open on the platform") : null],
  ]);
  if (!losses.length) return [facts];
  return [facts, element("h3", {}, "Loss"), lossCurve(losses, axis)];
}

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [560, 260, 52, 12, 12, 34];

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Round steps between two numbers, at most about six. */
function ticks(low, high) {
  if (high === low) return [low];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

function lossCurve(points, axis) {
  const start = points[0][0];
  const places = points.map(([place]) => (axis === "time" ? place - start : place));
  const losses = points.map(([, loss]) => loss);
  const [left, right] = [Math.min(...places), Math.max(...places)];
  const [low, high] = [Math.min(0, ...losses), Math.max(...losses)];
  const x = (place) => LEFT + ((place - left) / (right - left || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (loss) => HEIGHT - BOTTOM - ((loss - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const short = (value) => String(Number(value.toPrecision(4)));
  const label = axis === "time" ? "seconds since the first loss" : "step";
  const last = losses[losses.length - 1];
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  chart.append(svg("title", {}, `Loss, ${points.length} points, the last one ${short(last)}`));
  for (const loss of ticks(low, high)) {
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(loss), y2: y(loss) }));
    chart.append(svg("text", { x: LEFT - 6, y: y(loss) + 4, "text-anchor": "end" }, short(loss)));
  }
  for (const place of ticks(left, right)) {
    chart.append(svg("text", { x: x(place), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(place)));
  }
  chart.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, label));
  const line = places.map((place, index) => `${x(place).toFixed(1)},${y(losses[index]).toFixed(1)}`);
  chart.append(svg("polyline", { class: "curve", points: line.join(" ") }));
  const marker = svg("circle", { class: "point", r: 3.5, cx: x(places[places.length - 1]), cy: y(last) });
  const words = svg("text", { x: WIDTH - RIGHT, y: TOP + 8, "text-anchor": "end" });
  const mark = (index) => {
    marker.setAttribute("cx", x(places[index]));
    marker.setAttribute("cy", y(losses[index]));
    words.textContent = `${axis === "time" ? `${short(places[index])} s` : `step ${short(places[index])}`}: ${short(losses[index])}`;
  };
  mark(points.length - 1);
  chart.append(marker, words);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    let nearest = 0;
    places.forEach((place, index) => {
      if (Math.abs(x(place) - at) < Math.abs(x(places[nearest]) - at)) nearest = index;
    });
    mark(nearest);
  });
  chart.addEventListener("pointerleave", () => mark(points.length - 1));
  return chart;
}

function forgetJob() {
  clearTimeout(polling);
  remember({ job: null, jobkind: null });
  by("detail").hidden = true;
}

followColours();
by("connection").addEventListener("change", () => {
  const value = by("connection").value;
  by("other").hidden = value !== OTHER;
  if (value === OTHER) {
    by("other-id").focus();
    return;
  }
  forgetJob();
  remember({ conn: value, kind: null, scope: null });
  loadConnection();
});
by("other-id").addEventListener("change", () => {
  const value = by("other-id").value.trim();
  if (!value) return;
  forgetJob();
  remember({ conn: value, kind: null, scope: null });
  loadConnection();
});
by("kind").addEventListener("change", () => {
  forgetJob();
  loadScopes();
});
by("scope").addEventListener("change", () => {
  forgetJob();
  loadJobs();
});
by("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!chosen.get("conn")) return;
  if (known) loadScopes();
  else loadConnection();
  if (known && chosen.get("job")) showJob(chosen.get("jobkind"), chosen.get("job"));
});
by("find").addEventListener("submit", (event) => {
  event.preventDefault();
  showJob(by("find-kind").value, by("find-id").value.trim());
});
by("previous").addEventListener("click", () => {
  first = Math.max(0, first - PAGE);
  showPage();
});
by("next").addEventListener("click", () => {
  first += PAGE;
  showPage();
});
loadConnections();
