// What both pages share: requests, elements, states, times, links and the colours of Airflow.
// Texts of platforms and models are only ever set as text, never as HTML.

/** Make an element. Attributes that are null or false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Get data below this page's own address; throws an Error whose message is for people. */
export async function get(path, parameters = {}) {
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [key, value] of Object.entries(parameters)) url.searchParams.set(key, value);
  let response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(60_000), headers: { Accept: "application/json" } });
    if (response.status === 401) response = (await withStoredToken(url)) ?? response;
  } catch (error) {
    throw new Error("Airflow's API server did not answer. Try again.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) throw new Error("You are not logged in. Reload Airflow and log in.");
  if (response.status === 403) throw new Error("You do not have the permission to see this.");
  throw new Error(typeof body.detail === "string" ? body.detail : `Airflow's API server answered ${response.status}.`);
}

// Airflow 3.1.0 keeps the token of its UI in the browser's storage; later versions use a cookie.
async function withStoredToken(url) {
  const token = localStorage.getItem("token");
  if (!token) return null;
  const bearer = token.replace(/^"|"$/g, "");
  return fetch(url, { signal: AbortSignal.timeout(60_000), headers: { Authorization: `Bearer ${bearer}` } });
}

/** Show or hide the page's message. */
export function say(text, isError = false) {
  const message = document.getElementById("message");
  message.hidden = !text;
  message.textContent = text ?? "";
  message.classList.toggle("error", isError);
}

export function stateBadge(state, word) {
  const shown = element("span", { class: `state ${state.replaceAll(" ", "-")}`, title: word ?? state }, state);
  return shown;
}

/** A Unix timestamp or an ISO date for people; a dash if it is not known. */
export function time(value) {
  if (value === null || value === undefined) return "–";
  const moment = new Date(typeof value === "number" ? value * 1000 : value);
  if (Number.isNaN(moment.getTime())) return "–";
  return moment.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function number(value) {
  return typeof value === "number" ? value.toLocaleString() : String(value);
}

/** A link to another site. Airflow shows this page in a frame that may open no windows, so Airflow's own window opens it. */
export function outerLink(url, text) {
  const link = element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text);
  link.addEventListener("click", (event) => {
    event.stopPropagation();
    if (window.parent === window) return;
    event.preventDefault();
    const outer = window.parent.document.createElement("a");
    Object.assign(outer, { href: url, target: "_blank", rel: "noopener noreferrer" });
    outer.click();
  });
  return link;
}

/** Fill a list of terms. Values are texts or elements. */
export function terms(pairs) {
  const list = element("dl");
  for (const [term, value] of pairs) {
    if (value !== null && value !== undefined && value !== "") list.append(element("dt", {}, term), element("dd", {}, value));
  }
  return list;
}

/** Follow the colours of Airflow, which may change while the page is open; elsewhere those of the browser. */
export function followColours() {
  const own = document.documentElement;
  const preference = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    outer = window.parent === window ? null : window.parent.document.documentElement;
  } catch {
    outer = null; // a page of another site
  }
  const follow = () => {
    const theirs = outer && (outer.classList.contains("dark") || outer.classList.contains("light"));
    own.classList.toggle("dark", theirs ? outer.classList.contains("dark") : preference.matches);
  };
  follow();
  preference.addEventListener("change", follow);
  if (outer) new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: ["class"] });
}
