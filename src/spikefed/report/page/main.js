// Start: legend, pickers, figures, printing.
DATA = JSON.parse($("#data").textContent);
const DASH_ARRAYS = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "9 4", longdashdot: "9 3 2 3" };

function marker(symbol) {
  const shapes = { circle: "M18 4a4 4 0 1 0 .01 0z", square: "M14.5 4.5h7v7h-7z", diamond: "M18 3l5 5-5 5-5-5z", "triangle-up": "M18 3l5 9h-10z", "triangle-down": "M18 13l5-9h-10z",
    hexagon: "M14 3.5h8l4 4.5-4 4.5h-8l-4-4.5z", pentagon: "M18 3l5 3.8-2 6h-6l-2-6z", star: "M18 2l1.6 4.2 4.4.2-3.4 2.8 1.2 4.3-3.8-2.5-3.8 2.5 1.2-4.3-3.4-2.8 4.4-.2z",
    cross: "M16.5 3.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", x: "M14 3l4 3.4 4-3.4 1.6 1.6L20 8l3.6 3.4L22 13l-4-3.4-4 3.4-1.6-1.6L16 8l-3.6-3.4z" };
  return shapes[symbol.replace("-open", "")] ?? shapes.circle;
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
  nameRun();
}

// Paper shows no list to choose from: the run's name stands there instead.
function nameRun() {
  $("#run-name").textContent = $("#run").selectedOptions[0]?.textContent ?? "";
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
if (await unpackLibrary()) compareFigures.concat(insideFigures).forEach(mountFigure);
else $("#legend").before(el("p", { class: "caveat" }, "This browser cannot unpack the drawing library (it is older than 2023), so there are no figures; every table is complete."));
chooseSetting(0);
$("#setting")?.addEventListener("change", (event) => chooseSetting(Number(event.target.value)));
$("#run").addEventListener("change", (event) => {
  state.run = Number(event.target.value);
  nameRun();
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
