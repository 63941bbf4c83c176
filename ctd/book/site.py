"""From runs to a book: gather pages and executed notebooks, say how each was made, and let Jupyter Book set them.

Notes: the source folder is made afresh each time and never edited by hand. Pages are the Markdown of `book/`,
copies are the executed notebooks of one profile, tables are generated from files. Nothing is executed here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ctd.book import api_page, front_page, ledger, marks_page, natural_page, related_work
from ctd.book.finish import finish
from ctd.book.generated import las_table, models_table, patching_table, status_page
from ctd.book.page import page
from ctd.book.provenance import files_digest
from ctd.book.recorder import FIGURES
from ctd.book.results import RESULTS
from ctd.book.run_folder import MANIFEST, RunFolder
from ctd.cache import DATA, ROOT, alone, atomic

MADE_OF = ".made_of"  # beside the pages: the digest of all that they were made of
NOT_PAGES = ("_build", "_source")
# Jupyter Book, which ends where its standard input does: with this process.
JUPYTER_BOOK = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from jupyter_book.cli.main import main
main()
"""


def build(
    profile: str,
    runs: Path = Path("runs"),
    out: Path = Path("book/_build"),
    book: Path = ROOT / "book",
    explorer: Path | None = None,
) -> tuple[Path, bool]:
    """Build the book of one profile, unless it is there already, made of the same pages by the same packages.

    runs: folder of runs, `<stem>/<profile>/`.
    out: where `html/` and the log go. An earlier book there stays until the new one is built.
    book: folder of pages with `_toc.yml`; `_source/` in it is made afresh.
    explorer: folder that becomes `html/explorer`; None for none.
    Returns the path of its first page, `out/html/index.html`, and whether it was there.
    Raises FileNotFoundError for a notebook of the table of contents without a run (with the command that makes it),
    ValueError for a damaged run, RuntimeError with all warnings when Jupyter Book gave any.
    """
    with alone(book / "_source"):
        source, first, made_of = assemble(profile, runs, book), out / "html" / "index.html", out / "html" / MADE_OF
        content = files_digest(source, *ROOT.glob("requirements*.txt"), *([explorer] if explorer else []))
        if first.is_file() and made_of.is_file() and made_of.read_text("utf-8") == content:
            return first, True
        out.mkdir(parents=True, exist_ok=True)
        _set_pages(source, out / "build.log")
        with atomic(out / "html") as scratch:
            shutil.move(source / "_build" / "html", scratch)
            finish(scratch)
            if explorer:
                shutil.copytree(explorer, scratch / "explorer")
            (scratch / MADE_OF).write_text(content, "utf-8")
    return first, False


def _set_pages(source: Path, log_file: Path) -> None:
    """Let Jupyter Book make `_build/html` in a folder of pages. Raises RuntimeError with its warnings."""
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", JUPYTER_BOOK, "build", source, "--path-output", source, "-W", "--keep-going"],
            stdin=reader, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        os.close(reader)
        os.close(writer)
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log_file.write_text(log, "utf-8")
    if done.returncode:
        raise RuntimeError(complaints(log, source) + f"\n  (the whole log: {log_file})")


