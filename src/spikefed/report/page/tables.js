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

// Widths in points as there: the text of an article, a mean letter, [command, letters beside those at 10 pt, a column beside its letters].
const TEXT_PT = 345;
const LETTER_PT = 5.6;
const TEX_SIZES = [["", 1, 12], ["\\small\n", 0.93, 12], ["\\footnotesize\n", 0.86, 6], ["\\scriptsize\n", 0.8, 6]];
const TEX_LONGEST = [22, 14, 10];

// At spaces but that behind a ±, and where room is scarce at hyphens.
function texLines(text, width) {
  const words = text.replaceAll("± ", "±\u00a0").split(" ").filter(Boolean).map((word) =>
    (width < TEX_LONGEST[0] ? word.split(/(?<=[\p{L}\d_!"'&.,?]-)(?=\p{L})/u) : [word]));
  const lines = [""];
  for (const parts of words) {
    parts.forEach((part, place) => {
      const last = lines.at(-1);
      const longer = last + (place || !last ? "" : " ") + part;
      if (!last || longer.length <= width) lines[lines.length - 1] = longer;
      else lines.push(part);
    });
  }
  return lines;
}

function texBroken(rows, longest) {
  const others = rows.slice(1).map((row) => row.map((cell) => texLines(cell, longest)));
  const below = rows[0].map((_, place) => (others.length ? Math.max(...others.flatMap((row) => row[place].map((line) => line.length))) : 1));
  return [rows[0].map((cell, place) => texLines(cell, Math.max(below[place], 8))), ...others];
}

function texWidth(rows, scale, gap) {
  const longest = rows[0].map((_, place) => Math.max(...rows.flatMap((row) => row[place].map((line) => line.length))));
  return longest.reduce((sum, letters) => sum + letters, 0) * LETTER_PT * scale + gap * longest.length;
}

// Cells as lines, the command of a size, and what a column takes beside its letters, so that the table fits.
function texFitted(cells) {
  const whole = cells.map((row) => row.map((cell) => [cell]));
  const forms = [whole, ...TEX_LONGEST.map((longest) => texBroken(cells, longest))];
  for (const rows of forms) {
    for (const [size, scale, gap] of rows === whole ? TEX_SIZES.slice(0, 1) : TEX_SIZES) {
      if (texWidth(rows, scale, gap) <= TEXT_PT) return [rows, size, gap];
    }
  }
  return [forms.at(-1), "\\tiny\n", 6];
}

function texCell(lines, side, level) {
  const told = lines.map((line) => texText(line.replace(/^-(?=\d)/, "−"))).join(" \\\\ ");
  return lines.length === 1 ? told : `\\begin{tabular}[${level}]{@{}${side}@{}}${told}\\end{tabular}`;
}

function tableTex(name, table) {
  const texts = (row) => [...row.cells].map((cell) => cell.textContent.split(/[ \n]+/).join(" ").trim());
  const head = $("thead tr", table);
  const columns = [...head.cells].map((cell) => (cell.classList.contains("num") ? "r" : "l")).join("");
  const [rows, size, gap] = texFitted([head, ...$$("tbody tr:not([hidden])", table)].map(texts));
  const line = (row, level) => `${row.map((cell, place) => texCell(cell, columns[place], level)).join(" & ")} \\\\`;
  const small = size + (gap < 12 ? "\\setlength{\\tabcolsep}{3pt}\n" : "");
  const body = rows.slice(1).map((row) => line(row, "t")).join("\n");
  return `% ${name}, made by spikefed report\n\\begin{table}\n\\centering\n${small}\\caption{${texText(table.caption.textContent)}}\n\\label{tab:${name}}\n\\begin{tabular}{${columns}}\n\\hline\n${line(rows[0], "b")}\n\\hline\n${body}\n\\hline\n\\end{tabular}\n\\end{table}\n`;
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
