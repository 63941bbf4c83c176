// The map: all labels as points; those of the document light up as the trace names them.
"use strict";
explorer.map = (() => {
  const { h, svg, colour, tableBox, calm } = explorer;
  const WHOLE = [-0.02, -0.02, 1.02, 1.02], KINDS = { gold: "gold", answer: "answer", shortlisted: "shortlisted", near: "near miss", retrieved: "retrieved" };
  let root, parts = {}, shown = null, view = WHOLE, moving = 0, opened = 0, lowered = [];

  const mount = (section) => {
    root = section;
    parts.canvas = h("canvas", { role: "img", "aria-label": "Map of the labels; the table has those of this document", onpointermove: point, onpointerdown: point });
    parts.say = h("p", { class: "say", "aria-live": "polite" });
    parts.k = h("input", { type: "number", id: "k", min: 0, max: 100, oninput: () => explorer.set({ k: Math.min(100, Math.max(0, Number(parts.k.value) || 0)) }) });
    parts.find = h("input", { type: "search", id: "find", maxlength: 100, oninput: () => explorer.set({ find: parts.find.value }) });
    parts.hits = h("ul", { class: "hits" });
    parts.zoom = h("button", { type: "button", onclick: () => explorer.set({ zoom: !explorer.context().state.zoom }) });
    parts.recall = h("p", { class: "say" });
    parts.table = tableBox("Labels of this document", () => picture());
    parts.canvasBox = h("div", { class: "canvas" }, parts.canvas);
    root.append(
      h("div", { class: "main" }, h("div", { class: "controls" }, parts.zoom, h("label", {}, "k ", parts.k), h("label", {}, "Search ", parts.find)),
        parts.hits, parts.canvasBox, parts.say, legend()),
      h("div", { class: "side" }, h("h2", {}, "Labels of this document"), parts.recall, parts.table.box,
        h("p", { class: "note" }, "Two principal components of the labels' vectors: near points tend to mean similar things, far ones need not differ, and the axes have no unit. " +
          "A label with a qualifier stands at the label above it.")));
    new ResizeObserver(() => { if (shown && !root.hidden) draw(); }).observe(parts.canvasBox);
  };

  const legend = () => h("p", { class: "legend" }, ...Object.entries({ gold: "gold label", near: "near miss", shortlisted: "shortlisted", answer: "answered", retrieved: "retrieved" })
    .flatMap(([kind, text]) => [svg("svg", { width: 18, height: 18, "aria-hidden": "true" }, symbol(kind, 9, 9, 1, true)), h("span", {}, ` ${text}  `)]));

  const open = async (context) => {
    const { collection } = context, turn = ++opened;
    const data = await explorer.load(`${collection.name}/map`);
    if (turn !== opened) return;
    if (shown?.data !== data) {
      data.numbers ??= new Uint16Array(data.places.buffer, 0, data.places.length >> 1);
      lowered = data.names.map((name) => name.toLowerCase());
    }
    shown = { data, n: data.names.length, context: explorer.context() };
    parts.find.value = shown.context.state.find;
    tick(shown.context);
  };

  const place = (point) => [shown.data.numbers[point] / 65535, 1 - shown.data.numbers[shown.n + point] / 65535];

  // What is marked: each label of the document with its kind and how strongly it is lit at t.
  const marks = () => {
    const { document: doc, collection, state } = shown.context, all = [], trace = doc.trace;
    const boundary = trace?.boundary ?? 0.5, length = trace?.cot.length ?? 1, refined = Math.max(0, Math.min(1, (state.t - boundary) / (1 - boundary || 1)));
    const named = new Map();
    for (const [, end, label] of trace?.mentions ?? []) if (!named.has(label)) named.set(label, end / length);
    const add = (kind, label, light, more = {}) => { if (collection.points[label] >= 0) all.push({ kind, label, light, point: collection.points[label], ...more }); };
    doc.retrieved.slice(0, state.k).forEach((label, rank) => add("retrieved", label, 1, { rank: rank + 1 }));
    for (const label of doc.near) add("near", label, 1);
    for (const label of trace?.shortlist ?? []) {
      const t = named.get(label) ?? boundary, kept = trace.answer.includes(label);
      add("shortlisted", label, state.t < t ? 0 : kept ? 1 : 1 - 0.8 * refined, { t });
    }
    for (const label of trace?.answer ?? []) add("answer", label, refined, { t: 1 });
    for (const label of doc.gold) add("gold", label, 1);
    return all;
  };

  // Labels that share a point stand in a ring around it, so that near misses ring their gold label.
  const spread = (all) => {
    const byPoint = new Map();
    for (const mark of all) {
      const labels = byPoint.get(mark.point) ?? byPoint.set(mark.point, new Map()).get(mark.point);
      if (!labels.has(mark.label)) labels.set(mark.label, labels.size);
      mark.turn = labels.get(mark.label);
    }
    for (const mark of all) mark.crowd = byPoint.get(mark.point).size;
    return all;
  };

  const at = (mark, project) => {
    const [x, y] = project(place(mark.point));
    if (mark.crowd === 1) return [x, y];
    const radius = 6 + mark.crowd * 1.3, angle = (2 * Math.PI * mark.turn) / mark.crowd - Math.PI / 2;
    return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
  };

  const projection = (width, height) => ([x, y]) => [((x - view[0]) / (view[2] - view[0])) * width, ((y - view[1]) / (view[3] - view[1])) * height];

  const goal = () => {
    if (!shown.context.state.zoom) return WHOLE;
    const { state } = shown.context, all = shown.all.filter((mark) => mark.light > 0.3 && (mark.kind !== "retrieved" || !shown.context.document.trace));
    const condensed = state.t >= 1 ? all.filter((mark) => mark.kind === "answer" || mark.kind === "gold") : all;
    const places = (condensed.length ? condensed : all).map((mark) => place(mark.point));
    if (!places.length) return WHOLE;
    const [xs, ys] = [0, 1].map((axis) => places.map((one) => one[axis]));
    const middle = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
    const half = Math.max(0.04, (Math.max(...xs) - Math.min(...xs)) * 0.62, (Math.max(...ys) - Math.min(...ys)) * 0.62);
    return [middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half];
  };

  const tick = (context) => {
    if (!shown || root.hidden) return;
    shown.context = context;
    shown.all = spread(marks());
    const { state } = context;
    if (document.activeElement !== parts.k) parts.k.value = state.k;
    if (document.activeElement !== parts.find) parts.find.value = state.find;
    parts.zoom.textContent = state.zoom ? "Whole map" : "Zoom in";
    parts.zoom.setAttribute("aria-pressed", state.zoom);
    search();
    table();
    move(goal());
  };

  const move = (target) => {
    cancelAnimationFrame(moving);
    const from = view, start = performance.now(), lasts = calm() || from.every((edge, side) => Math.abs(edge - target[side]) < 1e-6) ? 0 : 260;
    const step = (time) => {
      const done = lasts ? Math.min(1, Math.max(0, (time - start) / lasts)) : 1, eased = 1 - (1 - done) ** 3;
      view = from.map((edge, side) => edge + (target[side] - edge) * eased);
      draw();
      if (done < 1) moving = requestAnimationFrame(step);
    };
    if (lasts) moving = requestAnimationFrame(step); else step(start);
  };

  const size = () => { const width = Math.max(260, parts.canvasBox.clientWidth); return [width, Math.min(width, Math.max(320, innerHeight * 0.62))]; };

  const draw = () => {
    const [width, height] = size(), context = explorer.fit(parts.canvas, width, height), project = projection(width, height), { state, document: doc, collection } = shown.context;
    context.clearRect(0, 0, width, height);
    context.fillStyle = colour("point");
    const dot = Math.min(4, Math.max(1.2, (1.2 / (view[2] - view[0])) * (shown.n < 5000 ? 1.8 : 1)));
    for (let point = 0; point < shown.n; point += 1) {
      const [x, y] = project(place(point));
      if (x > -dot && y > -dot && x < width && y < height) context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
    }
    context.strokeStyle = colour("text");
    context.lineWidth = 1.5;
    for (const point of shown.hits) {
      const [x, y] = project(place(point));
      context.beginPath(); context.moveTo(x - 4, y - 4); context.lineTo(x + 4, y + 4); context.moveTo(x + 4, y - 4); context.lineTo(x - 4, y + 4); context.stroke();
    }
    context.font = "13px sans-serif";
    for (const topic of collection.topics.filter(({ node, place: spot }) => spot && doc.topics.includes(node))) {
      const [x, y] = project([topic.place[0], 1 - topic.place[1]]), text = topic.text.length > 34 ? `${topic.text.slice(0, 33)}…` : topic.text;
      const half = context.measureText(text).width / 2, left = Math.min(width - half - 4, Math.max(half + 4, x));
      context.globalAlpha = 0.85; context.fillStyle = colour("ground"); context.fillRect(left - half - 3, y - 29, 2 * half + 6, 16);
      context.globalAlpha = 1; context.fillStyle = colour("text"); context.textAlign = "center"; context.fillText(text, left, y - 17);
    }
    for (const mark of shown.all) if (mark.light > 0) paint(context, mark, ...at(mark, project));
    shown.project = project;
  };

  const SHAPES = {
    gold: (x, y) => `M${x} ${y - 7}L${x + 7} ${y}L${x} ${y + 7}L${x - 7} ${y}Z`,
    near: (x, y) => `M${x - 6} ${y}A6 6 0 1 0 ${x + 6} ${y}A6 6 0 1 0 ${x - 6} ${y}Z`,
    shortlisted: (x, y) => `M${x - 4.5} ${y}A4.5 4.5 0 1 0 ${x + 4.5} ${y}A4.5 4.5 0 1 0 ${x - 4.5} ${y}Z`,
    answer: (x, y) => `M${x} ${y - 6}L${x + 5.5} ${y + 4}L${x - 5.5} ${y + 4}Z`,
    retrieved: (x, y) => `M${x - 4} ${y - 4}H${x + 4}V${y + 4}H${x - 4}Z`,
  };
  const looks = (kind) => ({ gold: ["none", "gold", 2.5], near: ["none", "confusion", 2], shortlisted: ["focus", "ground", 1], answer: ["answer", "ground", 1], retrieved: ["none", "muted", 1.5] })[kind];
  const paint = (context, mark, x, y) => {
    const [fill, stroke, width] = looks(mark.kind), path = new Path2D(SHAPES[mark.kind](x, y));
    context.globalAlpha = mark.light;
    if (fill !== "none") { context.fillStyle = colour(fill); context.fill(path); }
    context.strokeStyle = colour(stroke); context.lineWidth = width; context.stroke(path);
    context.globalAlpha = 1;
  };
  const symbol = (kind, x, y, light, live) => {
    const [fill, stroke, width] = looks(kind), named = (name) => (name === "none" ? "none" : live ? `var(--${name})` : colour(name));
    return svg("path", { d: SHAPES[kind](x, y), style: live ? `fill:${named(fill)};stroke:${named(stroke)}` : null, fill: live ? null : named(fill), stroke: live ? null : named(stroke), "stroke-width": width, opacity: light });
  };

  const point = (event) => {
    if (!shown?.project) return;
    const box = parts.canvas.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top], { collection } = shown.context;
    const distance = ([px, py]) => (px - x) ** 2 + (py - y) ** 2;
    const mark = shown.all.filter((one) => one.light > 0).map((one) => [distance(at(one, shown.project)), one]).sort((one, other) => one[0] - other[0])[0];
    if (mark && mark[0] < 200) {
      const kinds = shown.all.filter((one) => one.label === mark[1].label && one.light > 0).map((one) => KINDS[one.kind]);
      parts.say.textContent = `${collection.labels[mark[1].label]}: ${[...new Set(kinds)].join(", ")}`;
      return;
    }
    let nearest = [400, -1];
    for (let number = 0; number < shown.n; number += 1) { const far = distance(shown.project(place(number))); if (far < nearest[0]) nearest = [far, number]; }
    parts.say.textContent = nearest[1] < 0 ? "" : shown.data.names[nearest[1]];
  };

  const search = () => {
    const asked = shown.context.state.find.trim().toLowerCase();
    shown.hits = [];
    if (asked.length > 1) for (let number = 0; number < shown.n && shown.hits.length < 200; number += 1) if (lowered[number].includes(asked)) shown.hits.push(number);
    const rest = shown.hits.length - 8;
    parts.hits.replaceChildren(...(asked.length > 1 && !shown.hits.length ? [h("li", {}, "No label holds these letters.")] : []),
      ...shown.hits.slice(0, 8).map((number) => h("li", {}, shown.data.names[number])),
      ...(rest > 0 ? [h("li", {}, `and ${rest === 192 ? "many" : rest} more, marked × on the map`)] : []));
  };

  const table = () => {
    const { document: doc, collection, state } = shown.context, byLabel = new Map();
    for (const mark of shown.all) {
      const row = byLabel.get(mark.label) ?? byLabel.set(mark.label, { kinds: [], t: null, rank: null, light: 0 }).get(mark.label);
      row.kinds.push(KINDS[mark.kind]);
      if (mark.kind === "shortlisted") row.t = mark.t;
      if (mark.rank) row.rank = mark.rank;
      row.light = Math.max(row.light, mark.light);
    }
    const order = Object.values(KINDS), first = (row) => Math.min(...row.kinds.map((kind) => order.indexOf(kind)));
    const rows = [...byLabel].filter(([, row]) => row.light > 0).sort((one, other) => first(one[1]) - first(other[1]));
    parts.table.fill(`${collection.n_labels.toLocaleString("en")} labels to choose from; those of this document at t = ${state.t.toFixed(2)}`,
      ["label", "is", "listed at t", "rank"],
      rows.map(([label, row]) => [collection.labels[label], order.filter((kind) => row.kinds.includes(kind)).join(", "), row.t === null ? null : row.t.toFixed(2), row.rank]), `labels-${doc.uid}`);
    const found = doc.retrieved.slice(0, state.k).filter((label) => doc.gold.includes(label)).length;
    const listed = doc.trace ? doc.trace.shortlist.filter((label) => doc.gold.includes(label)).length : 0;
    parts.recall.textContent = `The ${Math.min(state.k, doc.retrieved.length)} labels retrieved by ${collection.encoder} hold ${found} of ${doc.gold.length} gold labels.` +
      (doc.trace ? ` The model's own shortlist of ${doc.trace.shortlist.length} holds ${listed}.` : "");
  };

  const picture = () => {
    const [width, height] = [800, 800], project = projection(width, height), dots = [];
    for (let number = 0; number < shown.n; number += 1) {
      const [x, y] = project(place(number));
      if (x >= 0 && y >= 0 && x < width && y < height) dots.push(`M${x.toFixed(0)} ${y.toFixed(0)}h1`);
    }
    return explorer.svgFile(width, height, `Labels of document ${shown.context.document.uid}`, svg("path", { d: dots.join(""), stroke: colour("point") }),
      ...shown.all.filter((mark) => mark.light > 0).map((mark) => symbol(mark.kind, ...at(mark, project).map((value) => Number(value.toFixed(1))), mark.light, false)));
  };

  return { mount, open, tick, redraw: () => { if (shown && !root.hidden) draw(); } };
})();
