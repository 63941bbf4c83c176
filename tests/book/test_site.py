"""A book is gathered from pages and tiny made-up runs."""

import itertools
import json
import posixpath
import re
import shlex
import shutil
import subprocess

import nbformat
import pytest
import yaml
from nbformat import v4

from ctd.book import generated, page, published_runs, site
from ctd.book.notebook_files import find_notebook, parameters_of
from ctd.book.parameter_cells import read_parameters
from ctd.book.parameters import check_all, parse_assignments
from ctd.cache import DATA, ROOT
from tests.book.test_built_site import PNG

MANIFEST = {
    "notebook": "notebooks/00_a.ipynb",
    "overrides": {
        "encoder": "all minilm",
        "ks": [1, 10],
        "scored": True,
        "split": "a|b",
        "rate": 1e-5,
        "name": "true",
    },
    "code_cells": 1,
    "parameters": {"shortlist_size": 100, "encoder": "all minilm", "ks": [1, 10], "scored": True, "split": "a|b"},
    "profile": "smoke",
    "seed": 7,
    "commit": "0123456789abcdef0123",
    "dirty": False,
    "ctd_hash": "feed" * 16,
    "versions": {"numpy": "2.4.6", "torch": "2.13.0"},
    "hardware": {"cpu": "some cpu", "cores": 2, "memory_gib": 15.6, "gpu": None},
    "start": "2026-11-21T09:00:00+00:00",
    "duration_s": 83.2,
    "peak_memory_mib": 1234.5,
}
TOC = {
    "format": "jb-book",
    "root": "intro",
    "parts": [
        {"caption": "One", "chapters": [{"file": "notebooks/00_a", "sections": [{"file": "deeper"}]}]},
        {"caption": "Two", "chapters": [{"file": "status"}]},
    ],
}


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs" / "00_a" / "smoke"
    folder.mkdir(parents=True)
    output = v4.new_output("stream", text="41\n")
    cells = [
        v4.new_markdown_cell("# A notebook"),
        v4.new_code_cell("print(41)", execution_count=1, outputs=[output]),
    ]
    language = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"language_info": language}), folder / "00_a.ipynb")
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return tmp_path / "runs"


@pytest.fixture
def pages(tmp_path):
    return write_pages(tmp_path / "book")


def write_pages(folder):
    """A book of two pages and a chapter."""
    shutil.copytree(ROOT / "book" / "_ext", folder / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "references.bib").write_text("")
    (folder / "intro.md").write_text("# A book\n\nSee {doc}`notebooks/00_a`.\n")
    (folder / "deeper.md").write_text("# Deeper\n")
    (folder / "_toc.yml").write_text(yaml.safe_dump(TOC))
    return folder


def cells_of(table):
    """The cells of a Markdown table, row by row, without its two head lines."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_pages_are_named_in_reading_order():
    assert site.pages(TOC) == ["intro", "notebooks/00_a", "deeper", "status"]


def test_the_books_own_table_of_contents_names_every_page_and_no_other():
    named = set(site.pages(yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())))
    written = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert {page for page in named if not page.startswith("notebooks/")} == written | {"api", "status"}


def linked():
    """Every page and notebook with the text in which it links others."""
    for path in sorted((ROOT / "book").glob("*.md")):
        yield path.stem, path.read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, nbformat.NO_CONVERT).cells
        yield f"notebooks/{path.stem}", "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_every_link_between_pages_and_notebooks_leads_to_one_as_the_build_will_find_it():
    named, texts = set(site.pages(yaml.safe_load((ROOT / "book" / "_toc.yml").read_text()))), dict(linked())
    assert {"notebooks/02_reasoning_trajectories", "your_model"} <= texts.keys()
    wrong = [
        f"{name}: {target}"
        for name, text in texts.items()
        for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text)
        if posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) not in named
    ]
    assert wrong == []


def test_no_line_of_a_page_begins_with_a_percent_sign():
    """Such a line is a comment of MyST's, and is left out of the page."""
    pages = {path.name: path.read_text() for path in sorted((ROOT / "book").glob("*.md"))}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, 4).cells
        pages[path.name] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert {name for name, text in pages.items() if re.search(r"^ *%", text, re.MULTILINE)} == set()


def test_a_notebook_without_a_run_is_one_line_with_the_command_that_makes_it(runs, pages):
    with pytest.raises(FileNotFoundError, match=r"00_a has no run under profile full .*: ctd run 00_a --profile full$"):
        site.assemble("full", runs, pages)


def test_a_truncated_manifest_is_named(runs, pages):
    (runs / "00_a" / "smoke" / "manifest.json").write_text('{"notebook": ')
    with pytest.raises(ValueError, match=r"manifest\.json is not JSON"):
        site.assemble("smoke", runs, pages)


