// A table beside each view, with its numbers as CSV and the picture as SVG.
"use strict";
explorer.tableBox = (caption, onsvg) => {
  const { h } = explorer;
  const head = h("thead"), body = h("tbody"), title = h("caption", {}, caption);
  let heads = [], rows = [], name = "explorer";
  const box = h("div", { class: "table-box" },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, title, head, body)),
    h("p", { class: "downloads" },
      h("button", { type: "button", onclick: () => explorer.download(`${name}.csv`, explorer.csv(heads, rows), "text/csv") }, "CSV"),
      onsvg ? h("button", { type: "button", onclick: () => explorer.download(`${name}.svg`, onsvg(), "image/svg+xml") }, "SVG") : null));
  return {
    box,
    fill(newCaption, newHeads, newRows, newName) {
      [heads, rows, name] = [newHeads, newRows, newName];
      title.textContent = newCaption;
      head.replaceChildren(h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text))));
      body.replaceChildren(...rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, cell === null ? "–" : String(cell))))));
    },
    mark(number) {
      [...body.rows].forEach((row, place) => row.classList.toggle("now", place === number));
    },
  };
};

// A picture as a file of its own: its colours are those of the theme it was drawn in, on that theme's ground.
explorer.svgFile = (width, height, title, ...children) => {
  const { svg, colour } = explorer;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "sans-serif", "font-size": 12 },
    svg("title", {}, title), svg("rect", { width, height, fill: colour("ground") }), ...children);
  return new XMLSerializer().serializeToString(picture);
};
