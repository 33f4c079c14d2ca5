// Figures and tables about the one run that is chosen in "Inside a run".
const chosen = () => DATA.runs[state.run];
const CLIENT_COLOURS = [["#0072B2", "#56A8E0"], ["#C44F00", "#F08A4B"], ["#00805D", "#3CC29B"], ["#A8497F", "#E08FBD"], ["#9A6B00", "#E6B84D"], ["#4A5568", "#A7B4C6"], ["#2B83BA", "#8CCBF2"], ["#8C2D19", "#E07A66"]];
const CLIENT_DASHES = ["solid", "dash", "dot", "dashdot"];
const CLIENT_SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];

// One-hue scales that end in the page's own background, so both themes read "more is stronger".
const scale = () => [[0, css("--card")], [0.5, isDark() ? "#2f6f9f" : "#7fb3d5"], [1, isDark() ? "#bfe3ff" : "#08395f"]];
const colourBar = (text, format) => ({ thickness: 10, outlinewidth: 0, tickformat: format, title: { text, side: "right", font: { size: 12 } } });

// Equal weights are one line in the middle, not a stretch of numbers that no weight can have.
function weightAxis(values, title, format) {
  const known = values.filter((v) => v !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const range = high - low < 0.02 ? [Math.max(0, low - 0.05), high + 0.05] : undefined;
  return { tickformat: range ? ".2f" : format, title: { text: title }, range };
}

function clientFigure(key, title, caption, axisTitle, format) {
  return {
    id: key === "acc" ? "client-acc" : "client-weight", title, caption, inside: true,
    draw() {
      const clients = chosen()?.clients;
      if (!clients || !clients[key].flat().some((v) => v !== null)) return null;
      const table = {
        columns: ["Client", "Round", axisTitle],
        rows: clients.ids.flatMap((id, i) => clients.rounds.map((r, k) => [`client ${id}`, r, clients[key][i][k]])),
      };
      if (clients.ids.length <= CLIENT_COLOURS.length) {
        const data = clients.ids.map((id, i) => {
          const colour = CLIENT_COLOURS[i][isDark() ? 1 : 0];
          return {
            x: clients.rounds, y: clients[key][i], name: `client ${id}`, mode: "lines+markers", connectgaps: false,
            line: { color: colour, width: 1.8, dash: CLIENT_DASHES[i % 4] }, marker: { color: colour, symbol: CLIENT_SYMBOLS[i], size: 6 },
            hovertemplate: `client ${id}, round %{x}: %{y:${format}}<extra></extra>`,
          };
        });
        return { data, table, layout: { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, xaxis: roundAxis(clients.rounds), yaxis: key === "acc" ? percentAxis(axisTitle, clients.acc.flat()) : weightAxis(clients.weight.flat(), axisTitle, format) } };
      }
      return {
        table,
        data: [{ type: "heatmap", x: clients.rounds, y: clients.ids.map(String), z: clients[key], colorscale: scale(), colorbar: colourBar("", format), hovertemplate: `client %{y}, round %{x}: %{z:${format}}<extra></extra>` }],
        layout: { xaxis: roundAxis(clients.rounds), yaxis: { type: "category", title: { text: "Client" } } },
      };
    },
  };
}

const insideFigures = [
  clientFigure("acc", "Accuracy of each client", "On the client’s own validation data.", "Validation accuracy", ".0%"),
  clientFigure("weight", "Weight of each client", "Its share in the server’s merge.", "Weight", ".3f"),
  {
    id: "firing", title: "Firing rate by layer", inside: true,
    caption: "Mean spikes a neuron and time step of the server’s network: 0 is silent, 1 a spike at every step.",
    draw() {
      const run = chosen();
      if (!run?.firing) return null;
      const layers = Object.keys(run.firing);
      const many = run.firingRounds?.rounds.length > 1;
      const table = { columns: ["Layer", "Round", "Firing rate"], rows: many ? layers.flatMap((l) => run.firingRounds.rounds.map((r, i) => [l, r, run.firingRounds.rates[l]?.[i] ?? null])) : layers.map((l) => [l, run.rounds.at(-1), run.firing[l]]) };
      if (!many) {
        return { data: [{ type: "bar", orientation: "h", y: layers, x: layers.map((l) => run.firing[l]), marker: { color: css("--accent") }, hovertemplate: "%{y}: %{x:.3f}<extra></extra>" }], table, layout: { xaxis: { title: { text: "Firing rate" }, rangemode: "tozero" }, yaxis: { type: "category", autorange: "reversed" } } };
      }
      const highest = Math.max(0.01, ...layers.flatMap((l) => run.firingRounds.rates[l]));
      return {
        table, note: `The colours run from 0 to ${highest.toFixed(2)}.`,
        data: [{ type: "heatmap", x: run.firingRounds.rounds, y: layers, z: layers.map((l) => run.firingRounds.rates[l]), colorscale: scale(), zmin: 0, zmax: highest, colorbar: colourBar("", ".2f"), hovertemplate: "%{y}, round %{x}: %{z:.3f}<extra></extra>" }],
        layout: { xaxis: roundAxis(run.firingRounds.rounds), yaxis: { type: "category", autorange: "reversed" } },
      };
    },
  },
  {
    id: "class-spikes", title: "Output spikes by class and time step", inside: true,
    caption: "How often each output neuron of the server fires at each time step, over the images it is measured on.",
    draw() {
      const z = chosen()?.classSpikes;
      if (!Array.isArray(z) || !Array.isArray(z[0])) return null;
      return {
        data: [{ type: "heatmap", x: z[0].map((_, t) => t + 1), y: z.map((_, c) => String(c)), z, colorscale: scale(), zmin: 0, zmax: Math.max(0.01, ...z.flat()), xgap: 1, ygap: 1, colorbar: colourBar("", ".2f"), hovertemplate: "class %{y}, step %{x}: %{z:.3f}<extra></extra>" }],
        layout: { xaxis: { title: { text: "Time step" }, dtick: 1, ticks: "" }, yaxis: { type: "category", autorange: "reversed", title: { text: "Class" }, ticks: "" } },
        table: { columns: ["Class", ...z[0].map((_, t) => `step ${t + 1}`)], rows: z.map((row, c) => [String(c), ...row]) },
      };
    },
  },
  {
    id: "raster", title: "Spikes that travelled", inside: true,
    caption: "Raster of the first public samples in the last recorded round: each tick is one spike of a class neuron, time runs to the right within a sample.",
    draw() {
      const raster = chosen()?.raster;
      if (!raster) return null;
      const [samples, classes, steps] = raster.shape;
      const shown = Math.min(samples, 8);
      const data = [];
      const table = { columns: ["Sender", "Sample", "Class", "Spikes"], rows: [] };
      Object.entries(raster.trains).forEach(([sender, bits], k) => {
        const xs = [];
        const ys = [];
        const label = sender === "down" ? "server" : `client ${sender.slice(3)}`;
        for (let n = 0; n < shown; n++) {
          for (let c = 0; c < classes; c++) {
            const from = (n * classes + c) * steps;
            const train = bits.slice(from, from + steps);
            if (train.includes("1")) table.rows.push([label, n, c, train]);
            [...train].forEach((bit, t) => { if (bit === "1") { xs.push(n * (steps + 2) + t); ys.push(c + (k - Object.keys(raster.trains).length / 2) * 0.12); } });
          }
        }
        const colour = sender === "down" ? css("--ink") : CLIENT_COLOURS[Number(sender.slice(3)) % CLIENT_COLOURS.length][isDark() ? 1 : 0];
        data.push({ x: xs, y: ys, name: label, mode: "markers", marker: { symbol: "line-ns-open", size: 5, color: colour, line: { width: 1.4 } }, hovertemplate: `${label}, class %{customdata}<extra></extra>`, customdata: ys.map(Math.round) });
      });
      const middles = Array.from({ length: shown }, (_, n) => n * (steps + 2) + (steps - 1) / 2);
      return {
        data, table,
        layout: { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, shapes: middles.slice(1).map((m) => ({ type: "line", x0: m - (steps + 2) / 2, x1: m - (steps + 2) / 2, yref: "paper", y0: 0, y1: 1, line: { color: css("--line"), width: 1 } })), xaxis: { tickvals: middles, ticktext: middles.map((_, n) => String(n)), title: { text: "Public sample" }, showgrid: false, zeroline: false }, yaxis: { title: { text: "Class" }, autorange: "reversed", dtick: classes > 20 ? undefined : 1, zeroline: false } },
      };
    },
  },
  {
    id: "confusion", title: "Confusion matrix", inside: true,
    caption: "Rows: true class; columns: what the server says; colour: share of the row.",
    draw() {
      const counts = chosen()?.confusion;
      if (!Array.isArray(counts) || !Array.isArray(counts[0])) return null;
      const shares = counts.map((row) => { const sum = row.reduce((a, b) => a + b, 0) || 1; return row.map((v) => v / sum); });
      const told = chosen()?.classNames;
      const names = counts.map((_, c) => Array.isArray(told) && told.length === counts.length ? String(told[c]) : String(c));
      return {
        data: [{
          type: "heatmap", x: names, y: names, z: shares, zmin: 0, zmax: 1, colorscale: scale(), xgap: 1, ygap: 1, colorbar: colourBar("", ".0%"),
          text: counts.map((row) => row.map((v) => v || "")), texttemplate: names.length <= 12 ? "%{text}" : "", textfont: { size: 10.5 }, customdata: counts, hovertemplate: "true %{y}, said %{x}: %{customdata} (%{z:.1%})<extra></extra>",
        }],
        layout: { xaxis: { type: "category", title: { text: "Predicted class" }, ticks: "" }, yaxis: { type: "category", autorange: "reversed", title: { text: "True class" }, ticks: "" } },
        table: { columns: ["True class", ...names], rows: counts.map((row, c) => [names[c], ...row]) },
      };
    },
  },
  {
    id: "energy-layers", title: "Energy by layer", inside: true,
    caption: "Operations of one image, all time steps, priced 4.6 pJ a multiply-accumulate and 0.9 pJ an addition; beside an ordinary network of the same layers.",
    draw() {
      const energy = chosen()?.energy;
      if (!energy) return null;
      const bar = (name, values, fill, ink) => ({
        type: "bar", orientation: "h", name, y: energy.layers, x: values, marker: { color: fill, line: { color: css("--accent"), width: 1.5 } },
        text: values.map(energyText), textposition: "auto", insidetextfont: { color: ink }, hovertemplate: `%{y}, ${name}: %{text}<extra></extra>`,
      });
      const known = [...energy.snn, ...energy.ann].filter((v) => v > 0);
      const top = Math.max(...known, 1);
      const [factor, unit] = [[1e12, "J"], [1e9, "mJ"], [1e6, "µJ"], [1e3, "nJ"], [1, "pJ"]].find(([f]) => top >= 0.9995 * f);
      const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => top / factor / s <= 6) ?? 1000;
      const ticks = Array.from({ length: Math.floor(top / factor / step) + 1 }, (_, i) => i * step);
      return {
        data: [bar("ordinary", energy.ann, css("--card"), css("--ink")), bar("spiking", energy.snn, css("--accent"), css("--card"))],
        height: Math.max(320, 90 + 46 * energy.layers.length),
        layout: {
          barmode: "group", bargap: 0.25, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "reversed" },
          xaxis: { title: { text: `Energy of one image, ${unit}` }, rangemode: "tozero", tickvals: ticks.map((t) => t * factor), ticktext: ticks.map(String) },
          yaxis: { type: "category", autorange: "reversed", ticks: "" },
        },
        table: { columns: ["Layer", "Spiking, pJ", "Ordinary, pJ"], rows: energy.layers.map((l, i) => [l, energy.snn[i], energy.ann[i]]) },
      };
    },
  },
  {
    id: "seconds", title: "Where the time goes", inside: true, caption: "Mean seconds of each phase in a round.",
    draw() {
      const phases = Object.entries(chosen()?.seconds ?? {}).filter(([name]) => name !== "round");
      if (!phases.length) return null;
      const names = phases.map(([name]) => name.replaceAll("_", " "));
      const values = phases.map(([, v]) => v);
      return {
        data: [{ type: "bar", orientation: "h", y: names, x: values, marker: { color: css("--accent") }, text: values.map((v) => `${v.toPrecision(3)} s`), textposition: "auto", hovertemplate: "%{y}: %{text}<extra></extra>" }],
        layout: { xaxis: { title: { text: "Seconds a round" }, rangemode: "tozero" }, yaxis: { type: "category", autorange: "reversed", ticks: "" } },
        table: { columns: ["Phase", "Seconds a round"], rows: names.map((n, i) => [n, values[i]]) },
      };
    },
  },
];

