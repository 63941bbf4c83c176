"""Every parameter of every notebook moves the result that the table says. `make test` tries those marked quick."""

import json
import shutil
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot
from traitlets.config import Config

from ctd.book import notebook_files, results, runs
from ctd.book.parameter_cells import TAG
from ctd.cache import DATA
from ctd.data.readers import organism as vignettes
from ctd.recipes import organism
from tests.parameter_effects import EFFECTS, SMALL, Effect, moves
from tests.recipes.test_organism import PLANTED

NOTEBOOKS = {path.stem: path for path in notebook_files.notebooks()}


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_table_has_every_parameter(stem):
    assert set(EFFECTS[stem]) == set(notebook_files.parameters_of(NOTEBOOKS[stem]))


@pytest.mark.parametrize(("stem", "name"), [(stem, name) for stem, effects in EFFECTS.items() for name in effects])
def test_an_effect_says_what_it_changes(stem, name):
    effect = EFFECTS[stem][name]
    assert sum(map(bool, (effect.moves, effect.adds, effect.removes, effect.shows))) == 1
    assert name in effect.change
    assert effect.change[name] != (SMALL[stem] | effect.base).get(name)


def write_short(path, word):
    """200 documents of a few words."""
    labels = [["liver", "calcium"], ["heart"], ["liver"], ["blood", "heart"]]
    rows = [
        {
            "uid": f"{path.stem}{i}",
            "text": f"{word} {' '.join(labels[i % 4])} {i}",
            "title": f"the heart {i}",
            "labels": labels[i % 4],
            "topics": [f"x{i % 3}", "heart"],
        }
        for i in range(200)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))


def write_vignettes(path, seed):
    """500 of the organism's vignettes as a user's file."""
    cases, space = list(vignettes.generate(500, seed)), vignettes.label_space()
    rows = [
        {
            "uid": case.uid,
            "text": case.text,
            "title": following.text,
            "labels": [space.texts[label] for label in case.labels],
            "topics": [space.texts[label] for label in (*case.labels, *case.denied)],
        }
        for case, following in zip(cases, cases[1:] + cases[:1], strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))


MAKERS = {
    "a.jsonl": lambda path: write_short(path, "calcium"),
    "b.jsonl": lambda path: write_short(path, "blood"),
    "c.jsonl": lambda path: write_vignettes(path, 3),
    "d.jsonl": lambda path: write_vignettes(path, 4),
    "small-planted": lambda path: organism.build(PLANTED, path, path.with_name("training")),
}
"""The small data and the small planted model that the table names, made when they are first asked for."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Runs a notebook under some parameters: its rows and what its cells showed. Each is run once."""
    monkeypatch = pytest.MonkeyPatch()
    folder, outcomes = tmp_path_factory.mktemp("runs"), {}
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))

    def made(value):
        if not isinstance(value, str) or value not in MAKERS:
            return value
        if not (path := folder / value).exists():
            MAKERS[value](path)
        return str(path)

    def run(stem, parameters):
        """In this process: a kernel of its own would spend most of its time on imports."""
        values = {name: made(value) for name, value in parameters.items()}
        key = json.dumps([stem, values], sort_keys=True)
        if key not in outcomes:
            place = folder / str(len(outcomes)) / stem / "smoke"
            shutil.copytree(  # the ledger reads the runs beside its own
                DATA / "results" / "mechanistic-organism-organism",
                place.parents[1] / "10_mechanistic_distillation" / "full",
            )
            monkeypatch.setenv("CTD_RUN_DIR", str(place))
            shell.reset(new_session=False)
            shell.push(dict(runs.plan(NOTEBOOKS[stem], "smoke", values).parameters))
            outcomes[key] = shown = []
            for cell in notebook_files.read_notebook(NOTEBOOKS[stem]).cells:
                if cell.cell_type != "code" or TAG in cell.metadata.get("tags", ()):
                    continue
                with capture_output() as captured:
                    shell.run_cell(cell.source).raise_error()
                shown += [output.data.get(kind, "") for output in captured.outputs for kind in SHOWN]
            pyplot.close("all")
            outcomes[key] = results.read(place / results.RESULTS), shown
        return outcomes[key]

    yield run
    InteractiveShell.clear_instance()
    monkeypatch.undo()


SHOWN = ("text/html", "text/markdown")


def problem(effect, before, after):
    """What the effect says and the two runs do not, in one line; "" when all is well."""
    (rows, shown), (changed_rows, changed_shown) = before, after
    if effect.shows:
        first, second = effect.shows(shown), effect.shows(changed_shown)
        return "" if first and second and first != second else f"both show {first!r}"
    columns = effect.moves or effect.adds or effect.removes
    first_values, second_values = (
        {row.identity: row.value for row in run_rows if all(getattr(row, name) == columns[name] for name in columns)}
        for run_rows in (rows, changed_rows)
    )
    if effect.moves:
        shared = first_values.keys() & second_values.keys()
        moved = [key for key in shared if first_values[key] != second_values[key]]
        return "" if moved else f"none of {len(shared)} rows with {columns} moved"
    new = (
        (first_values.keys() - second_values.keys()) if effect.removes else (second_values.keys() - first_values.keys())
    )
    return "" if new else f"no row with {columns} came or went ({len(first_values)} before, {len(second_values)} after)"


def test_a_change_that_moves_nothing_is_found():
    row = results.Row(metric="ndcg", unit="fraction", value=0.5, arm="cot")
    other = row.model_copy(update={"value": 0.6})
    effect = moves({"n": 1}, metric="ndcg")
    assert problem(effect, ([row], []), ([other], [])) == ""
    assert "none of 1 rows" in problem(effect, ([row], ["n = 0"]), ([row], ["n = 1"]))
    assert "none of 0 rows" in problem(effect, ([row], []), ([other.model_copy(update={"arm": "fkl"})], []))
    assert "came or went" in problem(Effect({}, adds={"metric": "ndcg"}), ([row], []), ([other], []))


@pytest.mark.book
@pytest.mark.parametrize(
    ("stem", "name"),
    [
        pytest.param(stem, name, marks=() if effect.quick else pytest.mark.slow)
        for stem, effects in EFFECTS.items()
        for name, effect in effects.items()
    ],
)
def test_a_parameter_moves_the_result_that_the_table_says(outcome, stem, name):
    effect = EFFECTS[stem][name]
    base = SMALL[stem] | effect.base
    assert problem(effect, outcome(stem, base), outcome(stem, base | effect.change)) == ""
