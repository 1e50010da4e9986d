// The page of a task: what it has done, in numbers, jobs, failed rows and a sample of its results.

import { duration, element, followColours, get, number, outerLink, say, stateBadge, terms, time } from "./common.js";
import { reportElements } from "./report.js";

const by = (id) => document.getElementById(id);
const ours = parameters();
let request = 0;

// Airflow 3.1 fills the address in without quoting, so that a plus is a plus and not a blank.
function parameters() {
  const found = {};
  for (const pair of location.search.slice(1).split("&")) {
    const [name, ...rest] = pair.split("=");
    const value = rest.join("=");
    try {
      found[name] = decodeURIComponent(value);
    } catch {
      found[name] = value;
    }
  }
  const mapIndex = Number.parseInt(found.map_index, 10);
  return { ...found, map_index: Number.isNaN(mapIndex) ? -1 : mapIndex }; // without a map index, its placeholder stays
}

function taskPath(rest = "") {
  const [dag, run, task] = [ours.dag_id, ours.run_id, ours.task_id].map((each) => encodeURIComponent(each ?? ""));
  return `dags/${dag}/runs/${run}/tasks/${task}/${ours.map_index}${rest}`;
}

async function load() {
  const mine = ++request;
  say("Loading…");
  try {
    const shown = await get(taskPath());
    if (mine !== request) return;
    if (shown.ours) {
      say(shown.notes.join(" ") || null);
      by("content").replaceChildren(...sections(shown));
      openLinkedFile();
      if (shown.jobs.length && shown.conn_id && shown.kind) await loadStates(mine);
    } else {
      by("content").replaceChildren();
      say("This task has left nothing to show here. The tab is for tasks of LLM operators, once they have begun.");
    }
  } catch (error) {
    if (mine === request) {
      by("content").replaceChildren();
      say(error.message, true);
    }
  }
}

function sections(shown) {
  const cards = element("div", { class: "cards" }, runCard(shown), countsCard(shown), factsCard(shown));
  return [
    cards,
    linksSection(shown.links),
    jobsSection(shown),
    rowsSection("Failed rows", "failed", shown.failed_rows, shown.counts.failed, ["reason", "error"]),
    rowsSection("Results", "results", shown.rows, shown.counts.rows, ["output", "error"]),
    ...shown.files.map(fileSection),
  ].filter((each) => each !== null);
}

function card(title, pairs) {
  const list = terms(pairs);
  return list.children.length ? element("section", { class: "card" }, element("h2", {}, title), list) : null;
}

function runCard({ task, platform, conn_id: connection, tokens, facts }) {
  return card("Run", [
    ["State", task.state],
    ["Platform", platform],
    ["Connection", connection],
    ["Started", task.started ? time(task.started) : null],
    ["Duration of this try", task.seconds === null ? null : duration(task.seconds)],
    ["Duration of the run", typeof facts.seconds === "number" ? duration(facts.seconds) : null],
    ...Object.entries(tokens).map(([name, value]) => [capital(name), number(value)]),
  ]);
}

function countsCard({ counts, unfinished }) {
  if (!counts.rows && unfinished) return null; // too early
  const names = { rows: "Rows", ok: "With an output", failed: "Failed", retried: "Sent again", reused: "Reused" };
  const byCount = (map) => Object.entries(map ?? {}).sort((left, right) => right[1] - left[1]);
  return card("Rows", [
    ...Object.entries(names).map(([key, title]) => [title, key in counts && (counts[key] || key !== "reused") ? number(counts[key]) : null]),
    ...byCount(counts.failures).map(([reason, count]) => [`Failed: ${reason}`, number(count)]),
    ...byCount(counts.finish_reasons).map(([reason, count]) => [`Finished: ${reason}`, number(count)]),
  ]);
}

