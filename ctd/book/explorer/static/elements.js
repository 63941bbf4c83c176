// Elements are made one by one and text is set as text, so that nothing in a label or a document is ever run as HTML.
"use strict";
{
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  explorer.h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  explorer.svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  explorer.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  explorer.calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // A canvas of so many CSS pixels, sharp on the screen; its drawing is in CSS pixels.
  explorer.fit = (canvas, width, height) => {
    const scale = Math.min(2, devicePixelRatio || 1);
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  };

  explorer.download = (name, text, type) => {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = explorer.h("a", { href: address, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  const field = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would compute it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  explorer.csv = (heads, rows) => [heads, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}