def test_a_truncated_notebook_is_named(runs, pages):
    (runs / "00_a" / "smoke" / "00_a.ipynb").write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"00_a\.ipynb is not a notebook"):
        site.assemble("smoke", runs, pages)


def test_an_executed_copy_keeps_its_cells_and_gains_a_foot(runs, pages):
    source = site.assemble("smoke", runs, pages)
    before = nbformat.read(runs / "00_a" / "smoke" / "00_a.ipynb", as_version=4)
    after = nbformat.read(source / "notebooks" / "00_a.ipynb", as_version=4)
    assert after.cells[1:-1] == before.cells[1:]
    assert after.cells[0].source.startswith("# A notebook\n\n:::{div} ctd-facts\n**Time** 1 min 23 s")
    assert "some cpu" in after.cells[0].source
    assert "**Run before it** nothing" in after.cells[0].source
    assert after.cells[-1].cell_type == "markdown"
    nbformat.validate(after)


ANSWER = {"sentence": "It is **41** [40, 42].", "figure": "ages"}


def add_answer(runs, answer=ANSWER, call='run.figure("ages", plot)'):
    """Record an answer in the made-up run, and a cell with its figure."""
    folder = runs / "00_a" / "smoke"
    notebook = nbformat.read(folder / "00_a.ipynb", as_version=4)
    notebook.cells[0].source = "# A notebook\n\n**The question.** How old?"
    metadata = {"tags": ["hide-input"], "mystnb": {"figure": {"caption": "Ages of all.", "name": "fig-ages"}}}
    notebook.cells.append(v4.new_code_cell(call, metadata=metadata))
    nbformat.write(notebook, folder / "00_a.ipynb")
    (folder / "results.json").write_text(json.dumps({"results": [], "answer": answer}))
    (folder / "figures").mkdir()
    (folder / "figures" / "ages.png").write_bytes(PNG)


def test_a_page_opens_with_its_answer_and_main_figure(runs, pages):
    add_answer(runs)
    source = site.assemble("smoke", runs, pages)
    copy = nbformat.read(source / "notebooks" / "00_a.ipynb", as_version=4)
    first = copy.cells[0].source
    parts = [
        "# A notebook",
        ANSWER["sentence"],
        "00_a/ages.png",
        'alt="Ages of all. It is 41 [40, 42]."',
        "**The question.**",
    ]
    assert [first.index(part) for part in parts] == sorted(first.index(part) for part in parts)
    (address,) = re.findall(r'img src="([^"]+)"', first)
    assert (source / "notebooks" / address).resolve().read_bytes() == PNG
    assert copy.cells[2].metadata["mystnb"]["code_prompt_show"] == "Show the code"
    assert copy.cells[2].metadata["mystnb"]["figure"]["name"] == "fig-ages"


def test_what_a_model_that_nobody_trained_answers_stands_above_the_chapters_own_answer(runs, pages, monkeypatch):
    add_answer(runs)
    for teacher, sentence in (("qwen-1.5b", "Not shown."), ("organism", "Something else.")):
        published = runs.parent / "results" / teacher
        published.mkdir(parents=True)
        parameters = {"teacher": teacher, "dataset": "heart-failure"}
        (published / "manifest.json").write_text(json.dumps(MANIFEST | {"parameters": parameters}))
        (published / "results.json").write_text(json.dumps({"schema": 2, "rows": [], "answer": {"sentence": sentence}}))
    monkeypatch.setattr(published_runs, "FOLDER", runs.parent / "results")
    monkeypatch.setattr(site.ledger, "judge_claims", lambda *_: [])
    source = site.assemble("smoke", runs, pages)
    first = nbformat.read(source / "notebooks" / "00_a.ipynb", as_version=4).cells[0].source
    places = [first.index(part) for part in ("On qwen-1.5b, which nobody here trained", "Not shown.", "The answer")]
    assert places == sorted(places)
    assert "Something else" not in first


def test_parameters_and_set_up_are_folded_and_their_toggles_say_so(runs, pages):
    folder = runs / "00_a" / "smoke"
    notebook = nbformat.read(folder / "00_a.ipynb", as_version=4)
    for source, tag in (("n: int = 1", "parameters"), ("n = 2", "injected-parameters"), ("start()", "hide-cell")):
        notebook.cells.append(v4.new_code_cell(source, metadata={"tags": [tag]}))
    nbformat.write(notebook, folder / "00_a.ipynb")
    copy = nbformat.read(site.assemble("smoke", runs, pages) / "notebooks" / "00_a.ipynb", as_version=4)
    labels = [cell.metadata["mystnb"]["code_prompt_show"] for cell in copy.cells[2:5]]
    assert labels == ["Show the parameters", "Show what the profile sets", "Show the set-up"]
    assert ["hide-input" in cell.metadata["tags"] for cell in copy.cells[2:5]] == [True, True, False]


