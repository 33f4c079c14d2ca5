// Start: legend, pickers, figures, printing.
DATA = JSON.parse($("#data").textContent);
const DASH_ARRAYS = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "9 4", longdashdot: "9 3 2 3" };

function marker(symbol) {
  const shapes = { circle: "M18 4a4 4 0 1 0 .01 0z", square: "M14.5 4.5h7v7h-7z", diamond: "M18 3l5 5-5 5-5-5z", "triangle-up": "M18 3l5 9h-10z", "triangle-down": "M18 13l5-9h-10z" };
  return shapes[symbol.replace("-open", "")] ?? "M18 3v10M13 8h10";
}

function fillLegend() {
  const legend = $("#legend");
  legend.replaceChildren();
  for (const group of DATA.groups.filter((g) => g.setting === state.setting)) {
    const chip = el("button", { type: "button", class: `chip m-${group.method.replace(/[^a-zA-Z0-9]/g, "-")}`, "aria-pressed": String(!state.hidden.has(group.label)) });
    chip.innerHTML = `<svg viewBox="0 0 36 16" aria-hidden="true"><path d="M0 8h36" stroke="currentColor" stroke-width="2" stroke-dasharray="${DASH_ARRAYS[group.dash]}"/><path d="${marker(group.symbol)}" fill="${group.symbol.endsWith("-open") ? "var(--card)" : "currentColor"}" stroke="currentColor" stroke-width="1.5"/></svg>`;
    chip.append(group.label);
    chip.addEventListener("click", () => {
      if (!state.hidden.delete(group.label)) state.hidden.add(group.label);
      chip.setAttribute("aria-pressed", String(!state.hidden.has(group.label)));
      redraw((spec) => !spec.inside);
    });
    legend.append(chip);
  }
}

function fillRuns() {
  const select = $("#run");
  const runs = DATA.runs.map((run, place) => ({ run, place })).filter(({ run }) => DATA.groups[run.group].setting === state.setting);
  select.replaceChildren(...runs.map(({ run, place }) => {
    const seed = run.seed === null ? "" : `, seed ${run.seed}`;
    return el("option", { value: place }, `${DATA.groups[run.group].label}${seed}: ${run.name}${run.finished ? "" : " (in progress)"}`);
  }));
  state.run = runs.length ? runs[0].place : null;
}

function chooseSetting(place) {
  state.setting = place;
  state.hidden.clear();
  $$(".for-setting").forEach((part) => { part.hidden = Number(part.dataset.setting) !== place; });
  fillLegend();
  fillRuns();
  fillRunTables();
  redraw();
}

startTheme();
startTables();
startCopy();
compareFigures.concat(insideFigures).forEach(mountFigure);
chooseSetting(0);
$("#setting")?.addEventListener("change", (event) => chooseSetting(Number(event.target.value)));
$("#run").addEventListener("change", (event) => {
  state.run = Number(event.target.value);
  fillRunTables();
  redraw((spec) => spec.inside);
});
themeListeners.push(() => redraw());
startNav();
// On paper the page is light, and every figure is drawn.
let themeBeforePrint;
addEventListener("beforeprint", () => {
  themeBeforePrint = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  figures.forEach((figure) => draw(figure));
});
addEventListener("afterprint", () => {
  if (themeBeforePrint) document.documentElement.dataset.theme = themeBeforePrint;
  else delete document.documentElement.dataset.theme;
  redraw();
});
document.documentElement.dataset.ready = "yes";
