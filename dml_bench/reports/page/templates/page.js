"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const said = document.getElementById("said");
  root.dataset.live = "";

  // Theme: follows the system until somebody asks for the other one; kept while the page is open.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  // Sort: numbers by data-value, texts as `natural` of summary.py does (K=2 before K=10, 0.15 before 0.2); what is
  // missing stays last either way. Parts are text, number, text, ...
  const natural = (text) => text.split(/(\d+(?:\.\d+)?)/).map((part, i) => (i % 2 ? Number(part) : part));
  const byParts = (a, b) => {
    const i = a.findIndex((part, i) => part !== b[i]);
    if (i < 0) return a.length - b.length;
    return i < b.length && a[i] < b[i] ? -1 : 1;
  };
  const key = (cell, isNumber) => {
    if (isNumber) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text ? natural(text) : null;
  };
  const sort = (body, column, isNumber, sign) => {
    const keyed = [...body.rows].map((row) => [key(row.cells[column], isNumber), row]);
    const compare = isNumber ? (a, b) => a - b : byParts;
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return a === b ? 0 : sign * compare(a, b);
    });
    const sorted = document.createDocumentFragment();
    sorted.append(...keyed.map(([, row]) => row));
    body.append(sorted);
  };
  const opposite = { ascending: "descending", descending: "ascending" };
  const onSort = (title) => {
    const order = opposite[title.ariaSort] ?? title.dataset.first;
    all("th[aria-sort]", title.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", order);
    for (const body of title.closest("table").tBodies) {
      sort(body, title.cellIndex, title.classList.contains("number"), order === "ascending" ? 1 : -1);
    }
  };
  for (const button of all("thead th button")) {
    button.addEventListener("click", () => onSort(button.parentElement));
  }

  // Filter: every word must be somewhere in the texts of the row.
  for (const input of all("input[type=search]")) {
    const table = document.getElementById(input.getAttribute("aria-controls"));
    const count = input.closest(".tools").querySelector("output");
    const named = all("thead th", table).filter((title) => title.hasAttribute("data-named"));
    const rows = all("tbody tr", table);
    const text = (row) => named.map((title) => row.cells[title.cellIndex].textContent).join(" ").toLowerCase();
    let texts;
    const show = () => {
      texts ??= rows.map(text);
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const kept = rows.filter((row, i) => !(row.hidden = !words.every((word) => texts[i].includes(word))));
      count.textContent = words.length ? `${kept.length} of ${rows.length} rows` : `${rows.length} rows`;
    };
    count.textContent = `${rows.length} rows`;
    input.addEventListener("input", show);
    show();
  }

  // Pictures scroll in narrow windows alone, so the keyboard stops at them there alone.
  const narrow = matchMedia("(max-width: 40rem)");
  const stops = () => {
    for (const box of all(".picture")) {
      if (narrow.matches) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  narrow.addEventListener("change", stops);
  stops();

  // Recipes: each line is stored once.
  const { lines, recipes } = JSON.parse(document.getElementById("recipes").textContent);
  const recipe = (id) => recipes[id].map((line) => lines[line]).join("\n");
  const open = (details) => {
    details.querySelector("pre").textContent ||= recipe(details.dataset.recipe);
  };
  for (const details of all("details.recipe")) {
    details.addEventListener("toggle", () => details.open && open(details));
  }
  // Where the clipboard is out of reach, as on pages opened without a secure connection, the old way still works.
  const copyByHand = (text, button) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    button.focus();
    return done;
  };
  const copy = async (button) => {
    const text = recipe(button.dataset.recipe);
    let done;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyByHand(text, button);
    }
    const details = button.parentElement.querySelector("details");
    details.open ||= !done;
    said.textContent = done
      ? `Recipe ${button.dataset.recipe} copied`
      : `Recipe ${button.dataset.recipe} could not be copied; it is shown, to be copied by hand`;
    const name = button.firstChild;
    name.data = done ? "Copied" : "Not copied";
    setTimeout(() => { name.data = "Copy"; }, 2000);
  };
  for (const button of all("button.copy")) {
    button.addEventListener("click", () => copy(button));
  }
})();
