// Tables become sortable (a button in each header), filterable (several rows) and downloadable as CSV.
const FILTER_FROM = 6;

function cellValue(cell) {
  const raw = cell.dataset.value;
  if (raw === undefined) return cell.textContent.trim();
  if (raw === "") return null;
  const value = Number(raw);
  return Number.isNaN(value) ? raw : value;
}

function compareCells(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, index) {
  const heads = $$("thead th", table);
  const direction = heads[index].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  table.closest(".table-block").classList.add("sorted");
  heads[index].setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = $$("tbody tr", table).map((row) => [cellValue(row.cells[index]), row]);
  // Cells without a value stay last in both directions.
  rows.sort(([a], [b]) => (a === null || b === null ? compareCells(a, b) : sign * compareCells(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  say(`Sorted by ${heads[index].textContent}, ${direction}`);
}

function tableCsv(table) {
  const rows = [$$("thead th", table).map((head) => head.textContent.trim())];
  for (const row of $$("tbody tr:not([hidden])", table)) {
    rows.push([...row.cells].map((cell) => cellValue(cell) ?? cell.textContent.trim()));
  }
  return csvText(rows);
}

// As `report/latex.py` writes it: a table environment that plain pdflatex takes.
const TEX = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$",
  "\u00a0": "~", "±": "$\\pm$", "×": "$\\times$", "−": "$-$", "–": "--", "—": "---", "µ": "$\\mu$", "·": "$\\cdot$", "…": "\\dots{}", "“": "``", "”": "''", "’": "'", "‘": "`", "\"": "''",
  "ε": "$\\varepsilon$", "δ": "$\\delta$", "α": "$\\alpha$", "≥": "$\\ge$", "≤": "$\\le$", "→": "$\\to$" };
const texText = (text) => [...text].map((c) => TEX[c] ?? (c < "\u0080" || (c >= "\u00c0" && c <= "\u00ff") ? c : "?")).join("");

function tableTex(name, table) {
  const line = (row) => `${[...row.cells].map((cell) => texText(cell.textContent.split(/[ \n]+/).join(" ").trim())).join(" & ")} \\\\`;
  const head = $("thead tr", table);
  const columns = [...head.cells].map((cell) => (cell.classList.contains("num") ? "r" : "l")).join("");
  const rows = $$("tbody tr:not([hidden])", table).map(line).join("\n");
  const size = columns.length > 5 ? "\\footnotesize\n" : "";
  return `% ${name}, made by spikefed report\n\\begin{table}\n\\centering\n${size}\\caption{${texText(table.caption.textContent)}}\n\\label{tab:${name}}\n\\begin{tabular}{${columns}}\n\\hline\n${line(head)}\n\\hline\n${rows}\n\\hline\n\\end{tabular}\n\\end{table}\n`;
}

function startTable(block) {
  const table = $("table", block);
  if (!table || block.dataset.ready) return;
  block.dataset.ready = "yes";
  const name = block.dataset.table;
  $$("thead th", table).forEach((head, index) => {
    const button = el("button", { type: "button", class: "sort", title: head.title || null }, head.textContent);
    button.addEventListener("click", () => sortBy(table, index));
    head.replaceChildren(button);
  });
  const rows = () => $$("tbody tr", table);
  const count = el("span", { class: "count" });
  const tools = el("div", { class: "table-tools" }, el("span", { class: "name", "aria-hidden": "true" }, table.caption.textContent), count);
  if (rows().length >= FILTER_FROM) {
    const input = el("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter the rows of: ${table.caption.textContent}` });
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows()) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      say(`${shown} of ${rows().length} rows shown`);
      count.textContent = words.length ? `${shown} of ${rows().length} rows` : `${shown} rows`;
    });
    count.textContent = `${rows().length} rows`;
    tools.append(input);
  }
  tools.append(el("button", {
    type: "button", class: "quiet", "aria-label": `Download as CSV: ${table.caption.textContent}`,
    onclick: () => save(`${name}.csv`, "text/csv;charset=utf-8", tableCsv(table)),
  }, "CSV"));
  tools.append(el("button", {
    type: "button", class: "quiet", "aria-label": `Download as LaTeX: ${table.caption.textContent}`,
    onclick: () => save(`${name}.tex`, "application/x-tex;charset=utf-8", tableTex(name, table)),
  }, "LaTeX"));
  block.prepend(tools);
}

function startTables(root = document) {
  $$(".table-block", root).forEach(startTable);
}

// A table from plain values: columns are names, cells are {text, value} or anything printable.
function tableBlock(name, caption, columns, rows) {
  const cell = (item, place) => {
    const rich = item !== null && typeof item === "object";
    const numeric = typeof (rich ? item.value : item) === "number";
    const text = rich ? item.text : item ?? "–";
    return el(place ? "td" : "th", {
      scope: place ? null : "row", class: numeric && place ? "num" : null,
      "data-value": rich ? item.value ?? "" : numeric ? item : item === null ? "" : null,
    }, String(text));
  };
  const numericColumn = columns.map((_, i) => i > 0 && rows.some((r) => typeof (r[i]?.value ?? r[i]) === "number"));
  const head = el("tr", {}, ...columns.map((c, i) => el("th", { scope: "col", class: numericColumn[i] ? "num" : null }, c)));
  const table = el("table", {}, el("caption", {}, caption), el("thead", {}, head),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))));
  const block = el("div", { class: "table-block", "data-table": name },
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table));
  startTable(block);
  return block;
}
