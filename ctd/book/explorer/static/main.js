// Wires the views to one state: the address, the slider, the keys.
"use strict";
{
  const byId = (id) => document.getElementById(id), views = { trace: explorer.trace, heads: explorer.heads, map: explorer.map };
  let state = explorer.parse(location.hash), collection = null, playing = 0, waiting = 0, showing = "";

  explorer.context = () => ({ state, collection, document: collection?.documents[state.document] });

  explorer.set = (changes) => {
    Object.assign(state, changes);
    if ("t" in changes) state.t = Math.round(Math.min(1, Math.max(0, state.t)) * 1000) / 1000;
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; show(); });
  };

  const say = (text) => { byId("message").textContent = text; };

  const show = async () => {
    try {
      if (collection?.name !== state.collection) await enter();
      state.document = Math.min(Math.max(0, state.document), collection.documents.length - 1);
      keep();
      controls();
      const now = JSON.stringify([state.collection, state.document, state.view, state.trace]);
      if (now !== showing) {
        showing = now;
        for (const name of explorer.VIEWS) byId(name).hidden = name !== state.view;
        await views[state.view].open(explorer.context());
      } else views[state.view].tick(explorer.context());
    } catch (error) {
      say(`This view cannot be shown: ${error.message}.`);
    }
  };

  const enter = async () => {
    const name = state.collection;
    const data = await explorer.load(`${name}/documents`);
    if (name !== state.collection) return;
    collection = data;
    collection.name = name;
    byId("document").replaceChildren(...collection.documents.map((doc, row) => explorer.h("option", { value: row }, `${row + 1}: ${excerpt(doc.text)}`)));
    byId("about").textContent = `${collection.documents.length} ${collection.generated ? "generated documents" : "documents"}. ${collection.made} Licence: ${collection.licence}` +
      (collection.whole ? "" : " Documents are shown by their first words only.");
    say("");
  };
  const excerpt = (text) => (text.length > 60 ? `${text.slice(0, 59)}…` : text);

  const keep = () => {
    const address = explorer.format(state);
    if (address !== location.hash) history.replaceState(null, "", address === "#" ? location.pathname + location.search : address);
  };

  const controls = () => {
    const { trace } = explorer.context().document;
    for (const tab of document.querySelectorAll("[role=tab]")) {
      tab.setAttribute("aria-selected", tab.dataset.view === state.view);
      tab.tabIndex = tab.dataset.view === state.view ? 0 : -1;
    }
    byId("collection").value = state.collection;
    byId("document").value = state.document;
    byId("t").value = state.t;
    byId("t").disabled = byId("play").disabled = !trace;
    const phase = !trace ? "no trace" : state.t >= 1 ? "answer" : trace.boundary === null ? "t* not marked" : state.t < trace.boundary ? "Phase 1: shortlist" : "Phase 2: refine";
    byId("now").textContent = `${state.t.toFixed(2)} · ${phase}`;
    byId("t").setAttribute("aria-valuetext", `${state.t.toFixed(2)}, ${phase}`);
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", Boolean(playing));
  };

  // Playing is smooth, or in steps where the reader wants little motion.
  const play = () => {
    if (playing) { cancelAnimationFrame(playing); clearTimeout(playing); playing = 0; explorer.set({}); return; }
    if (byId("t").disabled) return;
    if (state.t >= 1) state.t = 0;
    let last = performance.now();
    const calm = explorer.calm();
    const step = (time) => {
      const next = calm ? state.t + 0.1 : state.t + Math.min(0.02, (time - last) / 15000);
      last = time;
      playing = next >= 1 ? 0 : calm ? setTimeout(step, 1000) : requestAnimationFrame(step);
      explorer.set({ t: next });
    };
    playing = calm ? setTimeout(step, 1000) : requestAnimationFrame(step);
    explorer.set({});
  };

  const keys = (event) => {
    const inField = event.target.matches("input:not([type=range]):not([type=radio]), select, textarea");
    if (event.key === "Escape" && inField) { event.target.blur(); return; }
    if (inField || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const onTab = event.target.matches("[role=tab]"), onChoice = event.target.matches("[type=radio], .scroll");
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const turn = (by) => explorer.VIEWS[(explorer.VIEWS.indexOf(state.view) + by + 3) % 3];
    const done = {
      Home: () => explorer.set({ t: 0 }), End: () => explorer.set({ t: 1 }),
      1: () => explorer.set({ view: "trace" }), 2: () => explorer.set({ view: "heads" }), 3: () => explorer.set({ view: "map" }),
      n: () => explorer.set({ document: state.document + 1 }), p: () => explorer.set({ document: state.document - 1 }),
      s: () => explorer.set({ trace: explorer.SWAPS[(explorer.SWAPS.indexOf(state.trace) + 1) % 3] }),
      k: () => reach("k"), "/": () => reach("find"),
      "?": () => { byId("keys").open = !byId("keys").open; },
    }[event.key];
    if (step && onTab) { explorer.set({ view: turn(step) }); byId(`tab-${turn(0)}`).focus(); }
    else if (step && !onChoice && !byId("t").disabled) explorer.set({ t: state.t + step * (event.shiftKey ? 0.1 : 0.01) });
    else if (event.key === " " && !event.target.matches("button, summary, input")) play();
    else if (done && !(onChoice && ["Home", "End"].includes(event.key))) done();
    else return;
    event.preventDefault();
  };
  const reach = async (id) => { explorer.set({ view: "map" }); await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); byId(id)?.focus(); };

  const names = [...byId("collection").options].map((option) => option.value);
  const known = () => { if (!names.includes(state.collection)) state.collection = names[0]; };
  known();
  for (const name of explorer.VIEWS) views[name].mount(byId(name));
  for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => explorer.set({ view: tab.dataset.view }));
  byId("collection").addEventListener("change", (event) => explorer.set({ collection: event.target.value, document: 0, head: "", guess1: [], guess2: [], revealed: false }));
  byId("document").addEventListener("change", (event) => explorer.set({ document: Number(event.target.value) }));
  byId("t").addEventListener("input", (event) => explorer.set({ t: Number(event.target.value) }));
  byId("play").addEventListener("click", play);
  document.addEventListener("keydown", keys);
  document.addEventListener("explorer-theme", () => views[state.view].redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => views[state.view].redraw());
  addEventListener("hashchange", () => { state = explorer.parse(location.hash); known(); explorer.set({}); });
  explorer.set({});
}
