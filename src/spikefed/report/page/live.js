// The live page: ask for the run's state every second, redraw when it changed, say so when nobody answers.
const POLL_MS = 1000;
const STATES = { waiting: "waiting for the run", running: "running", stalled: "no news", finished: "finished" };
let version = "";
let failures = 0;

function showLive(live) {
  document.title = `${live.finished_rounds}/${live.rounds ?? "?"} ${live.name} – spikefed watch`;
  $("#name").textContent = live.name;
  const badge = $("#state");
  badge.dataset.state = live.state;
  badge.textContent = STATES[live.state];
  $("#what").textContent = live.what;
  $("#progress").value = live.rounds ? live.finished_rounds / live.rounds : 0;
  $("#progress-text").textContent = live.progress;
  $("#cards").replaceChildren(...live.cards.map(([name, value, note]) =>
    el("div", { class: "card" }, el("dt", {}, name), el("dd", {}, el("strong", {}, value), el("span", {}, note)))));
  $("#log").replaceChildren(...live.log.map(([kind, text]) => el("li", { class: kind }, text)));
}

function showTrouble(text) {
  $("#trouble").hidden = !text;
  $("#trouble").textContent = text;
}

async function poll() {
  try {
    const answer = await fetch(`state.json?version=${encodeURIComponent(version)}`, { cache: "no-store" });
    if (!answer.ok && answer.status !== 304) throw new Error(`the server says ${answer.status}`);
    if (answer.status === 200) {
      const news = await answer.json();
      version = news.version;
      DATA = news.data;
      state.run = DATA.runs.length ? 0 : null;
      showLive(news.live);
      // Mounted with the first run that has a round: the pickers need to know what is measured.
      if (!figures.size && DATA.runs[0]?.rounds.length) compareFigures.concat(insideFigures).forEach(mountFigure);
      fillRunTables();
      redraw();
      document.documentElement.dataset.version = version;
    }
    failures = 0;
    showTrouble("");
  } catch {
    failures += 1;
    if (failures > 1) showTrouble("“spikefed watch” does not answer; start it again and this page goes on by itself.");
  }
  document.documentElement.dataset.ready = "yes";
  setTimeout(poll, Math.min(POLL_MS * 2 ** Math.max(0, failures - 1), 15000));
}

startTheme();
themeListeners.push(() => redraw());
poll();
