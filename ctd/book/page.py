"""A chapter as a page: its answer and main figure under the title, folded cells, and at its foot how it was made."""

from __future__ import annotations

import json
import re
import shlex

import nbformat

from ctd.book import exercises, figures, published_runs
from ctd.book.captions import caption_tables
from ctd.book.chapters import LEDGER, NEEDS
from ctd.book.markdown import code, commit, duration, hardware, memory, started, table
from ctd.book.notebook_files import read_notebook
from ctd.book.recorder import FIGURES
from ctd.book.results import RESULTS
from ctd.book.run_folder import RunFolder
from ctd.book.runs import read_json
from ctd.book.terms import link_terms
from ctd.recipes.natural_table import MODEL

TOGGLES = {
    "parameters": "the parameters",
    "injected-parameters": "what the profile sets",
    "hide-cell": "the set-up",
    "hide-output": "the table",
    "hide-input": "the code",
}
"""What a folded cell holds, by its tag; the first that a cell has counts."""


def page(run: RunFolder, address: str) -> nbformat.NotebookNode:
    """The executed copy of a chapter as the book shows it.

    address: of the folder of its figures, as seen from the page.
    Raises ValueError where the answer names a figure that no cell of the notebook makes.
    """
    copy = read_notebook(run.notebook)
    for cell in copy.cells:
        tags = cell.metadata.get("tags", [])
        if figure := cell.metadata.get("mystnb", {}).get("figure"):
            cell.metadata["mystnb"]["image"] = {"alt": figure["caption"]}
        labels = [label for tag, label in TOGGLES.items() if tag in tags]
        if labels:
            prompts = {f"code_prompt_{action.lower()}": f"{action} {labels[0]}" for action in ("Show", "Hide")}
            cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), **prompts}
        if not {"parameters", "injected-parameters"}.isdisjoint(tags):
            cell.metadata["tags"] = [*tags, "hide-input"]
        if {"hide-input", "hide-output"} <= set(tags):  # one toggle, not two
            cell.metadata["tags"] = [tag for tag in tags if tag not in ("hide-input", "hide-output")] + ["hide-cell"]
    caption_tables(copy)
    folder, answer = run.path / FIGURES, read_answer(run)
    title, _, rest = copy.cells[0].source.partition("\n")
    parts = [title, "", facts(run)]
    parts += [natural_answer(natural) for natural in published_runs.of(run.stem[:2], teacher=MODEL)]
    name = answer["figure"] if answer else None
    if answer:
        parts.append(opening(answer["sentence"]))
    if answer and name:
        caption = caption_of(copy, name)
        shown = figures.picture(folder, address, name, figures.alternative(caption, answer["sentence"]))
        parts.append(main_figure(shown, caption))
    figures.show(copy, folder, address, {name: answer["sentence"]} if answer and name else {})
    copy.cells[0].source = "\n".join([*parts, rest])
    if section := exercises.section(run.stem):
        copy.cells.append(nbformat.v4.new_markdown_cell(section, id="exercises"))
    link_terms(copy)
    copy.cells.append(nbformat.v4.new_markdown_cell(foot(run), id="how-this-page-was-made"))
    return copy


def read_answer(run: RunFolder) -> dict[str, str] | None:
    """The answer that a run recorded: `sentence`, and the name of its main `figure`; None where it has none."""
    path = run.path / RESULTS
    return read_json(path).get("answer") if path.is_file() else None


def caption_of(notebook: nbformat.NotebookNode, name: str) -> str:
    """The caption of a figure, from the metadata of the cell that makes it."""
    for cell in notebook.cells:
        if re.search(rf"\brun\.figure\(\s*[\"']{re.escape(name)}[\"']", cell.source):
            return cell.metadata["mystnb"]["figure"]["caption"]
    raise ValueError(f"the answer names the figure {name!r}, and no cell calls run.figure({name!r}, ...)")


def opening(sentence: str) -> str:
    """The answer of a chapter as Markdown."""
    return "\n".join(["::::{admonition} The answer", ":class: tip ctd-answer", sentence, "::::", ""])


def natural_answer(run: RunFolder) -> str:
    """What a published run on a model that nobody here trained answers, as Markdown above the chapter's own answer."""
    parameters, answer = run.manifest["parameters"], read_answer(run)
    title = f"On {parameters['teacher']}, which nobody here trained ({parameters['dataset']})"
    where = f"{{doc}}`../natural` says how it is asked. Its numbers are the published run `{run.path.name}`."
    sentence = answer["sentence"] if answer else "It recorded no answer."
    return "\n".join([f"::::{{admonition}} {title}", ":class: note", sentence, "", where, "::::", ""])


def main_figure(shown: str, caption: str) -> str:
    """The HTML of the figure that shows the answer, and its caption, as Markdown; it has its number further below."""
    return f'```{{raw}} html\n<figure class="ctd-answer-figure">{shown}</figure>\n```\n\n*{caption}*\n'


def facts(run: RunFolder) -> str:
    """How long a chapter takes, what must run before it, and what it needs, as Markdown."""
    manifest, needs = run.manifest, NEEDS.get(run.stem, ())
    machine = manifest["hardware"]
    device = machine["gpu"] or f"{machine['cores']} cores ({machine['cpu']}), no GPU"
    before = ", ".join(f"{{doc}}`{stem[:2]} <{stem}>`" for stem in sorted(needs)) or "nothing"
    if run.stem == LEDGER:
        before = "all other notebooks"
    words = (
        f"**Time** {duration(manifest['duration_s'])} under the profile `{manifest['profile']}` on {device} · "
        f"**Memory** {memory(manifest)} · **Run before it** {before}"
    )
    return f":::{{div}} ctd-facts\n{words}\n:::\n"


def foot(run: RunFolder) -> str:
    """How a page was made, as a folded Markdown admonition."""
    manifest = run.manifest
    rows = {
        "parameters": code(*(f"{name} = {json.dumps(value)}" for name, value in manifest["parameters"].items())),
        "profile": code(manifest["profile"]),
        "seed": code(str(manifest["seed"])),
        "commit": commit(manifest),
        "hash of `ctd`": code(manifest["ctd_hash"][:16]),
        "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        "hardware": hardware(manifest["hardware"]),
        "started": started(manifest),
        "duration": duration(manifest["duration_s"]),
        "peak memory": memory(manifest),
    }
    return "\n".join(
        [
            "::::{admonition} How this page was made",
            ":class: dropdown ctd-made",
            table(["what", "value"], [[name, value] for name, value in rows.items()]),
            "",
            "To make it again:",
            "",
            "```sh",
            command(run),
            "```",
            "::::",
            "",
            f'<p class="ctd-downloads">Take this chapter: <a href="../_sources/notebooks/{run.stem}.ipynb" download>'
            f'notebook</a> · <a href="../_static/runs/{run.stem}/{RESULTS}" download>results.json</a> · '
            '<a href="../_static/CITATION.cff" download>citation</a></p>',
        ]
    )


def command(run: RunFolder) -> str:
    """The command line that makes a run again, with every value that differs from its profile."""
    words = ["ctd", "run", run.stem, "--profile", run.manifest["profile"]]
    for name, value in run.manifest["overrides"].items():
        plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value)
        words += ["-p", f"{name}={value if plain else json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)
