"""The book's own notebooks: their shape, their smoke runs run again, and proof that every parameter matters."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot
from traitlets.config import Config

from ctd.book import chapters, notebook_files, run_folder, runs
from ctd.book.parameters import TAG, cell_source
from ctd.book.results import RESULTS
from ctd.book.validate import MACHINE_UNITS, validate
from ctd.data.readers import organism as vignettes
from ctd.recipes import organism
from tests.recipes.test_organism import PLANTED

NOTEBOOKS = {path.stem: path for path in notebook_files.notebooks()}

# For each notebook: a small setting, and for each parameter another value, with what it needs besides.
ORGANISM = {
    "dataset": "organism",
    "teacher": "organism",
    "encoder": "wordllama",
    "n_documents": 12,
    "max_tokens": 320,
}
HEADS = {**ORGANISM, "n_clusters": 0, "topic_depth": 2}
TAUGHT = {"layers": 5, "n_traces": 8, "n_steps": 2, "n_test": 10, "n_seeds": 1}
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
    "02_reasoning_trajectories": {**ORGANISM, "n_clusters": 0, "topic_depth": 2, "modes": ["answer"]},
    "03_shortlist_isolation": ORGANISM,
    "04_coarse_heads": {**HEADS, "n_top": 6},
    "05_refinement_heads": {**HEADS, "n_top": 6},
    "06_activation_patching": {**HEADS, "n_scored": 4, "n_patched": 3, "n_written": 1, "n_random": 1},
    "07_do_the_instruments_work": {"n_documents": 8, "n_patched": 2},
    "08_complementarity": {**HEADS, "second_dataset": "none", "n_scored": 4, "n_patched": 3, "n_written": 0},
    "09_standard_distillation": TAUGHT,
    "10_mechanistic_distillation": {**TAUGHT, "n_traces": [8]},
    "11_ablations": {**TAUGHT, "tried": ["without 1"]},
    "12_simulatability": TAUGHT,
    "13_claims": {},
}
REASONING = {
    "dataset": {"dataset": "vignettes"},
    "source": {"dataset": "records", "source": "b.jsonl"},
    "text_column": {"dataset": "records", "source": "a.jsonl", "text_column": "title"},
    "label_column": {"dataset": "records", "source": "a.jsonl", "label_column": "topics"},
    "teacher": {"teacher": "organism-planted"},
    "n_documents": {"n_documents": 10},
    "document_tokens": {"document_tokens": 30},
    "max_tokens": {"max_tokens": 60},
    "encoder": {"encoder": "minilm"},
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
    "02_reasoning_trajectories": {
        **REASONING,
        "n_clusters": {"n_clusters": 8, "topic_depth": 0},
        "topic_depth": {"topic_depth": 0},
        "n_topics": {"n_topics": 1},
        "n_near_misses": {"n_near_misses": 2},
        "modes": {"modes": ["candidates"]},
        "t_star": {"t_star": 0.3},
        "cutoff": {"cutoff": 1},
        "seed": {"seed": 5},
    },
    "03_shortlist_isolation": {
        **REASONING,
        "shortlist_size": {"shortlist_size": 12},
        "corruption": {"corruption": 1.0},
        "n_near_misses": {"n_near_misses": 1},
        "cutoff": {"cutoff": 1},
        "seed": {"seed": 5},
    },
}
SCORED = {
    **REASONING,
    "source": {"source": "d.jsonl"},
    "text_column": {"text_column": "title"},
    "label_column": {"label_column": "topics"},
    "n_scored": {"n_scored": 5},
    "n_clusters": {"n_clusters": 8, "topic_depth": 0},
    "topic_depth": {"topic_depth": 0},
    "n_topics": {"n_topics": 1},
    "seed": {"seed": 5},
}
CHANGES["04_coarse_heads"] = {**SCORED, "direction": {"direction": "mentions"}, "n_top": {"n_top": 4}}
CHANGES["05_refinement_heads"] = {
    **SCORED,
    "max_tokens": {"max_tokens": 150},
    "decides": {"decides": "gold"},
    "n_top": {"n_top": 4},
}
CHANGES["06_activation_patching"] = {
    **SCORED,
    "max_tokens": {"max_tokens": 130},
    "decides": {"decides": "gold"},
    "direction": {"direction": "mentions"},
    "n_patched": {"n_patched": 2},
    "n_written": {"n_written": 0},
    "what": {"what": "output"},
    "noise": {"noise": "uniform"},
    "n_random": {"n_random": 2},
    "n_near_misses": {"n_near_misses": 1},
    "square_bin": {"square_bin": 1},
}
CHANGES["07_do_the_instruments_work"] = {
    "teacher": {"teacher": "small-planted"},
    "n_documents": {"n_documents": 9},
    "n_patched": {"n_patched": 3},
    "direction": {"direction": "mentions"},
    "noise": {"noise": "gaussian"},
    "seed": {"seed": 5},
}
CHANGES["08_complementarity"] = {
    **CHANGES["03_shortlist_isolation"],
    "max_tokens": {"max_tokens": 130},
    "n_clusters": {"n_clusters": 8, "topic_depth": 0},
    "topic_depth": {"topic_depth": 0},
    "second_dataset": {"second_dataset": "organism"},
    "second_teacher": {"second_teacher": "organism-planted"},
    "second_topic_depth": {"second_topic_depth": 1},
    "absent": {"absent": "corrupted"},
    "metric": {"metric": "PSP"},
    "n_scored": {"n_scored": 5},
    "n_patched": {"n_patched": 2},
    "n_written": {"n_written": 2},
    "heads_bin": {"heads_bin": 1},
}
STUDENTS = {
    **REASONING,
    "source": {"source": "d.jsonl"},
    "text_column": {"text_column": "title"},
    "label_column": {"label_column": "topics"},
    "max_tokens": {"max_tokens": 60},
    "layers": {"layers": 4},
    "n_traces": {"n_traces": 9},
    "n_steps": {"n_steps": 3},
    "batch_tokens": {"batch_tokens": 600},
    "learning_rate": {"learning_rate": 0.01},
    "n_test": {"n_test": 11},
    "n_seeds": {"n_seeds": 2},
    "seed": {"seed": 5},
}
del STUDENTS["n_documents"]
MECHANISM = {
    **STUDENTS,
    "max_tokens": {"max_tokens": 150},
    "n_clusters": {"n_clusters": 8, "topic_depth": 0},
    "topic_depth": {"topic_depth": 0},
    "n_heads": {"n_heads": 2},
    "matching": {"matching": "score"},
    "weights": {"weights": [0.3, 0.1, 0.1, 1.0, 0.1, 0.1]},
}
CHANGES["09_standard_distillation"] = STUDENTS
CHANGES["10_mechanistic_distillation"] = {
    **MECHANISM, "n_traces": {"n_traces": [8, 6]}, "time_factors": {"time_factors": [2.0]},
    "base_losses": {"base_losses": ["rkl"]}, "baselines": {"baselines": ["cot"]},
    "anneal_fraction": {"anneal_fraction": 0.5},
}  # fmt: skip
CHANGES["11_ablations"] = {**MECHANISM, "tried": {"tried": ["without loop2"]}, "split": {"split": "validation"}}
CHANGES["12_simulatability"] = {
    **MECHANISM, "n_retrieved": {"n_retrieved": 8}, "which": {"which": "first"}, "terms": {"terms": ["loop2"]},
}  # fmt: skip
CHANGES["13_claims"] = {"profile": {"profile": "full"}, "seed": {"seed": 5}}
# What the changes of a source are held against: a label space of a few words.
CLUSTERED = {"n_clusters": 8, "topic_depth": 0}
MORE = {"n_documents": 60, "n_scored": 30}  # comparisons are rarer elsewhere than in the organism's own task
OWN_ORGANISM = {**ORGANISM, "dataset": "records", "source": "a.jsonl", "max_tokens": 60, "cutoff": 1}
OWN = {
    "01_retrieval_shortlists": {
        "dataset": "records", "source": "a.jsonl", "second_dataset": "none", "encoder": "wordllama", "ks": [1, 2],
        "k_fail": 2, "cutoff": 1,
    },
    "02_reasoning_trajectories": {**OWN_ORGANISM, "n_clusters": 2, "topic_depth": 0, "modes": ["answer"]},
    "03_shortlist_isolation": OWN_ORGANISM,
    "08_complementarity": {
        **OWN_ORGANISM, "n_clusters": 2, "topic_depth": 0, "second_dataset": "none", "n_patched": 0,
    },
    **{
        stem: SMALL[stem]
        | {"dataset": "records", "source": "c.jsonl"}
        | ({} if stem.startswith("09") else {**CLUSTERED, "n_traces": [30] if stem.startswith("10") else 30})
        for stem in (
            "09_standard_distillation", "10_mechanistic_distillation", "11_ablations", "12_simulatability",
        )
    },
    **{
        stem: SMALL[stem] | CLUSTERED | {**MORE, "n_scored": 12, "dataset": "records", "source": "c.jsonl"}
        for stem in ("04_coarse_heads", "05_refinement_heads", "06_activation_patching")
    },
}  # fmt: skip
NEEDS = {
    ("00_label_spaces", "n_clusters"): {"tasks": ["mesh"]},
    ("03_shortlist_isolation", "n_near_misses"): {"shortlist_size": 20},
    ("04_coarse_heads", "encoder"): CLUSTERED,  # lists of the organism hold labels alone: nothing is grounded
    ("05_refinement_heads", "encoder"): CLUSTERED,
    ("06_activation_patching", "dataset"): MORE,
    ("08_complementarity", "dataset"): MORE,
    ("08_complementarity", "n_near_misses"): {"shortlist_size": 20},
    ("08_complementarity", "second_teacher"): {"second_dataset": "organism"},
    ("10_mechanistic_distillation", "n_seeds"): {"batch_tokens": 600},  # several batches: their order is the seed's
    ("11_ablations", "encoder"): {**CLUSTERED, "n_heads": 12},
    ("08_complementarity", "second_topic_depth"): {"second_dataset": "organism"},
}
WITH_SOURCE = {"source", "text_column", "label_column"}


def tags_of(cell):
    return cell.metadata.get("tags", ())


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_notebook_is_thin_clean_and_ends_with_its_answer(stem):
    cells = notebook_files.read_notebook(NOTEBOOKS[stem]).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    lines = [len(cell.source.split("\n")) - cell.source.count("\n\n") for cell in code if TAG not in tags_of(cell)]
    assert max(lines) <= 25
    headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert cells[0].source.startswith("# ")
    assert "**The question.**" in cells[0].source
    for part in ("## What you need", "## What it means", "## What next"):
        assert part in headings
    for cell in code:
        if "run.figure(" in cell.source:
            assert cell.metadata["mystnb"]["figure"]["caption"].endswith(".")
            assert "hide-input" in cell.metadata["tags"]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_parameters_cell_says_what_its_model_says(stem):
    (cell,) = [cell for cell in notebook_files.read_notebook(NOTEBOOKS[stem]).cells if TAG in tags_of(cell)]
    model = getattr(chapters, re.match(rf"from {chapters.__name__} import (\w+) as Settings\n", cell.source)[1])
    ruff = [Path(sys.executable).with_name("ruff"), "format", "--line-length=120", "-"]
    formatted = subprocess.run(ruff, input=cell_source(model), capture_output=True, text=True, check=True).stdout
    assert cell.source == formatted.rstrip("\n")


@pytest.mark.parametrize("profile", ["smoke", "default", "full"])
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_profile_is_accepted(stem, profile):
    assert runs.plan(NOTEBOOKS[stem], profile).parameters["seed"] == 0


@pytest.mark.book
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_smoke_run_run_again_says_the_same_and_what_it_said_before(site, stem):
    report = validate(run_folder.RunFolder((run_folder.RUNS / stem / "smoke").absolute()))
    assert report.problems == []
    assert report.golden
    assert report.cells > 3


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_proof_below_covers_every_parameter(stem):
    assert set(CHANGES[stem]) == set(notebook_files.parameters_of(NOTEBOOKS[stem]))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The outcome of a notebook under some parameters: its numbers and what its cells showed. Made once each."""
    monkeypatch = pytest.MonkeyPatch()
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

    space = vignettes.label_space()
    for name, cases in (("c", list(vignettes.generate(500, 3))), ("d", list(vignettes.generate(500, 4)))):
        rows = [
            {
                "uid": one.uid,
                "text": one.text,
                "title": other.text,
                "labels": [space.texts[label] for label in one.labels],
                "topics": [space.texts[label] for label in (*one.labels, *one.denied)],
            }
            for one, other in zip(cases, cases[1:] + cases[:1], strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    organism.build(PLANTED, folder / "small-planted", folder / "training")

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))

    def outcome(stem, overrides):
        """In this process: a kernel of its own would spend most of its time on imports."""
        given = {k: str(folder / v) if v == "small-planted" or k == "source" else v for k, v in overrides.items()}
        key = json.dumps([stem, given], sort_keys=True)
        if key not in made:
            at = folder / f"run-{len(made)}"
            monkeypatch.setenv("CTD_RUN_DIR", str(at))
            shell.reset(new_session=False)
            shell.push(dict(runs.plan(NOTEBOOKS[stem], "smoke", given).parameters))
            shown = []
            for cell in notebook_files.read_notebook(NOTEBOOKS[stem]).cells:
                if cell.cell_type == "code" and TAG not in tags_of(cell):
                    with capture_output() as captured:
                        ran = shell.run_cell(cell.source)
                    ran.raise_error()
                    if "arms.costs(" in cell.source:
                        continue  # seconds differ anyway
                    shown += [one.data.get(kind) for one in captured.outputs for kind in ("text/html", "text/markdown")]
            pyplot.close("all")
            found = json.loads((at / RESULTS).read_text())["rows"]
            made[key] = json.dumps([[row for row in found if not MACHINE_UNITS.search(row["unit"])], shown])
        return made[key]

    yield outcome
    InteractiveShell.clear_instance()
    monkeypatch.undo()


@pytest.mark.book
@pytest.mark.parametrize(("stem", "parameter"), [(stem, name) for stem, names in CHANGES.items() for name in names])
def test_a_parameter_changes_what_is_found(results, stem, parameter):
    base = OWN[stem] if parameter in WITH_SOURCE else SMALL[stem] | NEEDS.get((stem, parameter), {})
    assert results(stem, base) != results(stem, base | CHANGES[stem][parameter])
