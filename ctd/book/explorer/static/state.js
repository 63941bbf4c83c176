// What is shown, as one plain object that stands in the address behind "#", so that a page can link to any view.
"use strict";
var explorer = {};

explorer.VIEWS = ["trace", "heads", "map"];
explorer.SWAPS = ["own", "shuffled", "other"];

explorer.defaults = () => ({
  collection: "", document: 0, view: "trace", t: 0, trace: "own", head: "", k: 10, find: "", zoom: false,
  guess1: [], guess2: [], revealed: false, silenced: false,
});

// The state that an address names. What is unknown or out of bounds is left at its default.
explorer.parse = (hash) => {
  const state = explorer.defaults(), asked = new URLSearchParams(String(hash).replace(/^#/, ""));
  const number = (name, low, high) => {
    const value = Number(asked.get(name));
    return asked.get(name) && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : state[name];
  };
  const heads = (name) => (asked.get(name) || "").split(",").filter((head) => /^\d+\.\d+$/.test(head));
  state.collection = asked.get("collection") || "";
  state.document = Math.round(number("document", 0, 1e6));
  state.t = Math.round(number("t", 0, 1) * 1000) / 1000;
  state.k = Math.round(number("k", 0, 1000));
  if (explorer.VIEWS.includes(asked.get("view"))) state.view = asked.get("view");
  if (explorer.SWAPS.includes(asked.get("trace"))) state.trace = asked.get("trace");
  state.head = heads("head")[0] || "";
  state.find = (asked.get("find") || "").slice(0, 100);
  for (const name of ["guess1", "guess2"]) state[name] = [...new Set(heads(name))].slice(0, 8);
  for (const name of ["zoom", "revealed", "silenced"]) state[name] = asked.get(name) === "yes";
  return state;
};

// The address of a state, without what is at its default.
explorer.format = (state) => {
  const named = new URLSearchParams(), defaults = explorer.defaults();
  for (const [name, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.join(",") : value === true ? "yes" : String(value);
    const usual = defaults[name];
    if (text !== (Array.isArray(usual) ? usual.join(",") : String(usual)) && value !== false) named.set(name, text);
  }
  return "#" + named.toString();
};
