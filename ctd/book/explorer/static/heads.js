// The heads: a small picture of each one's attention, and for the chosen one which words it looks at.
"use strict";
explorer.heads = (() => {
  const { h, svg, colour, tableBox } = explorer;
  const COLUMNS = 72, ROWS = 44; // of a small picture
  let root, parts = {}, shown = null, words = [], pinned = null, opened = 0;

  const key = ([layer, head]) => `${layer}.${head}`;
  const name = ([layer, head]) => `layer ${layer}, head ${head}`;

  const mount = (section) => {
    root = section;
    parts.message = h("div", { class: "note" });
    parts.grid = h("div", { class: "grid", role: "group", "aria-label": "Heads", onkeydown: walk });
    parts.say = h("p", { class: "say", "aria-live": "polite" });
    parts.text = h("div", { class: "attended text", tabindex: "0", role: "region", "aria-label": "Prompt and trace, shaded by attention", onpointerover: over, onpointerleave: () => pin(null), onclick: tap });
    parts.silence = h("div", { class: "silence" });
    parts.table = tableBox("Words", () => picture());
    parts.game = explorer.game.mount();
    parts.body = h("div", { class: "body" },
      h("div", { class: "main" }, h("h2", {}, "Every head's attention"),
        h("p", { class: "note" }, "A row for each word of the trace, from top to bottom; a column for each word before it. The line is t."),
        parts.grid, parts.game),
      h("div", { class: "side" }, h("h2", {}, "What it looks at"), parts.say, parts.text, parts.silence, parts.table.box));
    root.append(parts.message, parts.body);
  };

  const open = async (context) => {
    const { collection, state } = context, facts = collection.heads, turn = ++opened;
    parts.message.replaceChildren();
    parts.body.hidden = true;
    if (!facts) { parts.message.textContent = collection.no_heads; return; }
    if (!facts.documents.includes(state.document)) {
      parts.message.append(h("p", {}, `The heads were recorded on ${facts.documents.length} of the ${collection.documents.length} documents: `),
        ...facts.documents.map((row) => h("button", { type: "button", onclick: () => explorer.set({ document: row }) }, `${row + 1}`)));
      return;
    }
    const data = await explorer.load(`${collection.name}/heads-${state.document}`);
    if (turn !== opened) return;
    shown = { context: explorer.context(), facts, data, nKeys: data.tokens.length, nRows: data.ends.length };
    parts.body.hidden = false;
    if (!chosen()) shown.context.state.head = key(facts.heads[0]);
    spell();
    drawGrid();
    tick(shown.context);
  };

  const chosen = () => shown.facts.heads.find((head) => key(head) === shown.context.state.head);
  const number = () => Math.max(0, shown.facts.heads.indexOf(chosen()));
  const weight = (head, row, token) => explorer.fourBits(shown.data.attention, (head * shown.nRows + row) * shown.nKeys + token);

  const row = () => {
    if (pinned !== null) return pinned;
    const t = shown.context.state.t + 1e-6;
    let last = 0;
    while (last + 1 < shown.nRows && shown.data.ends[last + 1] <= Math.min(t, 1.00001)) last += 1;
    return last;
  };

  const drawGrid = () => {
    const { facts, context } = shown, layers = [...new Set(facts.heads.map(([layer]) => layer))];
    const widest = Math.max(...layers.map((layer) => facts.heads.filter(([other]) => other === layer).length));
    parts.grid.style.setProperty("--columns", Math.min(widest, 8));
    const ink = colour("ink").match(/\w\w/g).map((part) => parseInt(part, 16));
    parts.grid.replaceChildren(...facts.heads.map((head, place) => {
      const canvas = h("canvas", { width: Math.min(COLUMNS, shown.nKeys), height: Math.min(ROWS, shown.nRows), "aria-hidden": "true" });
      paint(canvas, place, ink);
      return h("button", { type: "button", class: "head", "data-head": key(head), tabindex: key(head) === context.state.head ? 0 : -1,
        onclick: () => explorer.set({ head: key(head) }) }, canvas, h("span", {}, `${head[0]}.${head[1]}`));
    }));
  };

  // A small picture: each of its points is the largest attention among the words that fall on it.
  const paint = (canvas, head, ink) => {
    const { width, height } = canvas, context = canvas.getContext("2d"), image = context.createImageData(width, height);
    const { nKeys, nRows } = shown, largest = new Float32Array(width * height);
    for (let query = 0; query < nRows; query += 1) {
      const line = Math.floor((query * height) / nRows) * width;
      for (let place = 0; place < nKeys; place += 1) {
        const point = line + Math.floor((place * width) / nKeys), share = weight(head, query, place);
        if (share > largest[point]) largest[point] = share;
      }
    }
    largest.forEach((share, point) => image.data.set([...ink, Math.round(255 * Math.sqrt(share))], point * 4));
    context.putImageData(image, 0, 0);
  };

  const spell = () => {
    words = shown.data.tokens.map((token, place) => h("span", { "data-place": place }, token));
    parts.text.replaceChildren(...words);
  };

  const tick = (context) => {
    if (!shown || parts.body.hidden || root.hidden) return;
    if (shown.context.state.t !== context.state.t) pinned = null;
    shown.context = context;
    if (!chosen()) context.state.head = key(shown.facts.heads[0]);
    shade();
    follow();
    parts.grid.style.setProperty("--row", (row() + 0.5) / shown.nRows);
    for (const cell of parts.grid.children) {
      const head = cell.dataset.head, now = head === context.state.head, { label, marks } = explorer.game.says(context, head);
      cell.setAttribute("aria-pressed", now);
      cell.tabIndex = now ? 0 : -1;
      cell.setAttribute("aria-label", `Layer ${head.replace(".", ", head ")}${label}`);
      cell.dataset.marks = marks;
    }
    explorer.game.update(context, chosen());
    silence();
  };

  // The words as the chosen head sees them while it predicts the word of the row.
  const shade = () => {
    const head = number(), query = row(), writes = shown.data.first + 1 + query, rows = [];
    words.forEach((word, place) => {
      const share = place < writes ? weight(head, query, place) : 0;
      word.style.setProperty("--w", Math.sqrt(share).toFixed(2));
      word.className = place === writes ? "writes" : place > writes ? "later" : "";
      if (share > 0) rows.push([share, place]);
    });
    rows.sort((one, other) => other[0] - one[0]);
    const said = (place) => shown.data.tokens[place].trim() || "¶";
    const top = rows.slice(0, 3).map(([share, place]) => `“${said(place)}” ${(100 * share).toFixed(0)} %`).join(", ");
    parts.say.textContent = `As it wrote “${said(writes)}”, ${name(chosen())} looked at ${top || "no word much"}.`;
    parts.table.fill(`Attention of ${name(chosen())} as it wrote “${said(writes)}” (read in 16 levels)`, ["word", "place", "attention"],
      rows.slice(0, 20).map(([share, place]) => [said(place), place, share.toFixed(3)]), `attention-${shown.context.document.uid}-${key(chosen())}`);
  };

  // The word that is being written stays in sight.
  const follow = () => {
    const word = words[shown.data.first + 1 + row()], box = parts.text;
    const top = word.offsetTop - box.offsetTop;
    if (top < box.scrollTop + 20 || top > box.scrollTop + box.clientHeight - 50) box.scrollTop = top - box.clientHeight / 2;
  };

  const pin = (query) => {
    if (!shown || pinned === query) return;
    pinned = query;
    shade();
    parts.grid.style.setProperty("--row", (row() + 0.5) / shown.nRows);
  };
  const queryOf = (event) => {
    const place = Number(event.target.dataset?.place ?? -1) - shown.data.first - 1;
    return place >= 0 ? place : null;
  };
  const over = (event) => { const query = queryOf(event); if (query !== null) pin(query); };
  const tap = (event) => {
    const query = queryOf(event);
    if (query === null) return;
    if (shown.data.ends[query] <= 1) explorer.set({ t: shown.data.ends[query] }); else pin(query);
  };

  const walk = (event) => {
    const columns = getComputedStyle(parts.grid).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (event.key === "Enter") {
      event.preventDefault();
      explorer.game.guess(event.shiftKey ? 2 : 1);
    }
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = number() + step;
    if (next < 0 || next >= shown.facts.heads.length) return;
    explorer.set({ head: key(shown.facts.heads[next]) });
    parts.grid.children[next].focus();
  };

  // The text without the head, beside the text with it; lines that differ are marked.
  const silence = () => {
    const { data, facts, context } = shown, { state } = context;
    if (!data.texts) { parts.silence.replaceChildren(h("p", { class: "note" }, "This document was not written anew with heads silenced; " +
      `the first ${facts.documents.length > 1 ? "ones were" : "one was"}.`)); return; }
    const button = h("button", { type: "button", "aria-pressed": state.silenced, onclick: () => explorer.set({ silenced: !state.silenced }) },
      state.silenced ? "Hide the text without it" : "Silence this head");
    const choices = [h("p", {}, button)];
    if (state.silenced) {
      const phases = state.revealed ? Object.keys(facts.planted) : [];
      choices.push(compare(`with ${name(chosen())} silenced`, data.texts[0], data.texts[1 + number()]),
        ...phases.map((phase, place) => compare(`with both heads of Phase ${phase} silenced`, data.texts[0], data.texts[1 + facts.heads.length + place])));
    }
    parts.silence.replaceChildren(...choices);
  };

  const compare = (title, before, after) => {
    if (before === after) return h("div", { class: "compared" }, h("h3", {}, title), h("p", {}, "The text stays the same to the letter."));
    const [first, second] = [before, after].map((text) => text.split("\n"));
    const lines = (own, others, mark) => h("div", { class: "text" }, ...own.map((line) => others.includes(line)
      ? h("div", {}, line || " ") : h("div", { class: "differs" }, h("span", {}, mark), ` ${line}`)));
    return h("div", { class: "compared" }, h("h3", {}, title),
      h("div", { class: "pair" }, h("div", {}, h("h4", {}, "as it was"), lines(first, second, "−")), h("div", {}, h("h4", {}, "silenced"), lines(second, first, "+"))),
      h("p", { class: "note" }, "Silenced: the head looks evenly at all that it sees, from the trace's first word on."));
  };

  const picture = () => {
    const head = number(), size = 3, cells = [];
    for (let query = 0; query < shown.nRows; query += 1) {
      for (let place = 0; place < shown.nKeys; place += 1) {
        const share = weight(head, query, place);
        if (share > 0) cells.push(svg("rect", { x: 10 + place * size, y: 30 + query * size, width: size, height: size, fill: colour("ink"), "fill-opacity": Math.sqrt(share).toFixed(2) }));
      }
    }
    const title = `${name(chosen())}, document ${shown.context.document.uid}`;
    return explorer.svgFile(20 + shown.nKeys * size, 40 + shown.nRows * size, title,
      svg("text", { x: 10, y: 20, fill: colour("text") }, `${title}: rows are words of the trace, columns the words before them`), ...cells);
  };

  return { mount, open, tick, redraw: () => { if (shown && !parts.body.hidden) { drawGrid(); tick(shown.context); } } };
})();
