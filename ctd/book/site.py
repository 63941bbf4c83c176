"""From runs to a book: gather pages and executed notebooks, say how each was made, and let Jupyter Book set them.

Notes: the source folder is made afresh each time and never edited by hand. Pages are the Markdown of `book/`,
copies are the executed notebooks of one profile, tables are generated from files. Nothing is executed here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ctd.book.runs import MANIFEST, RunFolder, read_notebook
from ctd.cache import DATA, ROOT, atomic

NOT_PAGES = ("_build", "_source")
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
ARMS = {
    "full": "full loss",
    "without_phase1": "without Phase 1",
    "without_phase2": "without Phase 2",
    "vanilla_cot": "words only (vanilla CoT distillation)",
    "without_p1_attention": "without attention, Phase 1",
    "without_p1_write": "without write, Phase 1",
    "without_p1_interaction": "without interaction, Phase 1",
    "without_p2_loop": "without loop, Phase 2",
    "without_p2_write": "without write, Phase 2",
    "without_p2_interaction": "without interaction, Phase 2",
}


def build(profile: str, runs: Path = Path("runs"), out: Path = Path("book/_build"), book: Path = ROOT / "book") -> Path:
    """Set the book of one profile and return the path of its first page, `out/html/index.html`.

    runs: folder of runs, `<stem>/<profile>/`. out: where `html/` and the log go; an earlier book there is replaced
    only by one that was built. book: the folder of pages with `_toc.yml`; `_source/` in it is made afresh.
    Raises FileNotFoundError for a notebook of the table of contents without a run (with the command that makes it),
    ValueError for a damaged run, RuntimeError with all warnings when Jupyter Book gave any.
    """
    source = assemble(profile, runs, book)
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", JUPYTER_BOOK, "build", source, "--path-output", source, "-W", "--keep-going"],
        capture_output=True,
        text=True,
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    (out / "build.log").write_text(log)
    if done.returncode:
        raise RuntimeError(complaints(log, source) + f"\n  (the whole log: {out / 'build.log'})")
    with atomic(out / "html") as scratch:
        shutil.move(source / "_build" / "html", scratch)
    return out / "html" / "index.html"


def assemble(profile: str, runs: Path, book: Path = ROOT / "book") -> Path:
    """Make `book/_source` (pages, executed copies with a foot, status page, tables, settings); return its path."""
    chapters = [
        read_run(runs, page.removeprefix("notebooks/"), profile)
        for page in pages(yaml.safe_load((book / "_toc.yml").read_text()))
        if page.startswith("notebooks/")
    ]
    source = book / "_source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(book, source, ignore=lambda folder, names: NOT_PAGES if Path(folder) == book else ())
    copies, generated = source / "notebooks", source / "_generated"
    copies.mkdir()
    generated.mkdir()
    for run in chapters:
        nbformat.write(with_foot(run), copies / run.notebook.name)
    published = json.loads((DATA / "published.json").read_text())
    (generated / "published_patching.md").write_text(patching_table(published))
    (generated / "published_las.md").write_text(las_table(published))
    (source / "status.md").write_text(status_page(chapters))
    settings = settings_for(profile, yaml.safe_load((ROOT / "_config.yml").read_text()), repository())
    (source / "_config.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return source


def pages(toc: Mapping[str, Any]) -> list[str]:
    """The pages that a table of contents names, in order, without endings."""
    own = [toc[key] for key in ("root", "file") if key in toc]
    below = [entry for key in ("parts", "chapters", "sections") for entry in toc.get(key, ())]
    return own + [page for entry in below for page in pages(entry)]


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


def with_foot(run: RunFolder) -> nbformat.NotebookNode:
    """The executed copy with one more cell: how this page was made."""
    copy = read_notebook(run.notebook)
    copy.cells.append(nbformat.v4.new_markdown_cell(foot(run), id="how-this-page-was-made"))
    return copy


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
        ]
    )


def command(run: RunFolder) -> str:
    """The command line that makes a run again, with every value that differs from its profile."""
    words = ["ctd", "run", run.stem, "--profile", run.manifest["profile"]]
    for name, value in run.manifest["overrides"].items():
        plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value)
        words += ["-p", f"{name}={value if plain else json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)


def status_page(chapters: Sequence[RunFolder]) -> str:
    """Each notebook's time, memory, code and versions, as a page."""
    rows = [
        [
            f"{{doc}}`{run.stem} <notebooks/{run.stem}>`",
            duration(run.manifest["duration_s"]),
            memory(run.manifest),
            str(run.manifest["code_cells"]),
            commit(run.manifest),
            started(run.manifest),
        ]
        for run in chapters
    ]
    used: dict[str, set[str]] = {}
    for run in chapters:
        for name, version in run.manifest["versions"].items():
            used.setdefault(name, set()).add(version)
    profiles = " and ".join(sorted({run.manifest["profile"] for run in chapters}))
    machines = sorted({hardware(run.manifest["hardware"]) for run in chapters})
    return "\n".join(
        [
            "# Status",
            "",
            f"What was run to make this book, under the profile `{profiles}`. Each notebook's own page folds the "
            "rest away at its foot.",
            "",
            table(["notebook", "duration", "peak memory", "code cells", "commit", "started"], rows),
            "",
            "## Machine",
            "",
            *(f"- {machine}" for machine in machines),
            "",
            "## Versions",
            "",
            "Those that most decide a number; `requirements.txt` has all.",
            "",
            table(["package", "version"], [[name, ", ".join(sorted(used[name]))] for name in sorted(used)]),
            "",
        ]
    )


