"use strict";
/* Everything that can be read is in the HTML already; this filters, sorts, and shows what is behind a number. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  /* All text goes through here, as text: names come from other people's files. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    const there = children.filter((child) => child !== null && child !== undefined);
    element.append(...there.map((child) => child instanceof Node ? child : String(child)));
    return element;
  }

  /* ---- sorting ---- */
  function key(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    return text !== "" && isFinite(text) ? Number(text) : text.toLowerCase();
  }
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null); // what has no value is last either way
    if (typeof a !== typeof b) return (typeof a === "string") - (typeof b === "string");
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }
  function sortable(table) {
    const body = table.tBodies[0];
    $$("thead th", table).forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        $$("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort((a, b) => compare(a[0], b[0], sign)); // stable: a second column sorts within the first
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  /* ---- filters; their state is in the address, so that it can be sent to somebody ---- */
  const form = $("#filters");
  const controls = $$("select, input", form);
  const rows = $$("#results tbody tr");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  function filter() {
    const words = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = $$("select", form).filter((select) => select.value !== "");
    let count = 0;
    rows.forEach((row, i) => {
      const fits = wanted.every((select) => row.getAttribute("data-" + select.name) === select.value);
      const visible = fits && words.every((word) => texts[i].includes(word));
      row.hidden = !visible;
      count += visible;
    });
    const said = wanted.map((select) => `${select.name}: ${select.selectedOptions[0].textContent}`);
    if (words.length) said.push(`search: ${words.join(" ")}`);
    $("#shown").textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} results`
      + (said.length ? ` (${said.join("; ")})` : "");
    const state = new URLSearchParams(controls.filter((c) => c.value !== "").map((c) => [c.name || c.id, c.value]));
    history.replaceState(null, "", state.size ? "#" + state : location.pathname + location.search);
  }
  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    const known = controls.filter((control) => state.has(control.name || control.id));
    known.forEach((control) => { control.value = state.get(control.name || control.id); });
    if (known.length) filter();
  }

  /* ---- what is behind the numbers: one gzip block, opened when it is first needed ---- */
  let opened = null;
  function data() {
    opened ??= (async () => {
      const bytes = Uint8Array.from(atob($("#data").textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return JSON.parse(await new Response(stream).text());
    })();
    return opened;
  }
  function labels(report, row) {
    const [set, value, low, high] = row.labels;
    const { names, known, positives } = report.label_sets[set];
    return names.map((name, i) => ({ name, value: value[i], low: low[i], high: high[i], known: known[i], positives: positives[i] }));
  }
  function restored(report) {
    const { label_sets: _, shown: __, ...rest } = report;
    rest.rows = report.rows.map((row) => ({
      ...row, labels: Object.fromEntries(labels(report, row).map(({ name, ...values }) => [name, values])),
    }));
    return rest;
  }

  const number = (x, digits = 3) => x === null || x === undefined ? "–" : x.toFixed(digits).replace("-", "−");
  const whole = (x) => x === null || x === undefined ? "–" : x.toLocaleString("en");
  const interval = (x) => `[${number(x.low)}, ${number(x.high)}]`;
  function cell(text, value) {
    return make("td", { class: "n", ...(value === undefined ? {} : { "data-v": value ?? "" }) }, text);
  }
  function table(heads, lines, caption) {
    const made = make("table", { class: "sortable" }, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...lines.map((cells) => make("tr", {}, ...cells))));
    [...made.tBodies[0].rows[0]?.cells ?? []].forEach((first, i) => { made.tHead.rows[0].cells[i].className = first.className; });
    sortable(made);
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
  }
  function list(pairs) {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return make("dl", {}, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }
  function drawn(x, from, to) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const place = (v) => 4 + 112 * Math.min(1, Math.max(0, (v - from) / (to - from || 1)));
    const part = (tag, attributes) => {
      const element = document.createElementNS(svg.namespaceURI, tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      svg.append(element);
    };
    for (const [name, value] of [["width", 120], ["height", 12], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    part("line", { class: "line", x1: 2, x2: 118, y1: 6, y2: 6 });
    if (x.value === null) return svg;
    part("line", { class: "arm", x1: place(x.low ?? x.value), x2: place(x.high ?? x.value), y1: 6, y2: 6 });
    part("circle", { class: "dot", cx: place(x.value), cy: 6, r: 3.5 });
    return svg;
  }

  function facts(report, row) {
    const shown = (name) => report.shown[name] ?? name;
    const seen = { true: "yes, without labels", false: "no" }[row.seen] ?? "not known, or nothing was pretrained";
    const seconds = row.seconds ?? {};
    return list([
      ["Value", `${number(row.value, 4)} ${interval(row)}, ${row.metric === "mae" ? "mean absolute error in standard deviations of the target" : "macro AUROC"}`],
      ["By DeLong's closed form", row.delong ? `standard error ${number(row.delong.se, 4)}, ${interval(row.delong)}: a check that needs no resampling` : null],
      ["Rank", Object.entries(row.ranks).map(([mode, own]) => `${own.rank ?? "–"}${own.tied ? " (shared)" : ""} among ${shown(mode)}`).join("; ")],
      ["Remark", row.flag],
      ["Mode", shown(row.mode)],
      ["Protocol", `${row.protocol}; undefined classes ${row.absent === "half" ? "count 0.5" : "are left out"}`],
      ["Labels", row.classes ? `${row.defined} of ${row.classes} defined` : null],
      ["Without a value", row.undefined.slice(0, 30).join(", ") + (row.undefined.length > 30 ? " …" : "")],
      ["Test records", row.records ? whole(row.records) + (row.patients ? ` of ${whole(row.patients)} patients` : "") : null],
      ["Seeds", row.seeds.join(", ")],
      ["Spread over seeds", row.spread ? `${number(row.spread.min, 4)} to ${number(row.spread.max, 4)}, standard deviation ${number(row.spread.sd, 4)}` : null],
      ["Weights", row.weights ?? "none: random initialisation"],
      ["Data", row.data.fingerprint ? `${row.data.source}${row.data.synthetic ? " (synthetic)" : ""}, label set ${row.data.label_set}, fingerprint ${row.data.fingerprint}` : null],
      ["Data seen in pretraining", seen],
      ["Parameters", row.parameters?.total ? `${whole(row.parameters.trained)} trained of ${whole(row.parameters.total)}` : null],
      ["Seconds", seconds.train !== undefined ? `${whole(seconds.train)} training, ${whole(seconds.test)} testing${row.device ? ` on ${row.devices ?? 1} × ${row.device}` : ""}` : null],
      ["Runs", row.runs.join(", ")],
    ]);
  }
  function opponents(report, index) {
    return report.pairs.filter((pair) => pair.rows.includes(index)).flatMap((pair) => {
      const own = pair.rows.indexOf(index);
      if (pair.difference[own].every((x) => x === null)) return [];
      const lines = pair.models.map((model, j) => j === own ? null : [
        make("th", { scope: "row" }, report.shown[model] ?? model),
        cell(number(pair.difference[own][j], 4), pair.difference[own][j]),
        cell(`[${number(pair.low[own][j], 4)}, ${number(pair.high[own][j], 4)}]`),
        cell(number(pair.p[own][j], 4), pair.p[own][j]),
        ...(pair.delong_p ? [cell(number(pair.delong_p[own][j], 4), pair.delong_p[own][j] ?? "")] : []),
        cell(number(pair.adjusted?.[own][j], 4), pair.adjusted?.[own][j] ?? ""),
        cell(pair.significant ? (pair.significant[own][j] ? "yes" : "no") : "–"),
      ]).filter(Boolean);
      const better = pair.higher_is_better ? "positive: better than the other" : "negative: better than the other";
      return [make("h3", {}, `Against the others, ${report.shown[pair.mode] ?? pair.mode}`),
        table(["Model", "Difference", "Interval", "p", ...(pair.delong_p ? ["p by DeLong"] : []), "p adjusted", "Significant"], lines, `Paired differences; ${better}.`)];
    });
  }
  function labelTable(report, row) {
    const all = labels(report, row);
    if (!all.length) return [];
    const ends = all.flatMap((x) => [x.low, x.value, x.high]).filter((x) => x !== null);
    const lowest = ends.reduce((a, b) => Math.min(a, b), 1);
    const [from, to] = row.metric === "auroc" ? [lowest < 0.5 ? Math.floor(10 * lowest) / 10 : 0.5, 1] : [0, ends.reduce((a, b) => Math.max(a, b), 0)];
    const lines = all.map((x) => [make("th", { scope: "row", class: "wrap" }, x.name), cell(number(x.value, 4), x.value),
      cell(x.value === null ? "–" : interval(x)), make("td", { class: "wide", "data-v": x.value ?? "" }, drawn(x, from, to)),
      cell(whole(x.positives), x.positives), cell(whole(x.known), x.known)]);
    const axis = `${from} to ${number(to, 2)}`;
    const made = table(["Label", "Value", "Interval", axis, "Positives", "Known"], lines, `${whole(all.length)} labels`);
    const search = make("input", { type: "search", "aria-label": "Search a label", placeholder: "Search a label" });
    search.addEventListener("input", () => $$("tbody tr", made).forEach((line) => {
      line.hidden = !line.cells[0].textContent.toLowerCase().includes(search.value.toLowerCase());
    }));
    return [make("h3", {}, "Labels"), all.length > 12 ? search : null, made];
  }
  function making(report, row) {
    return row.runs.filter((name) => report.runs[name]).flatMap((name) => {
      const { config, environment, ...rest } = report.runs[name];
      const shown = [["Config", config], ["Environment", environment], ["Run", rest]];
      return [make("h3", {}, `How it was made: ${name}`), ...shown.map(([title, value]) =>
        make("details", {}, make("summary", {}, title), make("pre", { tabindex: "0" }, JSON.stringify(value, null, 2))))];
    });
  }

  const dialog = $("#cell");
  async function show(index) {
    const body = $("#cell-body");
    $("#cell-title").textContent = "Opening …";
    body.replaceChildren();
    dialog.showModal();
    $("#cell-title").focus();
    try {
      const report = await data();
      const row = report.rows[index];
      const seed = row.role === "seed" ? `, seed ${row.seeds.join(", ")}` : row.role === "mean" ? `, mean of ${row.seeds.length} seeds` : "";
      $("#cell-title").textContent = `${report.shown[row.model]} on ${row.row ?? row.task}, ${report.shown[row.mode]}${seed}`;
      body.append(...[facts(report, row), ...labelTable(report, row), ...opponents(report, index), ...making(report, row)].filter(Boolean));
      dialog.scrollTop = 0;
    } catch (error) {
      $("#cell-title").textContent = "This browser cannot open the data of this page";
      body.append(make("p", {}, `${error}. The same values are in results.json beside it.`));
    }
  }

  function save(name, href) {
    const link = make("a", { download: name, href });
    document.body.append(link);
    link.click();
    link.remove();
  }

  /* ---- wiring ---- */
  $$("table.sortable").forEach(sortable);
  form.hidden = false;
  ["input", "change"].forEach((kind) => form.addEventListener(kind, filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  $$("button.open, button.save, #save-json").forEach((button) => { button.disabled = false; });
  document.addEventListener("click", (event) => {
    const open = event.target.closest("button.open");
    const picture = event.target.closest("button.save");
    if (open) show(Number(open.dataset.row));
    if (picture) save(picture.dataset.name, $("img", picture.closest("figure")).src);
    if (event.target === dialog) dialog.close(); // its backdrop
  });
  $("#close").addEventListener("click", () => dialog.close());
  $("#save-json").addEventListener("click", async () => {
    const url = URL.createObjectURL(new Blob([JSON.stringify(restored(await data()))], { type: "application/json" }));
    save("results.json", url);
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = $$("main details:not([open])");
    closed.forEach((part) => { part.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
  window.addEventListener("hashchange", restore);
  restore();
})();
