"use strict";
const value = (row, index) => {
  const cell = row.cells[index];
  if (!cell) return "";
  const text = cell.dataset.v ?? cell.textContent.trim();
  return text === "" || isNaN(text) ? text : Number(text);
};
const before = (a, b) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
};
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row, index), row]);
      const empty = (key) => key === "";
      rows.sort(([a], [b]) => (empty(a) || empty(b) ? before(a, b) : (down ? -1 : 1) * before(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  });
  if (body.rows.length > 5) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "Filter rows";
    input.setAttribute("aria-label", "Filter the rows of the table below");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of body.rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
    table.closest(".scroll").before(input);
  }
}
const mark = () => {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!row) return;
  for (let node = row; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  document.querySelectorAll("tr.hit").forEach((other) => other.classList.remove("hit"));
  if (!row.dataset || !row.dataset.group) return;
  row.hidden = false;
  for (const other of row.parentElement.rows) other.classList.toggle("hit", other.dataset.group === row.dataset.group);
  row.scrollIntoView({ block: "center" });
};
addEventListener("hashchange", mark);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
mark();
