// Tables with data-filters (numbers of columns) get a list of values to choose from for each of these columns.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table[data-filters]")) {
    const rows = [...table.tBodies[0].rows]
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim())
    const bar = document.createElement("form")
    bar.className = "ctd-filters"
    const lists = table.dataset.filters.split(" ").map((column) => {
      const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))].sort()
      const label = document.createElement("label")
      const list = document.createElement("select")
      list.append(new Option(`all (${values.length})`, ""), ...values.map((value) => new Option(value || "none", value)))
      list.dataset.column = column
      label.append(heads[column], list)
      bar.append(label)
      return list
    })
    const count = document.createElement("output")
    bar.append(count)
    const choose = () => {
      for (const row of rows)
        row.hidden = lists.some((list) => list.selectedIndex > 0 && row.cells[list.dataset.column].textContent.trim() !== list.value)
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`
    }
    bar.addEventListener("change", choose)
    bar.addEventListener("submit", (event) => event.preventDefault())
    table.before(bar)
    choose()
    heads.forEach((name, column) => sortBy(table, rows, name, column))
  }
})

// A button in a column's head sorts the rows by it, numbers as numbers; once more turns them round.
const sortBy = (table, rows, name, column) => {
  const head = table.tHead.rows[0].cells[column]
  const button = document.createElement("button")
  button.type = "button"
  button.className = "ctd-sort"
  button.textContent = name
  head.replaceChildren(button)
  button.addEventListener("click", () => {
    const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1
    const text = (row) => row.cells[column].textContent.trim()
    const order = (a, b) => turn * text(a).localeCompare(text(b), undefined, { numeric: true })
    table.tBodies[0].append(...[...rows].sort(order))
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort")
    head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending")
  })
}

// An address that names a folded claim opens it.
const unfold = () => {
  const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (claim instanceof HTMLDetailsElement) {
    claim.open = true
    claim.scrollIntoView()
  }
}
addEventListener("hashchange", unfold)
addEventListener("DOMContentLoaded", unfold)

// What scrolls sideways can be reached with the keyboard.
const reachable = () => {
  for (const box of document.querySelectorAll(".ctd-scroll, .bd-article pre, .bd-article mjx-container[display], div.output.text_html")) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0
      if (!box.hasAttribute("role")) box.setAttribute("role", "group")
      if (!box.hasAttribute("aria-label")) box.setAttribute("aria-label", "scrolls sideways")
    }
  }
}
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise
  reachable()
})
addEventListener("resize", reachable)
document.addEventListener("toggle", reachable, true)

// Paper is white: the dark theme is put aside while a page is printed.
let theme
addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme
  document.documentElement.dataset.theme = "light"
})
addEventListener("afterprint", () => (document.documentElement.dataset.theme = theme))
