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

// On a phone a table that holds sentences is a list of cards (custom.css), so every value needs the name of its column.
document.addEventListener("DOMContentLoaded", () => {
  const long = 60 // characters
  for (const table of document.querySelectorAll(".bd-article table:not(.ctd-runs)")) {
    const rows = [...(table.tBodies[0]?.rows ?? [])]
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((cell) => cell.textContent.trim())
    if (heads.length < 3 || !rows.some((row) => [...row.cells].some((cell) => cell.textContent.trim().length > long))) continue
    table.classList.add("ctd-cards-on-phones")
    for (const row of rows)
      [...row.cells].forEach((cell, column) => {
        if (column) cell.dataset.head = heads[column]
        cell.classList.toggle("ctd-empty", !cell.textContent.trim())
      })
  }
})

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

// A result of the search gets an excerpt around the first word that was asked for.
const searched = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean)
const excerpt = (text) => {
  const lower = text.toLowerCase()
  const stems = searched.map((word) => (lower.includes(word) ? word : word.slice(0, Math.max(4, word.length - 3))))
  const phrase = lower.indexOf(searched.join(" "))
  const places = stems.map((stem) => lower.indexOf(stem)).filter((place) => place >= 0)
  if (!places.length) return null
  const place = phrase >= 0 ? phrase : Math.min(...places)
  const start = place > 80 ? text.indexOf(" ", place - 80) + 1 : 0 // at the beginning of a word
  const quoted = text.slice(start, start + 240)
  const line = document.createElement("p")
  line.className = "ctd-excerpt"
  const pattern = new RegExp(`(${stems.map((stem) => RegExp.escape?.(stem) ?? stem.replace(/\W/g, "\\$&")).join("|")})`, "i")
  quoted.split(pattern).forEach((part, row) => {
    const piece = row % 2 ? document.createElement("mark") : document.createTextNode("")
    piece.textContent = part
    line.append(piece)
  })
  line.prepend(start ? "… " : "")
  line.append(start + 240 < text.length ? " …" : "")
  return line
}
document.addEventListener("DOMContentLoaded", () => {
  const results = document.getElementById("search-results")
  if (!results || !window.ctdTexts) return
  new MutationObserver((changes) => {
    for (const item of changes.flatMap((change) => [...change.addedNodes])) {
      const address = item.tagName === "LI" && item.querySelector("a")?.getAttribute("href")
      const text = address && window.ctdTexts[decodeURIComponent(address.split("#")[0])]
      const line = text && excerpt(text)
      if (line) item.append(line)
    }
  }).observe(results, { childList: true, subtree: true })
})

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
