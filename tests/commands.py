"""Commands that make something, as functions of a folder, over small inputs: what they made, as bytes.

Notes: like the makers in `tests.makers`, they may be called again in a folder where they were killed.
"""

import hashlib
import json
import shutil
from contextlib import chdir

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from ctd.book import site
from ctd.book.notebook_files import read_notebook
from ctd.book.run_folder import RunFolder
from ctd.cache import alone
from ctd.cli import app
from tests.book.test_runs import BODY, write_notebook
from tests.book.test_site import MANIFEST, write_pages

GRID = "grid: {n: [1, 2, 3]}\n"
PARTS = ("liver", "heart", "blood")


def notebook(folder):
    _write_notebook(folder)
    _ctd(folder, "run", "01", "--force")
    return _found(folder / "runs" / "01_first" / "default")


def sweep(folder):
    _write_notebook(folder)
    (folder / "grid.yml").write_text(GRID)
    _ctd(folder, "sweep", "01", "grid.yml", "--jobs", "1")
    home = folder / "runs" / "01_first"
    cells = [_found(home / f"default-n={n}") for n in (1, 2, 3)]
    return b"".join([*cells, *((home / f"default-grid.{ending}").read_bytes() for ending in ("csv", "json"))])


def predict(folder):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"uid": f"d{n}", "text": f"note {n} on the {PARTS[n % 3]}"}) for n in range(1000))
    (folder / "notes.jsonl").write_text("\n".join(lines))
    (folder / "labels.txt").write_text("\n".join(f"{part} of kind {n}" for part in PARTS for n in range(40)))
    _ctd(folder, "predict", "retrieval", "notes.jsonl", "--labels", "labels.txt", "--out", "out.jsonl")
    return (folder / "out.jsonl").read_bytes()


def book(folder):
    """The pages of a book with one chapter, which Jupyter Book sets in a process of its own."""
    run, pages = folder / "runs" / "00_a" / "smoke", folder / "book"
    with alone(pages):  # two may begin at once
        if not (pages / "_toc.yml").exists():
            shutil.rmtree(pages, ignore_errors=True)
            run.mkdir(parents=True, exist_ok=True)
            output = new_output("stream", text="41\n")
            cells = [new_markdown_cell("# A notebook"), new_code_cell("print(41)", execution_count=1, outputs=[output])]
            for number, cell in enumerate(cells):
                cell.id = str(number)
            language = {"name": "python", "pygments_lexer": "ipython3"}
            nbformat.write(new_notebook(cells=cells, metadata={"language_info": language}), run / "00_a.ipynb")
            (run / "manifest.json").write_text(json.dumps(MANIFEST))
            write_pages(pages)
    first, _ = site.build("smoke", folder / "runs", folder / "built", pages)
    files = sorted(file for file in first.parent.rglob("*") if file.is_file())
    shas = [f"{file.relative_to(first.parent)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return "\n".join(shas).encode()


COMMANDS = {command.__name__: command for command in (notebook, sweep, predict, book)}


def _write_notebook(folder):
    if not (folder / "notebooks" / "profiles.yml").exists():
        folder.mkdir(exist_ok=True)
        write_notebook(folder / "notebooks" / "01_first.ipynb", *BODY)
        (folder / "notebooks" / "profiles.yml").write_text("default:\n")


def _ctd(folder, *words):
    with chdir(folder):
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(done.output)


def _found(folder):
    """What a run found and printed."""
    run = RunFolder(folder)
    cells = [cell.get("outputs") for cell in read_notebook(run.notebook).cells]
    return json.dumps([[row.plain() for row in run.rows], cells]).encode()
