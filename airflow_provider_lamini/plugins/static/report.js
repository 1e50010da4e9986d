// A report in Markdown as elements. It knows the Markdown that our reports use, and sets every text as text.

import { element } from "./common.js";

const MARKS = /`([^`]*)`|\*\*([^*]*)\*\*|\\([\\`*|<[&])/g;

/** Text with code, emphasis and escaped characters, as elements and texts. */
function inline(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(MARKS)) {
    const [whole, code, strong, escaped] = found;
    parts.push(text.slice(end, found.index));
    if (code !== undefined) parts.push(element("code", {}, code));
    else parts.push(strong === undefined ? escaped : element("strong", {}, strong));
    end = found.index + whole.length;
  }
  return [...parts, text.slice(end)];
}

function tableRow(line, cell) {
  return element("tr", {}, ...line.slice(2, -2).split(" | ").map((each) => element(cell, {}, ...inline(each))));
}

/** Turn a report into elements. A line of another kind becomes a paragraph. */
export function reportElements(markdown) {
  const made = [];
  const last = (name) => (made.at(-1)?.localName === name ? made.at(-1) : null);
  const list = () => last("ul") ?? made[made.push(element("ul")) - 1];
  for (const line of markdown.split("\n")) {
    if (!line || /^\|(---\|)+$/.test(line)) continue;
    if (line.startsWith("## ")) made.push(element("h4", {}, ...inline(line.slice(3))));
    else if (line.startsWith("# ")) made.push(element("h3", {}, ...inline(line.slice(2))));
    else if (line.startsWith("| ") && last("table")) last("table").append(tableRow(line, "td"));
    else if (line.startsWith("| ")) made.push(element("table", {}, tableRow(line, "th")));
    else if (line.startsWith("- ")) list().append(element("li", {}, ...inline(line.slice(2))));
    else if (line.startsWith("  - ") && last("ul")) {
      const item = last("ul").lastElementChild ?? last("ul");
      const inner = item.querySelector("ul") ?? item.appendChild(element("ul"));
      inner.append(element("li", {}, ...inline(line.slice(4))));
    } else made.push(element("p", {}, ...inline(line)));
  }
  return made;
}