// Columns that say something in at least one row.
function withValues(columns, rows) {
  const kept = columns.map((_, i) => rows.some((row) => (row[i] !== null && typeof row[i] === "object" ? row[i].value : row[i]) !== null));
  return [columns.filter((_, i) => kept[i]), rows.map((row) => row.filter((_, i) => kept[i]))];
}

function fillRunTables() {
  const run = chosen();
  $("#client-table").replaceChildren();
  $("#dropped").replaceChildren();
  if (!run) return;
  if (run.clients) {
    const c = run.clients;
    const digits = (v, n) => ({ text: v === null ? "–" : v.toPrecision(n), value: v });
    $("#client-table").append(tableBlock(`clients-${reduced(run.name)}`, "Clients after the last round", ...withValues(
      ["Client", "Rounds taken part", "Uploads refused or lost", "Validation accuracy", "Weight", "Training loss", "Distillation loss", "Firing rate"],
      c.ids.map((id, i) => [`client ${id}`, c.joined[i], c.lost[i], { text: percentText(c.acc[i].at(-1)), value: c.acc[i].at(-1) }, digits(c.weight[i].at(-1), 3),
        digits(c.last[i].train_loss, 3), digits(c.last[i].distil_loss, 3), digits(c.last[i].firing_rate, 3)]))));
  }
  if (run.unmerged.length) $("#dropped").append(el("p", { class: "trouble" }, `Too few uploads for the quorum, the server unchanged, in round ${run.unmerged.join(", ")}.`));
  if (run.diverged.length) $("#dropped").append(el("p", { class: "trouble" }, `The server’s network diverged and was taken back in round ${run.diverged.join(", ")}.`));
  $("#dropped").append(run.dropped.length
    ? tableBlock(`dropped-${reduced(run.name)}`, "Uploads refused or lost", ["Round", "Client", "Reason"], run.dropped.map(([r, c, why]) => [r, `client ${c}`, why]))
    : el("p", { class: "empty" }, "No upload was refused or lost in this run."));
}