def test_a_long_table_has_one_toggle_and_a_figure_its_alt_text(runs, pages):
    add_answer(runs)
    folder = runs / "00_a" / "smoke"
    notebook = nbformat.read(folder / "00_a.ipynb", as_version=4)
    notebook.cells.append(v4.new_code_cell("report.table(x)", metadata={"tags": ["hide-input", "hide-output"]}))
    nbformat.write(notebook, folder / "00_a.ipynb")
    copy = nbformat.read(site.assemble("smoke", runs, pages) / "notebooks" / "00_a.ipynb", as_version=4)
    assert copy.cells[2].metadata["mystnb"]["image"] == {"alt": "Ages of all."}
    assert copy.cells[3].metadata["tags"] == ["hide-cell"]
    assert copy.cells[3].metadata["mystnb"]["code_prompt_show"] == "Show the table"


def test_an_answer_may_have_no_figure(runs, pages):
    add_answer(runs, ANSWER | {"figure": None})
    copy = nbformat.read(site.assemble("smoke", runs, pages) / "notebooks" / "00_a.ipynb", as_version=4)
    assert ANSWER["sentence"] in copy.cells[0].source
    assert "<img" not in copy.cells[0].source


def test_an_answer_with_a_figure_that_nothing_makes_is_refused(runs, pages):
    add_answer(runs, call='run.figure("other", plot)')
    with pytest.raises(ValueError, match="names the figure 'ages', and no cell calls"):
        site.assemble("smoke", runs, pages)


def test_the_foot_says_how_the_page_was_made(runs):
    foot = page.foot(site.read_run(runs, "00_a", "smoke"))
    rows = {row[0]: row[1] for row in cells_of(foot)}
    assert "`shortlist_size = 100`" in rows["parameters"]
    assert r'split = "a\|b"' in rows["parameters"]
    assert rows["profile"] == "`smoke`"
    assert rows["seed"] == "`7`"
    assert rows["commit"] == "`0123456789`"
    assert rows["started"] == "2026-11-21 09:00 UTC"
    assert rows["hash of `ctd`"] == "`feedfeedfeedfeed`"
    assert rows["versions"] == "numpy 2.4.6, torch 2.13.0"
    assert rows["hardware"] == "some cpu, 2 cores, 16 GiB memory, no GPU"
    assert rows["duration"] == "1 min 23 s"
    assert rows["peak memory"] == "1,234 MiB"


def test_the_command_gives_every_changed_parameter_back_as_it_was(runs):
    declared = """
encoder: Annotated[str, Field(description="a")] = ""
ks: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(description="b")] = [1]
scored: Annotated[bool, Field(description="c")] = False
split: Annotated[str, Field(description="d")] = ""
rate: Annotated[float, Field(ge=0, le=1, description="e")] = 0.1
name: Annotated[str, Field(description="f")] = ""
seed: Annotated[int, Field(ge=0, le=10, description="g")] = 0
"""
    cell = v4.new_code_cell(declared, metadata={"tags": ["parameters"]})
    parameters = read_parameters(v4.new_notebook(cells=[cell]), "a notebook")
    words = shlex.split(page.command(site.read_run(runs, "00_a", "smoke")))
    assert words[:5] == ["ctd", "run", "00_a", "--profile", "smoke"]
    assert set(words[5::2]) == {"-p"}
    assert parse_assignments(parameters, words[6::2]) == MANIFEST["overrides"]


def test_uncommitted_changes_are_said(runs):
    manifest = MANIFEST | {"dirty": True}
    (runs / "00_a" / "smoke" / "manifest.json").write_text(json.dumps(manifest))
    assert "with uncommitted changes" in page.foot(site.read_run(runs, "00_a", "smoke"))


def test_the_status_page_has_each_notebook_and_each_version(runs):
    status = generated.status_page([site.read_run(runs, "00_a", "smoke")])
    notebook, numpy, torch = cells_of(status)[0], *cells_of(status.split("## Versions")[1])
    assert notebook[:4] == ["{doc}`00_a <notebooks/00_a>`", "1 min 23 s", "1,234 MiB", "1"]
    assert [numpy, torch] == [["numpy", "2.4.6"], ["torch", "2.13.0"]]


