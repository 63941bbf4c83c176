"use strict"
// All that comes from a document, a label or a model is set as text; nothing of it becomes markup.
const find = (id) => document.getElementById(id)

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`

fetch("about").then((response) => response.json()).then((about) => {
  const mode = { trace: ", which reasons first,", answer: ", which answers at once," }[about.mode] ?? ""
  find("about").textContent =
    `${about.model}${mode} picks at most ${about.n_labels} of ${count(about.n_label_space, "label")}.`
  document.title = `Label a document: ${about.model}`
})
find("example").textContent =
  `curl ${location.href}label --json '{"documents": ["your text"]}'`

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault()
  const button = find("ask").querySelector("button")
  button.disabled = true
  find("answer").hidden = true
  find("status").textContent = "Working …"
  const start = performance.now()
  try {
    const response = await fetch("label", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ documents: [find("document").value] }),
    })
    const found = await response.json()
    if (!response.ok) throw new Error(found.detail)
    show(found[0])
    find("status").textContent = `${count(found[0].labels.length, "label")} in ${((performance.now() - start) / 1000).toFixed(1)} s`
  } catch (error) {
    find("status").textContent = `No labels: ${error.message}`
  }
  button.disabled = false
})

find("document").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit()
})

const show = (line) => {
  find("error").textContent = line.error ? `The text is not in the form that was asked for: ${line.error}` : ""
  find("labels").replaceChildren(...line.labels.map((label) => item(label, label.score)))
  find("shortlist").replaceChildren(...line.shortlist.map((label) => item(label)))
  find("considered").hidden = !line.shortlist.length
  find("trace").textContent = line.trace
  find("written").hidden = !line.trace
  URL.revokeObjectURL(find("download").href)
  find("download").href = URL.createObjectURL(new Blob([`${JSON.stringify(line)}\n`], { type: "application/jsonl" }))
  find("answer").hidden = false
}

const item = (label, score) => {
  const row = document.createElement("li")
  const name = document.createElement("span")
  name.textContent = label.text
  row.append(name)
  if (label.id !== label.text) {
    const id = document.createElement("code")
    id.textContent = label.id
    row.append(" ", id)
  }
  if (score != null) {
    const bar = document.createElement("meter")
    bar.value = score
    bar.setAttribute("aria-label", "score")
    const number = document.createElement("span")
    number.className = "score"
    number.textContent = score.toFixed(3)
    row.append(bar, number)
  }
  return row
}
