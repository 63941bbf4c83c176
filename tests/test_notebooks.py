"""The book's own notebooks: their shape, their smoke runs run again, and proof that every parameter matters."""

import json

import pytest

from ctd import runs
from ctd.validate import validate

NOTEBOOKS = {path.stem: path for path in runs.notebooks()}

# For each notebook: a small setting, and for each parameter another value, with what it needs besides.
SMALL = {
    "00_label_spaces": {"tasks": ["heart-failure"], "encoder": "wordllama", "n_clusters": 4},
    "01_retrieval_shortlists": {
        "dataset": "setmm-slice",
        "second_dataset": "none",
        "encoder": "wordllama",
        "n_documents": 60,
        "ks": [5, 50, 500],
        "k_fail": 50,
    },
}
CHANGES = {
    "00_label_spaces": {
        "tasks": {"tasks": ["heart-failure", "setmm-slice"]},
        "encoder": {"encoder": "minilm"},
        "n_clusters": {"n_clusters": 2},
        "n_near_misses": {"n_near_misses": 2},
        "n_examples": {"n_examples": 2},
        "seed": {"seed": 5},
    },
    "01_retrieval_shortlists": {
        "dataset": {"dataset": "heart-failure", "ks": [5, 50], "k_fail": 50},
        "source": {"dataset": "records", "source": "b.jsonl"},
        "text_column": {"dataset": "records", "source": "a.jsonl", "text_column": "title"},
        "label_column": {"dataset": "records", "source": "a.jsonl", "label_column": "topics"},
        "second_dataset": {"second_dataset": "heart-failure"},
        "n_documents": {"n_documents": 40},
        "n_labels": {"n_labels": 1000},
        "encoder": {"encoder": "minilm"},
        "index_kind": {"index_kind": "ivfpq"},
        "ks": {"ks": [10, 50, 500]},
        "k_fail": {"k_fail": 100},
        "cutoff": {"cutoff": 3},
        "seed": {"seed": 5},
    },
}
OWN_BASE = {"dataset": "records", "source": "a.jsonl"}  # what the changes of a source are held against
NEEDS = {"n_clusters": {"tasks": ["mesh"]}}
WITH_SOURCE = {"source", "text_column", "label_column"}


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_notebook_is_thin_clean_and_ends_with_its_answer(stem):
    cells = runs.read_notebook(NOTEBOOKS[stem]).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code) <= 25
    headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert cells[0].source.startswith("# ")
    assert "**The question.**" in cells[0].source
    for part in ("## What you need", "## What it means", "## What next"):
        assert part in headings
    for cell in code:
        if "run.figure(" in cell.source:
            assert cell.metadata["mystnb"]["figure"]["caption"].endswith(".")
            assert "hide-input" in cell.metadata["tags"]


@pytest.mark.parametrize("profile", ["smoke", "default", "full"])
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_profile_is_accepted(stem, profile):
    assert runs.plan(NOTEBOOKS[stem], profile).parameters["seed"] == 0


@pytest.mark.book
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_smoke_run_run_again_says_the_same_and_what_it_said_before(site, stem):
    report = validate(runs.RunFolder((runs.RUNS / stem / "smoke").absolute()))
    assert report.problems == []
    assert report.golden
    assert report.cells > 5


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_proof_below_covers_every_parameter(stem):
    assert set(CHANGES[stem]) == set(runs.parameters_of(NOTEBOOKS[stem]))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The outcome of a notebook under some parameters: its numbers and what its cells showed. Made once each."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    labels = [["liver", "calcium"], ["heart"], ["liver"], ["blood", "heart"]]
    for name, word in (("a", "calcium"), ("b", "blood")):
        rows = [
            {
                "uid": f"{name}{i}",
                "text": f"{word} {' '.join(labels[i % 4])} {i}",
                "title": f"the heart {i}",
                "labels": labels[i % 4],
                "topics": [f"x{i % 3}", "heart"],
            }
            for i in range(200)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def outcome(stem, overrides):
        given = {k: str(folder / v) if k == "source" else v for k, v in overrides.items()}
        key = json.dumps([stem, given], sort_keys=True)
        if key not in made:
            run = runs.run(NOTEBOOKS[stem], "smoke", given, folder / f"run-{len(made)}")
            shown = [cell.outputs for cell in runs.read_notebook(run.notebook).cells if cell.cell_type == "code"]
            texts = [output.get("data", {}).get(kind) for cell in shown for output in cell
                     for kind in ("text/html", "text/markdown")]  # fmt: skip
            made[key] = json.dumps([run.results, texts])
        return made[key]

    return outcome


@pytest.mark.book
@pytest.mark.parametrize(("stem", "parameter"), [(stem, name) for stem, names in CHANGES.items() for name in names])
def test_a_parameter_changes_what_is_found(results, stem, parameter):
    own = {"second_dataset": "none", "encoder": "wordllama", "ks": [1, 2], "k_fail": 2, "cutoff": 1}
    base = own | OWN_BASE if parameter in WITH_SOURCE else SMALL[stem] | NEEDS.get(parameter, {})
    assert results(stem, base) != results(stem, base | CHANGES[stem][parameter])