def test_published_tables_hold_the_published_numbers():
    published = json.loads((DATA / "published.json").read_text())
    las = cells_of(generated.las_table(published))
    assert [float(row[1]) for row in las] == [published["las"]["mimic_iv"][arm] for arm in generated.ARMS]
    assert [float(row[2]) for row in las] == [published["las"]["wikiseealso_320k"][arm] for arm in generated.ARMS]
    assert set(generated.ARMS) == set(published["las"]["mimic_iv"])
    patching = [[float(cell) for cell in row[1:]] for row in cells_of(generated.patching_table(published))]
    effects = [effect for name, effect in published["patching"].items() if name != "bins"]
    assert patching == [[effect.get("clean", effect.get("corrupted")), *effect["patched"]] for effect in effects]


def test_published_tables_say_that_they_are_not_ours():
    published = json.loads((DATA / "published.json").read_text())
    for table in (generated.las_table(published), generated.patching_table(published)):
        assert "Published (arXiv:2606.06840" in table
        assert "not ours" in table


def test_only_the_smoke_book_has_a_banner():
    assert "not results" in site.settings_for("smoke", {}, None)["html"]["announcement"]
    assert "announcement" not in site.settings_for("default", {}, None)["html"]


def test_repository_links_appear_only_when_the_repository_is_known():
    unknown, known = (site.settings_for("full", {}, url) for url in (None, "https://github.com/someone/ctd"))
    assert unknown["repository"]["url"] == ""
    assert "binderhub_url" not in unknown["launch_buttons"]
    assert "use_repository_button" not in unknown["html"]
    assert known["repository"]["url"] == "https://github.com/someone/ctd"
    assert known["launch_buttons"]["binderhub_url"]
    assert known["html"]["use_repository_button"]


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("git@github.com:someone/ctd.git", "https://github.com/someone/ctd"),
        ("https://github.com/someone/a.b-c", "https://github.com/someone/a.b-c"),
        ("https://example.org/someone/ctd.git", None),
        ("", None),
    ],
)
def test_the_repository_is_read_from_the_remote(monkeypatch, tmp_path, remote, url):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr(site, "ROOT", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    if remote:
        subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    assert site.repository() == url


def test_the_repository_of_a_workflow_comes_first(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/fork")
    assert site.repository() == "https://github.com/someone/fork"


def test_complaints_are_the_warnings_of_a_log_once_each(tmp_path):
    warning = f"{tmp_path}/intro.md:3: WARNING: unknown document"
    log = f"reading\n{warning}\n{warning}\ndone"
    assert site.complaints(log, tmp_path).splitlines()[1:] == ["  intro.md:3: WARNING: unknown document"]


def test_a_log_without_warnings_is_shown_by_its_end(tmp_path):
    assert "it broke" in site.complaints("one\nit broke", tmp_path)


def test_a_book_is_built_once_and_a_warning_leaves_it_as_it_was(runs, pages, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "repository", lambda: None)
    out = tmp_path / "out"
    add_answer(runs)
    explorer = tmp_path / "made" / "index.html"
    explorer.parent.mkdir()
    explorer.write_text("<title>Explorer</title>")
    assert site.build("smoke", runs, out, pages, explorer.parent) == (out / "html" / "index.html", False)
    assert (out / "html" / "explorer" / "index.html").read_text() == explorer.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *words, **options: pytest.fail("the same pages are built again"))
        assert site.build("smoke", runs, out, pages, explorer.parent) == (out / "html" / "index.html", True)
    built = (out / "html" / "notebooks" / "00_a.html").read_text()
    assert built.index("The answer") < built.index('alt="Ages of all. It is 41') < built.index("The question")
    assert "Show the code" in built
    assert "How this page was made" in built
    assert "Smoke profile: small samples, not results" in built

    stale = pages / "_source" / "stale.md"
    stale.write_text("# Stale\n")
    (pages / "intro.md").write_text("# A book\n\nSee {doc}`nowhere`.\n")
    with pytest.raises(RuntimeError, match=r"intro\.md:3: WARNING: .*nowhere"):
        site.build("smoke", runs, out, pages)
    assert not stale.exists()
    assert (out / "html" / "notebooks" / "00_a.html").read_text() == built


def written_commands():
    """Every `ctd run` line of README and pages as (file, words), continued lines joined."""
    for path in [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]:
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if line.startswith("ctd run "):
                yield path.name, shlex.split(line, comments=True)


@pytest.mark.parametrize(
    ("page", "words"), list(written_commands()), ids=lambda value: "" if isinstance(value, list) else value
)
def test_a_command_on_a_page_asks_for_what_its_notebook_has(page, words):
    parameters = parameters_of(find_notebook(words[2]))
    chosen = parse_assignments(parameters, [word for flag, word in itertools.pairwise(words) if flag == "-p"])
    shown = {name: value for name, value in chosen.items() if name != "source"}  # a folder of the reader's
    assert check_all(parameters, shown, page)[1] == []