def patching_table(published: Mapping[str, Any]) -> str:
    """The published effect of patching the top-k heads, as a captioned Markdown table."""
    patching = published["patching"]
    noised, restored, disturbed = (
        patching[name]
        for name in ("phase1_noising_focus_percent", "phase2_denoising_confusion", "phase2_noising_confusion")
    )
    rows = [
        ["Phase-1 heads noised: Focus, %", *map(str, [noised["clean"], *noised["patched"]])],
        ["Phase-2 heads restored: Confusion", *map(str, [restored["corrupted"], *restored["patched"]])],
        ["Phase-2 heads noised: Confusion", *map(str, [disturbed["clean"], *disturbed["patched"]])],
    ]
    heads = ["what", "no head patched", *(f"top {count}" for count in patching["bins"])]
    return captioned("published-patching", f"Published ({published['source']}), not ours: patching.", heads, rows)


def las_table(published: Mapping[str, Any]) -> str:
    """The published leakage-adjusted simulatability of each arm, as a captioned Markdown table."""
    mimic, wiki = published["las"]["mimic_iv"], published["las"]["wikiseealso_320k"]
    rows = [[title, f"{mimic[arm]:.2f}", f"{wiki[arm]:.2f}"] for arm, title in ARMS.items()]
    caption = f"Published ({published['source']}), not ours: leakage-adjusted simulatability."
    return captioned("published-las", caption, ["student", "MIMIC-IV", "LF-WikiSeeAlso-320K"], rows)


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
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", git.stdout.strip())
    return f"https://github.com/{found[1]}" if found else None


def complaints(log: str, source: Path) -> str:
    """The warnings and errors of a build log as one block, a line each, with the paths of the pages shortened."""
    found = [
        line.replace(f"{source.resolve()}/", "").replace(f"{source}/", "").strip()
        for line in log.splitlines()
        if re.search(r"\b(WARNING|ERROR|CRITICAL|SEVERE)\b", line)
    ]
    lines = list(dict.fromkeys(found)) or log.strip().splitlines()[-15:]
    return "\n  ".join([f"the book did not build; Jupyter Book complains ({len(lines)} lines):", *lines])


def captioned(name: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f":::{{table}} {caption}\n:name: {name}\n\n{table(heads, rows)}\n:::\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes and line breaks in a cell are made harmless."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def code(*texts: str) -> str:
    """Texts as inline code, one below the other; a backtick inside becomes a quote."""
    return "<br>".join(f"`{text.replace('`', chr(39))}`" for text in texts) or "none"


def commit(manifest: Mapping[str, Any]) -> str:
    changed = " with uncommitted changes" if manifest["dirty"] else ""
    return code(manifest["commit"][:10]) + changed


def hardware(machine: Mapping[str, Any]) -> str:
    gpu = machine["gpu"] or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB memory, {gpu}"


def started(manifest: Mapping[str, Any]) -> str:
    """`2026-11-21 09:00 UTC`."""
    return f"{datetime.fromisoformat(manifest['start']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def memory(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['peak_memory_mib']:,.0f} MiB"
