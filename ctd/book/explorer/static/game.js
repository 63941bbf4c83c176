// Guess the planted heads, then see them, and what each score would have guessed.
"use strict";
explorer.game = (() => {
  const { h, tableBox } = explorer;
  let parts = {}, now = null, head = null;

  const key = ([layer, number]) => `${layer}.${number}`;
  const planted = (facts, phase) => (facts.planted[phase] ?? []).map((place) => key(facts.heads[place]));
  const known = (facts) => Object.keys(facts.planted).length > 0;

  const mount = () => {
    parts.ask = h("p");
    parts.buttons = h("p", { class: "buttons" });
    parts.result = h("p", { class: "say", "aria-live": "polite" });
    parts.table = tableBox("What each score would guess");
    return h("section", { class: "game", "aria-label": "Guess the planted heads" }, h("h2", {}, "Guess the planted heads"), parts.ask, parts.buttons, parts.result, parts.table.box);
  };

  const guess = (phase) => {
    const { state, collection } = now, name = `guess${phase}`, most = planted(collection.heads, phase).length;
    if (!most || state.revealed) return;
    const before = state[name], other = `guess${3 - phase}`;
    const after = before.includes(state.head) ? before.filter((one) => one !== state.head) : [...before, state.head].slice(-most);
    explorer.set({ [name]: after, [other]: state[other].filter((one) => one !== state.head) });
  };

  // What the grid says of a head: guesses, and after the answer what is right.
  const says = ({ state, collection }, one) => {
    const facts = collection.heads, guessed = [1, 2].find((phase) => state[`guess${phase}`].includes(one));
    const truth = state.revealed ? [1, 2].find((phase) => planted(facts, phase).includes(one)) : undefined;
    const label = (guessed ? `, guessed for Phase ${guessed}` : "") + (truth ? `, planted for Phase ${truth}` : "");
    return { label, marks: [guessed ? `?${guessed}` : "", truth ? `★${truth}` : ""].filter(Boolean).join(" ") };
  };

  const update = (context, chosen) => {
    [now, head] = [context, chosen];
    const { state, collection } = context, facts = collection.heads;
    const each = Object.entries(facts.planted).map(([phase, heads]) => `${heads.length} for Phase ${phase}`).join(" and ");
    parts.ask.textContent = known(facts)
      ? `${each} were planted in this model of ${facts.heads.length} heads. Phase 1 heads look at the words of the document that a shortlisted label comes from; ` +
        "Phase 2 heads look back at the shortlist while labels are compared and answered. Choose a head above and guess."
      : "Nothing was planted in this model, so nobody knows which heads matter. The scores name these:";
    parts.buttons.replaceChildren(...(known(facts) ? buttons(context, chosen) : []));
    parts.result.textContent = known(facts) && state.revealed ? result(context) : "";
    parts.table.box.hidden = known(facts) && !state.revealed;
    if (!parts.table.box.hidden) scores(context);
  };

  const buttons = ({ state, collection }, chosen) => {
    if (state.revealed) return [h("button", { type: "button", onclick: () => explorer.set({ revealed: false, guess1: [], guess2: [] }) }, "Start over")];
    const one = key(chosen);
    return [1, 2].map((phase) => h("button", { type: "button", "aria-pressed": state[`guess${phase}`].includes(one), onclick: () => guess(phase) },
      `${one} is a Phase ${phase} head`)).concat(h("button", { type: "button", class: "reveal", onclick: () => explorer.set({ revealed: true }) }, "Reveal"));
  };

  const result = ({ state, collection }) => [1, 2].map((phase) => {
    const truth = planted(collection.heads, phase), right = state[`guess${phase}`].filter((one) => truth.includes(one)).length;
    return `Phase ${phase}: you found ${right} of ${truth.length}, they are ${truth.join(" and ")}.`;
  }).join(" ");

  const scores = ({ collection }) => {
    const facts = collection.heads;
    const rows = facts.scores.map((score) => {
      const truth = planted(facts, score.phase), named = score.guess.map((place) => key(facts.heads[place]));
      return [score.name, score.phase, score.meaning, named.join(", "), ...(known(facts) ? [`${named.filter((one) => truth.includes(one)).length} of ${truth.length}`] : [])];
    });
    parts.table.fill(`What each score would guess, from its mean over ${facts.n_scored} documents`,
      ["score", "phase", "large where a head", "guess", ...(known(facts) ? ["right"] : [])], rows, "scores");
  };

  return { mount, update, says, guess };
})();