def assemble(profile: str, runs: Path, book: Path = ROOT / "book") -> Path:
    """Make `book/_source` (pages, chapters, figures, status page, tables, settings) and return its path."""
    names = pages(yaml.safe_load((book / "_toc.yml").read_text("utf-8")))
    chapters = [read_run(runs, Path(name).name, profile) for name in names if name.startswith("notebooks/")]
    source = book / "_source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(book, source, ignore=lambda folder, names: NOT_PAGES if Path(folder) == book else ())
    copies, generated, static = source / "notebooks", source / "_generated", source / "_static"
    copies.mkdir()
    generated.mkdir()
    static.mkdir(exist_ok=True)
    for run in chapters:
        if (run.path / FIGURES).is_dir():
            shutil.copytree(run.path / FIGURES, static / FIGURES / run.stem)
        results = static / "runs" / run.stem / RESULTS
        results.parent.mkdir(parents=True)
        if (run.path / RESULTS).is_file():
            shutil.copyfile(run.path / RESULTS, results)
        nbformat.write(page(run, f"../{static.name}/{FIGURES}/{run.stem}"), copies / run.notebook.name)
    shutil.copyfile(ROOT / "CITATION.cff", static / "CITATION.cff")
    judged = ledger.judge_claims(profile, runs)
    explorer = next((name for name in names if "explorer" in name), "notebooks/02_reasoning_trajectories")
    for name, markup in {
        "findings": front_page.front_page(judged, f"{explorer}.html"),
        "verdicts": front_page.verdict_grid(judged),
        "related_work": related_work.page_table(),
    }.items():
        (generated / f"{name}.md").write_text(f"```{{raw}} html\n{markup}\n```\n", "utf-8")
    published = json.loads((DATA / "published.json").read_text("utf-8"))
    (generated / "published_patching.md").write_text(patching_table(published), "utf-8")
    (generated / "published_las.md").write_text(las_table(published), "utf-8")
    (generated / "models.md").write_text(models_table(), "utf-8")
    (generated / "natural.md").write_text(natural_page.findings(), "utf-8")
    (generated / "natural_claims.md").write_text(natural_page.claims(judged), "utf-8")
    (generated / "natural_marks.md").write_text(marks_page.findings(), "utf-8")
    (source / "status.md").write_text(status_page(chapters), "utf-8")
    (source / f"{api_page.PAGE}.md").write_text(api_page.api_page(), encoding="utf-8")
    settings = settings_for(profile, yaml.safe_load((ROOT / "_config.yml").read_text("utf-8")), repository())
    (source / "_config.yml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    return source


def pages(toc: Mapping[str, Any]) -> list[str]:
    """The pages that a table of contents names, in order, without endings."""
    names = [toc[key] for key in ("root", "file") if key in toc]
    below = [entry for key in ("parts", "chapters", "sections") for entry in toc.get(key, ())]
    return names + [name for entry in below for name in pages(entry)]


def read_run(runs: Path, stem: str, profile: str) -> RunFolder:
    """The run of a notebook under a profile. Raises FileNotFoundError when it is missing or not whole."""
    folder = runs / stem / profile
    for name in (MANIFEST, f"{stem}.ipynb"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"notebook {stem} has no run under profile {profile} ({folder / name} is missing); "
                f"make it with: ctd run {stem} --profile {profile}"
            )
    return RunFolder(folder)


def settings_for(profile: str, settings: Mapping[str, Any], repository_url: str | None) -> dict[str, Any]:
    """The book's settings with the repository (None: no link and no launch button) and the smoke banner."""
    html = dict(settings.get("html", {}))
    launch = {"notebook_interface": "jupyterlab"}
    if repository_url:
        html |= {"use_repository_button": True, "use_issues_button": True}
        launch |= {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
    if profile == "smoke":
        html["announcement"] = "Smoke profile: small samples, not results"
    return dict(settings) | {
        "html": html,
        "repository": {"url": repository_url or "", "branch": "main", "path_to_book": ""},
        "launch_buttons": launch,
    }


def repository() -> str | None:
    """This repository on GitHub: `GITHUB_REPOSITORY`, else the remote `origin`; None where neither names one."""
    if slug := os.environ.get("GITHUB_REPOSITORY"):
        return f"https://github.com/{slug}"
    git = subprocess.run(["git", "-C", str(ROOT), "remote", "get-url", "origin"], capture_output=True, text=True)
    slug_of_url = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", git.stdout.strip())
    return f"https://github.com/{slug_of_url[1]}" if slug_of_url else None


def complaints(log: str, source: Path) -> str:
    """The warnings and errors of a build log as one block, a line each, with the paths of the pages shortened."""
    warnings = [
        line.replace(f"{source.resolve()}/", "").replace(f"{source}/", "").strip()
        for line in log.splitlines()
        if re.search(r"\b(WARNING|ERROR|CRITICAL|SEVERE)\b", line)
    ]
    lines = list(dict.fromkeys(warnings)) or log.strip().splitlines()[-15:]
    return "\n  ".join([f"the book did not build; Jupyter Book complains ({len(lines)} lines):", *lines])