function factsCard({ facts }) {
  return card("Result", Object.entries(facts).filter(([name]) => name !== "seconds").map(([name, value]) => [capital(name), number(value)]));
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function linksSection(links) {
  if (!links.length) return null;
  const items = links.flatMap(({ title, url }) => [outerLink(url, title), " "]);
  return element("section", { class: "links" }, element("h2", {}, "Links"), ...items);
}

function table(id, heads, rows) {
  const head = element("tr", {}, ...heads.map((each) => element("th", { class: each === "Index" ? "number" : null }, each)));
  return element(
    "div",
    { class: "scroll" },
    element("table", { id }, element("thead", {}, head), element("tbody", {}, ...rows)),
  );
}

function jobsSection({ jobs, conn_id: connection, kind }) {
  if (!jobs.length) return null;
  const rows = [...jobs].reverse().map(({ job_id: id }) => {
    const address = new URL("jobs", document.baseURI);
    address.search = new URLSearchParams({ conn: connection ?? "", jobkind: kind ?? "", job: id });
    const name = connection && kind ? element("a", { href: address.href }, id) : id;
    return element("tr", { "data-job": id }, element("td", {}, name), element("td", {}, "–"), element("td", {}, "–"), element("td", {}));
  });
  return element(
    "section",
    {},
    element("h2", {}, "Jobs"),
    table("jobs-of-task", ["Job", "State", "Progress", ""], rows),
    element("p", { id: "jobs-note", class: "muted" }),
  );
}

/** Ask for the states of the jobs, which only the platform knows, after everything else is shown. */
async function loadStates(mine) {
  try {
    const { jobs } = await get(taskPath("/jobs"));
    if (mine !== request) return;
    for (const job of jobs) {
      const row = by("content").querySelector(`tr[data-job="${CSS.escape(job.job_id)}"]`);
      if (!row) continue;
      if (job.error) {
        row.cells[2].replaceChildren(element("span", { class: "muted" }, job.error));
        continue;
      }
      row.cells[1].replaceChildren(stateBadge(job.state, job.word));
      row.cells[2].replaceChildren(job.detail ?? job.progress ?? "–");
      if (job.url) row.cells[3].replaceChildren(outerLink(job.url, "Open"));
    }
    if (jobs.length < by("jobs-of-task").tBodies[0].rows.length) {
      by("jobs-note").textContent = "Only the last jobs are looked up. Choose one to see its state.";
    }
  } catch (error) {
    if (mine === request) by("jobs-note").textContent = error.message;
  }
}

function rowsSection(title, id, rows, total, fields) {
  if (!rows.length) return null;
  const shownFields = fields.filter((field) => rows.some((row) => row[field] !== null));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row.columns)))];
  const body = rows.map((row) =>
    element(
      "tr",
      {},
      element("td", { class: "number" }, String(row.index)),
      ...columns.map((column) => element("td", { class: "column" }, row.columns[column] ?? "–")),
      ...shownFields.map((field) => element("td", { class: "text" }, row[field] ?? "–")),
    ),
  );
  const more = typeof total === "number" && total > rows.length ? `The first ${rows.length} of ${number(total)}.` : null;
  return element(
    "section",
    {},
    element("h2", {}, title),
    table(id, ["Index", ...columns, ...shownFields.map(capital)], body),
    more ? element("p", { class: "muted" }, more) : null,
  );
}

/** A file of the task, which is fetched when it is opened. */
function fileSection(name) {
  const body = element("div", { class: "file" });
  const made = element("details", { id: name }, element("summary", {}, capital(name)), body);
  made.addEventListener("toggle", async () => {
    if (!made.open || body.childElementCount) return;
    body.replaceChildren(element("p", { class: "muted" }, "Loading…"));
    try {
      const { uri, text, cut } = await get(taskPath(`/files/${name}`));
      const content = name === "report" ? reportElements(text) : [element("pre", {}, text)];
      const note = cut ? `${uri} is longer; this is its beginning.` : uri;
      body.replaceChildren(element("p", { class: "muted" }, note), ...content);
    } catch (error) {
      body.replaceChildren(element("p", { class: "message error" }, error.message));
    }
    if (linkedFile() === name) made.scrollIntoView();
  });
  return element("section", {}, made);
}

/** The window whose address names a file behind a hash: Airflow's, if Airflow shows this page in a frame. */
function addressed() {
  try {
    return window.parent.location.hash === undefined ? window : window.parent;
  } catch {
    return window; // in a page of another site
  }
}

function linkedFile() {
  return addressed().location.hash.slice(1);
}

function openLinkedFile() {
  const file = by("content").querySelector(`details[id="${CSS.escape(linkedFile())}"]`);
  if (!file) return;
  file.open = true;
  file.scrollIntoView();
}

function followAddress() {
  const outer = addressed();
  outer.addEventListener("hashchange", openLinkedFile);
  window.addEventListener("pagehide", () => outer.removeEventListener("hashchange", openLinkedFile));
}

followAddress();
followColours();
by("refresh").addEventListener("click", load);
load();
