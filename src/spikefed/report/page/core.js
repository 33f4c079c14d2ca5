// Small helpers: elements, number formats, theme, downloads. Shared by the report and the live page.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Decimal units (1 MB = 1e6 B), three significant digits, as in the tables.
function bytesText(count) {
  if (count === null || count === undefined) return "–";
  if (Math.abs(count) < 999.5) return `${Math.round(count)} B`;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    count /= 1000;
    if (Math.abs(count) < 999.5 || unit === "TB") {
      const digits = Math.abs(count) < 9.995 ? 2 : Math.abs(count) < 99.95 ? 1 : 0;
      return `${count.toFixed(digits)} ${unit}`;
    }
  }
}
// As span_text of the tables.
function spanText(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (seconds < 48 * 3600) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  const days = seconds / 86400;
  return days >= 99.95 ? `${Math.round(days).toLocaleString("en")} days` : `${Number(days.toPrecision(3))} days`;
}

// Picojoules with a unit, three digits.
function energyText(pj) {
  if (pj === null || pj === undefined) return "–";
  const [factor, unit] = [[1e12, "J"], [1e9, "mJ"], [1e6, "µJ"], [1e3, "nJ"]].find(([f]) => Math.abs(pj) >= 0.9995 * f) ?? [1, "pJ"];
  return `${Number((pj / factor).toPrecision(3))} ${unit}`;
}
const percentText = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);

function say(text) {
  $("#status").textContent = text;
}

function save(name, type, content) {
  const url = content instanceof Blob ? URL.createObjectURL(content) : URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  say(`Saved ${name}`);
}

function csvText(rows) {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkQuery.matches;
};
const themeListeners = [];

function startTheme() {
  const button = $("#theme");
  const store = {
    get: () => { try { return localStorage.getItem("spikefed-theme"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("spikefed-theme", value); } catch { /* file:// may refuse */ } },
  };
  const kept = store.get();
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  const show = () => {
    button.textContent = isDark() ? "Light page" : "Dark page";
    themeListeners.forEach((listener) => listener());
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    store.set(document.documentElement.dataset.theme);
    show();
  });
  darkQuery.addEventListener("change", show);
  button.textContent = isDark() ? "Light page" : "Dark page";
}

function startCopy(root = document) {
  for (const block of $$("pre.copy", root)) {
    const button = el("button", { type: "button", class: "quiet" }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2500);
    });
    block.before(el("div", { class: "copy-row" }, button));
  }
}

// The section in view is marked in the bar.
function startNav() {
  const links = new Map($$(".bar a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  links.forEach((_, id) => seen.observe(document.getElementById(id)));
}
