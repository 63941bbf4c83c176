// The trace: words appear up to t, and the curves follow. The trace can be swapped for a control.
"use strict";
explorer.trace = (() => {
  const { h, svg, tableBox, colour } = explorer;
  const NAMES = { focus: "Focus (topics)", confusion: "Confusion (near misses)", gold: "gold labels" };
  const DASHES = { focus: null, confusion: "7 4", gold: "2 3" };
  const SWAPS = { own: "its own trace", shuffled: "its lines shuffled", other: "another document's trace" };
  const HEIGHT = 240, LEFT = 44, RIGHT = 12, TOP = 12, BOTTOM = 30;
  let words = [], shown = null, root, parts = {};

  const mount = (section) => {
    root = section;
    parts.document = h("div", { class: "document text", tabindex: "0", role: "region", "aria-label": "Document" });
    parts.swaps = h("fieldset", { class: "choices" }, h("legend", {}, "Trace"),
      ...explorer.SWAPS.map((name) => h("label", {}, h("input", {
        type: "radio", name: "swap", value: name, onchange: () => explorer.set({ trace: name }) }), ` ${SWAPS[name]}`)));
    parts.written = h("div", { class: "written text", onclick: (event) => {
      const end = event.target.dataset?.end;
      if (end !== undefined) explorer.set({ t: Math.min(1, Number(end) / shown.text.length) });
    } });
    parts.answer = h("div", { class: "answer" });
    parts.note = h("p", { class: "note" });
    parts.chart = h("div", { class: "chart" });
    parts.table = tableBox("Cosines along the trace", () => picture(640, 320, true));
    root.append(
      h("div", { class: "main" }, h("h2", {}, "Document"), parts.document, parts.swaps, parts.note,
        h("p", { class: "legend" }, h("span", { class: "label gold" }, "gold label"), " ", h("span", { class: "label near" }, "near miss"),
          " ", h("span", { class: "label" }, "other label")),
        parts.written, parts.answer),
      h("div", { class: "side" }, h("h2", {}, "Where the text moves"), parts.chart,
        h("p", { class: "note" }, "Cosine of what is written up to t with the document's topics, near misses and gold labels. " +
          "Focus should rise early; Confusion matters after t*, where the shortlist ends."), parts.table.box));
    new ResizeObserver(() => { if (shown && !root.hidden) draw(); }).observe(parts.chart);
  };

  const open = (context) => {
    const { document: doc, collection, state } = context;
    const swap = doc.trace && (state.trace !== "other" || doc.other !== null) && doc.curves ? state.trace : "own";
    const source = swap === "other" ? collection.documents[doc.other] : doc;
    const text = !doc.trace ? "" : swap === "shuffled" ? doc.shuffled : source.trace.cot;
    shown = { context, swap, text, curves: doc.curves?.[swap] ?? null, boundary: swap === "shuffled" ? null : source.trace?.boundary ?? null };
    parts.document.textContent = doc.text;
    for (const input of parts.swaps.querySelectorAll("input")) {
      input.checked = input.value === swap;
      input.disabled = !doc.curves || (input.value === "other" && doc.other === null);
    }
    parts.swaps.hidden = !doc.trace;
    parts.note.textContent = !doc.trace ? "No model has reasoned about these documents. The map shows their labels."
      : swap === "own" ? (doc.trace.error ? `Not in the format, read leniently: ${doc.trace.error}.` : "")
      : swap === "shuffled" ? "A control: the same lines in random order, which have no first phase."
      : `A control: what the model wrote about document ${source.uid}, measured against this document's targets.`;
    spell(text, swap === "shuffled" ? [] : source.trace?.mentions ?? [], doc, collection);
    table();
    draw();
    tick(context);
  };

  // The text as one element a word; a label is one element with its words inside.
  const spell = (text, mentions, doc, collection) => {
    words = [];
    const pieces = [];
    const plain = (from, to) => {
      for (const match of text.slice(from, to).matchAll(/\s+|\S+/g)) {
        const end = from + match.index + match[0].length;
        const word = h("span", { "data-end": end }, match[0]);
        words.push([end, word]);
        pieces.push(word);
      }
    };
    let place = 0;
    for (const [start, end, label] of mentions) {
      if (start < place) continue;
      plain(place, start);
      const word = h("span", { class: `label ${kind(doc, label)}`, "data-end": end, title: collection.labels[label] }, text.slice(start, end));
      words.push([end, word]);
      pieces.push(word);
      place = end;
    }
    plain(place, text.length);
    parts.written.replaceChildren(...pieces);
  };

  const kind = (doc, label) => (doc.gold.includes(label) ? "gold" : doc.near.includes(label) ? "near" : "");

  const tick = ({ state, document: doc, collection }) => {
    if (!shown) return;
    const upTo = state.t * shown.text.length + 1e-6;
    for (const [end, word] of words) word.classList.toggle("unwritten", end > upTo);
    parts.written.dataset.hint = doc.trace && state.t <= 0 ? "Press Play, or move t: the text appears here." : "";
    const done = doc.trace && state.t >= 1 && shown.swap === "own";
    parts.answer.replaceChildren(...(doc.trace ? [h("h3", {}, done ? "The answer, surest first" : "The answer comes at t = 1")] : []),
      ...(done ? [h("ol", {}, ...doc.trace.answer.map((label) => h("li", {}, h("span", { class: `label ${kind(doc, label)}` }, collection.labels[label]))))] : []),
      h("details", {}, h("summary", {}, `${doc.gold.length} gold ${doc.gold.length === 1 ? "label" : "labels"}`),
        h("ul", {}, ...doc.gold.map((label) => h("li", {}, collection.labels[label])))));
    const x = parts.cursor?.scale(state.t);
    if (x !== undefined) { parts.cursor.line.setAttribute("x1", x); parts.cursor.line.setAttribute("x2", x); }
    parts.table.mark(Math.round(state.t * (collection.grid.length - 1)));
  };

  const table = () => {
    const { collection, document: doc } = shown.context, { curves } = shown;
    const rows = curves ? collection.grid.map((t, row) => [t.toFixed(2), ...Object.keys(NAMES).map((name) => curves[name][row]?.toFixed(3) ?? null)]) : [];
    parts.table.fill(`Cosines along ${SWAPS[shown.swap]}`, ["t", "Focus", "Confusion", "gold"], rows, `curves-${doc.uid}-${shown.swap}`);
    parts.table.box.hidden = !curves;
  };

  // Bounds of all curves of the document, so that its trace and the controls share an axis.
  const bounds = (doc) => {
    const values = Object.values(doc.curves).flatMap((curves) => Object.values(curves).flat()).filter((value) => value !== null);
    const [low, high] = [Math.min(...values, 0), Math.max(...values, 0.1)];
    return [Math.floor(low * 10) / 10, Math.ceil(high * 10) / 10];
  };

  const drawing = (width, height) => {
    const { collection, document: doc, state } = shown.context, [low, high] = bounds(doc);
    const x = (t) => LEFT + t * (width - LEFT - RIGHT), y = (value) => height - BOTTOM - ((value - low) / (high - low)) * (height - TOP - BOTTOM);
    const text = colour("text"), line = colour("line"), marks = [];
    for (let step = Math.round(low * 10); step <= Math.round(high * 10); step += high - low > 0.8 ? 2 : 1) {
      marks.push(svg("line", { x1: x(0), x2: x(1), y1: y(step / 10), y2: y(step / 10), stroke: line }),
        svg("text", { x: LEFT - 6, y: y(step / 10) + 4, "text-anchor": "end", fill: text }, (step / 10).toFixed(1)));
    }
    for (const t of [0, 0.25, 0.5, 0.75, 1]) marks.push(svg("text", { x: x(t), y: height - 10, "text-anchor": t === 1 ? "end" : "middle", fill: text }, String(t)));
    if (shown.boundary !== null) {
      const place = x(shown.boundary);
      marks.push(svg("line", { x1: place, x2: place, y1: TOP, y2: height - BOTTOM, stroke: text, "stroke-dasharray": "2 4" }),
        svg("text", { x: place + 4, y: TOP + 10, fill: text }, "t*"));
    }
    const curves = Object.keys(NAMES).map((name) => {
      const points = collection.grid.map((t, row) => [t, shown.curves[name][row]]).filter(([, value]) => value !== null);
      return svg("polyline", { points: points.map(([t, value]) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`).join(" "), fill: "none",
        stroke: colour(name), "stroke-width": 2.5, "stroke-dasharray": DASHES[name] });
    });
    const cursor = svg("line", { x1: x(state.t), x2: x(state.t), y1: TOP, y2: height - BOTTOM, stroke: text, "stroke-width": 2 });
    return { children: [...marks, ...curves, cursor], cursor: { line: cursor, scale: x } };
  };

  const draw = () => {
    if (!shown.curves) { parts.chart.replaceChildren(); parts.cursor = null; return; }
    const width = Math.max(260, parts.chart.clientWidth), { children, cursor } = drawing(width, HEIGHT);
    parts.cursor = cursor;
    const chart = svg("svg", { width, height: HEIGHT, role: "img", "aria-label": "Focus, Confusion and the cosine to gold labels against t; the table below has the numbers" }, ...children);
    chart.addEventListener("pointerdown", (event) => {
      const t = (event.clientX - chart.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT);
      explorer.set({ t: Math.min(1, Math.max(0, t)) });
    });
    parts.chart.replaceChildren(chart, key());
  };

  const key = () => h("p", { class: "legend" }, ...Object.keys(NAMES).flatMap((name) => [
    svg("svg", { width: 34, height: 10, "aria-hidden": "true" }, svg("line", { x1: 1, x2: 33, y1: 5, y2: 5, stroke: colour(name), "stroke-width": 2.5, "stroke-dasharray": DASHES[name] })),
    h("span", {}, ` ${NAMES[name]}  `)]));

  const picture = (width, height) => {
    const legend = Object.keys(NAMES).flatMap((name, row) => [
      svg("line", { x1: LEFT + row * 190, x2: LEFT + 30 + row * 190, y1: height + 14, y2: height + 14, stroke: colour(name), "stroke-width": 2.5, "stroke-dasharray": DASHES[name] }),
      svg("text", { x: LEFT + 36 + row * 190, y: height + 18, fill: colour("text") }, NAMES[name])]);
    return explorer.svgFile(width, height + 30, `Document ${shown.context.document.uid}: ${SWAPS[shown.swap]}`, ...drawing(width, height).children, ...legend);
  };

  return { mount, open, tick, redraw: () => shown && draw() };
})();
