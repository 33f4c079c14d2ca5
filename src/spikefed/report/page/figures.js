// The figure frame (title, controls, export, numbers as a table) and the figures that compare groups.
let DATA = null; // set by main.js once, by live.js at every change
const state = { setting: 0, run: null, measure: "upstream", hidden: new Set() };
const figures = new Map(); // id -> {spec, node, plot, drawn, visible}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colourOf = (group) => group.colour[isDark() ? 1 : 0];
const alpha = (hex, a) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${a})`;
const shownGroups = () => DATA.groups.filter((g) => g.setting === state.setting && !state.hidden.has(g.label));
const reduced = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");

function layoutOf(extra) {
  const axis = {
    gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--line"), tickcolor: css("--line"),
    automargin: true, ticks: "outside", ticklen: 4, title: { font: { size: 13 }, standoff: 8 },
  };
  const { xaxis, yaxis, ...rest } = extra;
  return {
    font: { family: css("--sans"), size: 12.5, color: css("--soft") },
    paper_bgcolor: css("--card"), plot_bgcolor: css("--card"),
    margin: { l: 8, r: 14, t: 12, b: 8 }, showlegend: false, hovermode: "closest", autosize: true,
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink") } },
    ...rest,
    xaxis: { ...axis, ...xaxis, title: { ...axis.title, ...xaxis?.title } },
    yaxis: { ...axis, ...yaxis, title: { ...axis.title, ...yaxis?.title } },
  };
}

// A logarithmic axis with one label a decade, and some between when the range is short; of decimal bytes unless told otherwise.
function bytesAxis(values, title, written = bytesText) {
  const known = values.filter((v) => v > 0);
  if (!known.length) return { title: { text: title } };
  const low = Math.log10(Math.min(...known));
  const high = Math.log10(Math.max(...known));
  const pad = Math.max(0.06 * (high - low), 0.08);
  const decades = Array.from({ length: Math.ceil(high) - Math.floor(low) + 2 }, (_, i) => Math.floor(low) - 1 + i);
  const seen = (tick) => Math.log10(tick) > low - pad && Math.log10(tick) < high + pad;
  const choices = [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]].map((steps) => decades.flatMap((d) => steps.map((s) => s * 10 ** d)));
  const ticks = choices.find((made) => made.filter(seen).length >= 3) ?? choices.at(-1);
  return {
    type: "log", range: [low - pad, high + pad], tickvals: ticks, title: { text: title },
    ticktext: ticks.map((t) => written(t).replace(/\.0+ /, " ").replace(/(\.\d*?)0+ /, "$1 ")), tickangle: 0,
  };
}

// As many digits as tell neighbouring ticks apart.
function percentAxis(title, values) {
  const known = values.filter((v) => v !== null && v !== undefined);
  const span = Math.max(...known) - Math.min(...known);
  return { tickformat: span > 0.05 ? ".0%" : span > 0.005 ? ".1%" : ".2%", title: { text: title } };
}
// What an axis says: what is summed, over whom, from when on; and how many seeds stand behind a line.
const bytesTitle = (each = "from round 1 on") => `${DATA.measures[state.measure]}: bytes of all clients, ${each}`;
const accuracyTitle = (groups) => `Server accuracy, ${groups.some((g) => g.seeds > 1) ? "mean over seeds" : "one seed"}`;

// The reader's own numbers, where they stand in a figure over rounds or bytes.
const pointsOver = (against) => (DATA.points ?? []).filter((p) => p.places[against] > 0);
function pointTraces(against) {
  const mine = pointsOver(against);
  return mine.length ? [{
    x: mine.map((p) => p.places[against]), y: mine.map((p) => p.accuracy), mode: "markers+text", name: "Your own numbers",
    text: mine.map((p) => p.label.replaceAll("&", "&amp;").replaceAll("<", "&lt;")), textposition: "top center", textfont: { color: css("--ink") }, cliponaxis: false,
    marker: { symbol: "star", size: 12, color: css("--ink") }, hovertemplate: "<b>%{text}</b><br>%{y:.1%}<extra></extra>",
  }] : [];
}
const pointRows = (against) => pointsOver(against).map((p) => [p.label, p.places.rounds ?? null, { text: percentText(p.accuracy), value: p.accuracy }, null, null,
  against === "rounds" ? null : { text: bytesText(p.places[against]), value: p.places[against] }]);

const accuracies = (groups) => groups.flatMap((g) => [...g.low, ...g.high]);
const roundAxis = (rounds) => {
  const low = Math.min(...rounds);
  const high = Math.max(...rounds);
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => (high - low) / s <= 10) ?? 1000;
  const pad = Math.max(0.3, 0.03 * (high - low));
  return { title: { text: "Round" }, tickformat: "d", dtick: step, tick0: 0, range: [low - pad, high + pad], zeroline: false };
};

// Line of the mean with markers, and a band from the lowest to the highest seed when there are several.
function bandTraces(group, xs, hover) {
  const colour = colourOf(group);
  const several = group.low.some((v, i) => v !== group.high[i]);
  const traces = [];
  if (several) {
    const band = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: group.label };
    traces.push({ ...band, x: xs, y: group.high });
    traces.push({ ...band, x: xs, y: group.low, fill: "tonexty", fillcolor: alpha(colour, 0.18) });
  }
  traces.push({
    x: xs, y: group.mean, name: group.label, legendgroup: group.label, mode: "lines+markers",
    line: { color: colour, width: 2.2, dash: group.dash },
    marker: { color: colour, size: xs.length > 30 ? 4 : 7, symbol: group.symbol },
    text: xs.map((_, i) => hover(i)), hovertemplate: "%{text}<extra></extra>",
  });
  return traces;
}

function hoverOf(group, measure) {
  return (i) => {
    const range = group.low[i] === group.high[i] ? "" : ` (seeds ${percentText(group.low[i])} to ${percentText(group.high[i])})`;
    const total = group.totals[measure];
    return `<b>${group.label}</b><br>round ${group.rounds[i]}: ${percentText(group.mean[i])}${range}` +
      (total ? `<br>${bytesText(total[i])} so far` : "");
  };
}

function accuracyTable(groups, measure) {
  const rows = [];
  for (const g of groups) {
    g.rounds.forEach((round, i) => rows.push([g.label, round, { text: percentText(g.mean[i]), value: g.mean[i] },
      { text: percentText(g.low[i]), value: g.low[i] }, { text: percentText(g.high[i]), value: g.high[i] },
      { text: bytesText(g.totals[measure]?.[i]), value: g.totals[measure]?.[i] ?? null }]));
  }
  return { columns: ["Method", "Round", "Mean accuracy", "Lowest seed", "Highest seed", DATA.measures[measure]], rows };
}

// Accuracy over what a device spends, with the numbers as a table.
const costText = { energy: energyText, seconds: spanText };
function costFigure(cost) {
  const groups = shownGroups().filter((g) => g.costs?.[cost] && g.mean.some((v) => v !== null));
  if (!groups.length) return null;
  const rest = shownGroups().filter((g) => g.rounds.length && !g.costs?.[cost]);
  const written = costText[cost];
  const hover = (g) => (i) => `<b>${g.label}</b><br>round ${g.rounds[i]}: ${percentText(g.mean[i])}<br>${written(g.costs[cost][i])} so far`;
  return {
    note: rest.length ? `Not shown, as their files do not tell: ${rest.map((g) => g.label).join(", ")}.` : "",
    data: groups.flatMap((g) => bandTraces(g, g.costs[cost], hover(g))),
    layout: { xaxis: bytesAxis(groups.flatMap((g) => g.costs[cost]), DATA.costs[cost], written), yaxis: percentAxis(accuracyTitle(groups), accuracies(groups)) },
    table: {
      columns: ["Method", "Round", "Mean accuracy", DATA.costs[cost]],
      rows: groups.flatMap((g) => g.rounds.map((round, i) => [g.label, round, { text: percentText(g.mean[i]), value: g.mean[i] }, { text: written(g.costs[cost][i]), value: g.costs[cost][i] }])),
    },
  };
}

const withRows = (table, rows) => ({ ...table, rows: [...table.rows, ...rows] });

// A logarithmic axis has no place for zero, and a figure none for a method without the measure: named, not passed over.
function leftOut() {
  const groups = shownGroups().filter((g) => g.rounds.length);
  const sent = (g) => g.totals[state.measure]?.some((v) => v > 0);
  if (!groups.some(sent)) return "";
  const named = (rest, why) => (rest.length ? `${why}: ${rest.map((g) => g.label).join(", ")}.` : "");
  const silent = groups.filter((g) => g.totals[state.measure] && !sent(g));
  const without = groups.filter((g) => !g.totals[state.measure]);
  return [named(silent, "Not shown, as 0 bytes have no place on the axis"), named(without, "Not shown, as this is not counted for them")].filter(Boolean).join(" ");
}

const compareFigures = [
  {
    id: "acc-rounds", title: "Accuracy against rounds",
    caption: "Server accuracy. Line: mean over seeds; band: lowest to highest seed.",
    draw() {
      const groups = shownGroups().filter((g) => g.mean.some((v) => v !== null));
      if (!groups.length) return null;
      return {
        data: [...groups.flatMap((g) => bandTraces(g, g.rounds, hoverOf(g, state.measure))), ...pointTraces("rounds")],
        layout: {
          xaxis: roundAxis([...groups.flatMap((g) => g.rounds), ...pointsOver("rounds").map((p) => p.places.rounds)]),
          yaxis: percentAxis(accuracyTitle(groups), [...accuracies(groups), ...pointsOver("rounds").map((p) => p.accuracy)]),
        },
        table: withRows(accuracyTable(groups, state.measure), pointRows("rounds")),
      };
    },
  },
  {
    id: "acc-bytes", title: "Accuracy against bytes sent", measures: true,
    caption: "The same curves over the cumulative bytes of all clients, on a logarithmic axis.",
    draw() {
      const groups = shownGroups().filter((g) => g.totals[state.measure] && g.mean.some((v) => v !== null));
      if (!groups.length) return null;
      return {
        note: leftOut(),
        data: [...groups.flatMap((g) => bandTraces(g, g.totals[state.measure], hoverOf(g, state.measure))), ...pointTraces(state.measure)],
        layout: {
          xaxis: bytesAxis([...groups.flatMap((g) => g.totals[state.measure]), ...pointsOver(state.measure).map((p) => p.places[state.measure])], bytesTitle()),
          yaxis: percentAxis(accuracyTitle(groups), [...accuracies(groups), ...pointsOver(state.measure).map((p) => p.accuracy)]),
        },
        table: withRows(accuracyTable(groups, state.measure), pointRows(state.measure)),
      };
    },
  },
  {
    id: "take-home", title: "What clients take home",
    caption: "Mean over seeds. Solid: the server’s network; dashed, with a band from the worst to the best client: the clients’ own networks; dotted: the vote of all clients.",
    draw() {
      const groups = shownGroups().filter((g) => g.home.clients_accuracy_mean);
      if (!groups.length) return null;
      const data = groups.flatMap((g) => {
        const colour = colourOf(g);
        const line = (name, ys, dash) => ({
          x: g.rounds, y: ys, name: `${g.label}, ${name}`, mode: "lines+markers", line: { color: colour, width: 2.2, dash },
          marker: { color: colour, size: g.rounds.length > 30 ? 4 : 6, symbol: g.symbol },
          text: g.rounds.map((round, i) => `<b>${g.label}</b>, ${name}<br>round ${round}: ${percentText(ys[i])}`), hovertemplate: "%{text}<extra></extra>",
        });
        const edge = { x: g.rounds, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
        return [
          { ...edge, y: g.home.clients_accuracy_most },
          { ...edge, y: g.home.clients_accuracy_least, fill: "tonexty", fillcolor: alpha(colour, 0.14) },
          line("server", g.mean, "solid"), line("clients", g.home.clients_accuracy_mean, "dash"), line("vote", g.home.vote_accuracy, "dot"),
        ];
      });
      const share = (value) => ({ text: percentText(value), value });
      const keys = ["clients_accuracy_mean", "clients_accuracy_least", "clients_accuracy_most", "vote_accuracy"];
      return {
        data,
        layout: { xaxis: roundAxis(groups.flatMap((g) => g.rounds)), yaxis: percentAxis("Accuracy on the test set", groups.flatMap((g) => [...g.mean, ...keys.flatMap((k) => g.home[k])])) },
        table: {
          columns: ["Method", "Round", "Server", "Clients, mean", "Clients, least", "Clients, most", "Vote"],
          rows: groups.flatMap((g) => g.rounds.map((round, i) => [g.label, round, share(g.mean[i]), ...keys.map((k) => share(g.home[k][i]))])),
        },
      };
    },
  },
  {
    id: "acc-seconds", title: "Accuracy against computing time",
    caption: "One client’s own computing, clients being devices of their own, and the server’s, from round 1 on; logarithmic axis.",
    draw: () => costFigure("seconds"),
  },
  {
    id: "acc-energy", title: "Accuracy against a client’s energy",
    caption: "Arithmetic of one client’s training from round 1 on, mean over clients, estimated from the spikes of the finished network; logarithmic axis.",
    draw: () => costFigure("energy"),
  },
  {
    id: "bytes-target", title: "Bytes to reach each target", measures: true, tall: true,
    caption: "Bytes until the target is first reached: the point is the mean over the seeds that reach it, the line from the least to the most of them; logarithmic axis.",
    draw() {
      const groups = shownGroups();
      const rows = DATA.targets.filter((r) => groups.includes(DATA.groups[r.group]));
      const values = rows.map((r) => r.bytes[state.measure]).filter((v) => v > 0);
      if (!values.length) return null;
      const found = rows.flatMap((r) => r.ends?.[state.measure] ?? []);
      const axis = bytesAxis([...values, ...found], bytesTitle());
      // Who has no point on a logarithmic axis stands at its left end, in words.
      const edge = axis.range[0] - 0.05;
      axis.range = [edge - 0.01, axis.range[1] + 0.35 * (axis.range[1] - edge)];
      const name = (r) => percentText(r.target, Number.isInteger(Math.round(1e4 * r.target) / 100) ? 0 : 1);
      const line = (r) => `${DATA.groups[r.group].label}, ${name(r)}`;
      const data = groups.map((g) => {
        const mine = rows.filter((r) => DATA.groups[r.group] === g);
        const sizes = mine.map((r) => (r.reached ? r.bytes[state.measure] : null));
        const ends = mine.map((r, i) => r.ends?.[state.measure] ?? [sizes[i], sizes[i]]);
        const several = (i) => sizes[i] && ends[i][1] > ends[i][0];
        return {
          mode: "markers+text", name: g.label, y: mine.map(line), x: sizes.map((v) => (v ? v : 10 ** edge)),
          error_x: { type: "data", symmetric: false, array: sizes.map((v, i) => (several(i) ? ends[i][1] - v : null)), arrayminus: sizes.map((v, i) => (several(i) ? v - ends[i][0] : null)), color: colourOf(g), thickness: 1.5, width: 4 },
          marker: { color: colourOf(g), symbol: g.symbol, size: 10, opacity: sizes.map((v) => (v ? 1 : 0)) },
          text: mine.map((r) => `   ${r.reached ? r.text[state.measure] + (r.reached < r.seeds ? ` (${r.reached} of ${r.seeds} seeds)` : "") : "not reached"}`),
          textposition: "middle right", cliponaxis: false, textfont: { color: css("--ink"), size: 12 }, hovertemplate: "%{y}: %{text}<extra></extra>",
        };
      });
      return {
        data, height: Math.max(260, 90 + 26 * rows.length),
        layout: { xaxis: axis, yaxis: { type: "category", categoryorder: "array", categoryarray: rows.map(line).reverse(), title: { text: "Method and target" }, ticks: "" } },
        table: {
          columns: ["Method", "Target", "Seeds that reached it", DATA.measures[state.measure]],
          rows: rows.map((r) => [DATA.groups[r.group].label, { text: name(r), value: r.target }, `${r.reached} of ${r.seeds}`,
            { text: r.reached ? r.text[state.measure] : "not reached", value: r.bytes[state.measure] }]),
        },
      };
    },
  },
  {
    id: "bytes-round", title: "Bytes in each round", measures: true,
    caption: "Bytes of all clients in the round, mean over seeds; logarithmic axis.",
    draw() {
      const groups = shownGroups().filter((g) => g.totals[state.measure]);
      if (!groups.length) return null;
      const steps = groups.map((g) => g.totals[state.measure].map((v, i, all) => v - (i ? all[i - 1] : 0)));
      return {
        note: leftOut(),
        data: groups.map((g, k) => ({
          x: g.rounds, y: steps[k].map((v) => v || null), name: g.label, mode: "lines+markers", line: { color: colourOf(g), width: 2, dash: g.dash, shape: "hvh" },
          marker: { color: colourOf(g), symbol: g.symbol, size: 6 }, text: steps[k].map(bytesText),
          hovertemplate: `<b>${g.label}</b><br>round %{x}: %{text}<extra></extra>`,
        })),
        layout: { xaxis: roundAxis(groups.flatMap((g) => g.rounds)), yaxis: bytesAxis(steps.flat(), bytesTitle("each round")) },
        table: { columns: ["Method", "Round", DATA.measures[state.measure]], rows: groups.flatMap((g, k) => g.rounds.map((r, i) => [g.label, r, { text: bytesText(steps[k][i]), value: steps[k][i] }])) },
      };
    },
  },
  {
    id: "pareto", title: "Pareto front", measures: true,
    caption: "Every round of every method; the stepped line is the best accuracy of any round to be had for at most so many bytes.",
    draw() {
      const groups = shownGroups().filter((g) => g.totals[state.measure]);
      const points = groups.flatMap((g) => g.rounds.map((round, i) => ({ g, round, x: g.totals[state.measure][i], y: g.mean[i] }))).filter((p) => p.y !== null && p.x > 0);
      if (!points.length) return null;
      points.sort((a, b) => a.x - b.x || b.y - a.y);
      let best = -1;
      const front = points.filter((p) => p.y > best && ((best = p.y), true));
      const end = points.at(-1).x;
      const data = [{
        x: [...front.map((p) => p.x), end], y: [...front.map((p) => p.y), best], mode: "lines", name: "Pareto front",
        line: { shape: "hv", color: css("--soft"), width: 1.5, dash: "dot" }, hoverinfo: "skip",
      }];
      for (const g of groups) {
        const mine = points.filter((p) => p.g === g);
        const on = mine.map((p) => front.includes(p));
        data.push({
          x: mine.map((p) => p.x), y: mine.map((p) => p.y), name: g.label, mode: "markers",
          marker: { color: colourOf(g), symbol: g.symbol, size: on.map((o) => (o ? 10 : 6)), opacity: on.map((o) => (o ? 1 : 0.45)) },
          text: mine.map((p) => `round ${p.round}: ${percentText(p.y)} at ${bytesText(p.x)}`), hovertemplate: `<b>${g.label}</b><br>%{text}<extra></extra>`,
        });
      }
      data.push(...pointTraces(state.measure));
      return {
        note: leftOut(), data, layout: { xaxis: bytesAxis([...points.map((p) => p.x), ...pointsOver(state.measure).map((p) => p.places[state.measure])], bytesTitle()), yaxis: percentAxis(accuracyTitle(groups), [...points.map((p) => p.y), ...pointsOver(state.measure).map((p) => p.accuracy)]) },
        table: {
          columns: ["Method", "Round", DATA.measures[state.measure], "Mean accuracy"],
          rows: front.map((p) => [p.g.label, p.round, { text: bytesText(p.x), value: p.x }, { text: percentText(p.y), value: p.y }]),
        },
      };
    },
  },
];

// -- the frame -------------------------------------------------------------------------------------------------

function mountFigure(spec) {
  const node = $(`figure[data-figure="${spec.id}"]`);
  if (!node) return; // the live page has fewer figures
  const plot = el("div", { class: `plot${spec.tall ? " tall" : ""}`, role: "img", "aria-label": `${spec.title}. ${spec.caption}` });
  const tools = el("div", { class: "tools" });
  const figure = { spec, node, plot, drawn: false, visible: false };
  if (spec.measures) tools.append(measurePicker(spec));
  for (const format of ["SVG", "PNG"]) {
    tools.append(el("button", { type: "button", class: "quiet", "aria-label": `Save ${spec.title} as ${format}`, onclick: () => exportFigure(figure, format.toLowerCase()) }, format));
  }
  tools.append(el("button", { type: "button", class: "quiet", "aria-label": `Print ${spec.title} alone, to save it as PDF`, onclick: () => printFigure(figure) }, "PDF"));
  tools.append(el("button", {
    type: "button", class: "quiet", "aria-label": `Download the numbers of ${spec.title} as CSV`,
    onclick: () => { const { table } = spec.draw(); save(`${fileName(spec)}.csv`, "text/csv;charset=utf-8", csvText([table.columns, ...table.rows.map((row) => row.map((c) => (c !== null && typeof c === "object" ? c.value : c)))])); },
  }, "CSV"));
  const caption = el("figcaption", {}, spec.caption);
  figure.caption = caption;
  const numbers = el("details", {}, el("summary", {}, "The numbers"));
  numbers.addEventListener("toggle", () => fillNumbers(figure));
  figure.numbers = numbers;
  node.append(el("div", { class: "fig-head" }, el("h3", {}, spec.title), tools), plot, caption, numbers);
  figures.set(spec.id, figure);
  lazy.observe(node);
}

const lazy = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const figure = figures.get(entry.target.dataset.figure);
    figure.visible = entry.isIntersecting;
    if (figure.visible && !figure.drawn) draw(figure);
  }
}, { rootMargin: "400px" });

function draw(figure) {
  const made = figure.spec.draw();
  figure.drawn = true;
  figure.node.hidden = !made;
  if (!made) return;
  const caption = [figure.spec.caption, made.note].filter(Boolean).join(" ");
  figure.caption.textContent = caption;
  figure.plot.setAttribute("aria-label", `${figure.spec.title}. ${caption}`);
  if (made.height) figure.plot.style.height = `${made.height}px`;
  Plotly.react(figure.plot, made.data, layoutOf(made.layout), { displayModeBar: false, responsive: true });
  if (figure.numbers.open) fillNumbers(figure);
}

function fillNumbers(figure) {
  $(".table-block", figure.numbers)?.remove();
  if (!figure.numbers.open) return;
  const { columns, rows } = figure.spec.draw().table;
  figure.numbers.append(tableBlock(fileName(figure.spec), figure.spec.title, columns, rows));
}

// What is on screen is drawn anew now, the rest when it comes into view. Hidden figures are asked again.
function redraw(only = () => true) {
  for (const figure of figures.values()) {
    if (!only(figure.spec)) continue;
    figure.drawn = false;
    if (figure.visible || figure.node.hidden) draw(figure);
  }
}

function fileName(spec) {
  const run = spec.inside ? DATA.runs[state.run] : null;
  return `spikefed-${spec.id}${run ? `-${reduced(run.name)}${run.seed === null ? "" : `-seed${run.seed}`}` : ""}`;
}

// Exports carry their own title and legend, as they leave the page that gives them.
async function imageOf(figure, format) {
  const made = figure.spec.draw();
  const layout = layoutOf({ ...made.layout, showlegend: made.data.filter((t) => t.name).length > 1, title: { text: figure.spec.title, font: { size: 16, color: css("--ink") }, x: 0.02 } });
  layout.margin = { l: 20, r: 24, t: 48, b: 20 };
  layout.legend = { orientation: "h", y: -0.25 };
  const height = Math.max(560, made.height ?? 0);
  return { height, url: await Plotly.toImage({ data: made.data, layout }, { format, width: 900, height, scale: format === "png" ? 2 : 1 }) };
}

async function exportFigure(figure, format) {
  const { url } = await imageOf(figure, format);
  const comma = url.indexOf(",");
  const body = url.slice(0, comma).includes("base64") ? Uint8Array.from(atob(url.slice(comma + 1)), (c) => c.charCodeAt(0)) : decodeURIComponent(url.slice(comma + 1));
  const type = format === "svg" ? "image/svg+xml" : "image/png";
  save(`${fileName(figure.spec)}.${format}`, type, new Blob([body], { type }));
}

// A figure alone on a sheet of its size: the browser's "save as PDF" keeps its lines and letters.
async function printFigure(figure) {
  const { url, height } = await imageOf(figure, "svg");
  const sheet = el("div", { id: "sheet", "aria-hidden": "true" });
  sheet.innerHTML = decodeURIComponent(url.slice(url.indexOf(",") + 1));
  const size = el("style", {}, `@page { size: 900px ${height}px; margin: 0; }`);
  document.body.append(sheet, size);
  document.documentElement.dataset.sheet = "yes";
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.sheet;
    sheet.remove();
    size.remove();
  }, { once: true });
  print();
}

function measurePicker(spec) {
  const present = Object.keys(DATA.measures).filter((m) => DATA.groups.some((g) => g.totals[m]));
  const select = el("select", { "aria-label": `Bytes counted in ${spec.title}`, class: "measure" },
    ...present.map((m) => el("option", { value: m }, DATA.measures[m])));
  select.value = state.measure;
  select.addEventListener("change", () => {
    state.measure = select.value;
    $$("select.measure").forEach((other) => { other.value = state.measure; });
    redraw((s) => s.measures || s.id === "acc-rounds");
  });
  return select;
}
