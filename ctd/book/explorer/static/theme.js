// The theme is set before anything is drawn: the reader's own choice (shared with the book), else the system's.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try { return localStorage.getItem("mode"); } catch { return null; }
  };
  const apply = () => {
    const mode = stored();
    document.documentElement.dataset.theme = mode === "light" || mode === "dark" ? mode : system.matches ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      button.textContent = other === "dark" ? "Dark" : "Light";
      button.setAttribute("aria-label", `${button.textContent} theme`);
    };
    label();
    button.addEventListener("click", () => {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      try { localStorage.setItem("mode", theme); localStorage.setItem("theme", theme); } catch { /* not kept */ }
      label();
      document.dispatchEvent(new Event("explorer-theme"));
    });
  });
})();
