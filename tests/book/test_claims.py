"""The ledger of claims: every rule on both sides of its bound, and verdicts that follow from stored results."""

import json
import re

import nbformat
import pytest
from nbformat import v4
from typer.testing import CliRunner

from ctd.book import ledger, notebook_files, published_runs, results, run_folder, runs, validate
from ctd.book.claims import CLAIMS, NOT_REPRODUCED, NOT_RUN, PARTLY, REPRODUCED, reads
from ctd.book.results import DIMENSIONS, Row
from ctd.cache import DATA, ROOT
from ctd.cli import app

E = 1e-9
UP, DOWN, MIDDLE = (1.0, E, 2.0), (-1.0, -2.0, -E), (0.5, 0.4, 0.6)
ABOVE, BELOW, QUIET = (0.7, 0.6 + E, 0.8), (0.3, 0.2, 0.4 - E), (0.1, -0.1, 0.2)


def key(metric, **dimensions):
    """A result's metric and dimensions, to look it up by."""
    return metric, *sorted((name, value) for name, value in dimensions.items() if value is not None)


def moved(way, readout, heads, phase=None, n_heads=90, baseline=None):
    dimensions = {"intervention": way, "readout": readout, "heads": heads, "phase": phase, "baseline": baseline}
    return key("patching_effect", n_heads=n_heads, **dimensions)


def written(metric, phase, way, n_heads=90):
    return key(metric, phase=phase, intervention=way, heads="top", n_heads=n_heads)


def beyond_random(phase, readout):
    return moved("noising", readout, "top", phase, 40, "random")


def phases(effect, phase, **where):
    return key("ndcg", k=5, effect=effect, phase=phase, **({"dataset": "some", "teacher": "who"} | where))


def gain(metric, arm, baseline, budget=None):
    return key(metric, arm=arm, baseline=baseline, budget=budget)


CONTRAST, SHUFFLED = (
    {metric: key("phase_contrast", readout=metric, **beside) for metric in ("focus", "confusion")}
    for beside in ({}, {"baseline": "lines shuffled"})
)
DEPTH = {name: key("mean_depth", score=f"{name}Score", heads="top") for name in ("Coarse", "Refine")}
ANCHOR, MARGIN = moved("noising", "anchor", "top", 1), moved("noising", "margin", "top", 2)
RANDOM = {readout: moved("noising", readout, "random") for readout in ("anchor", "margin")}
FOCUS, RESTORED, NOISED = (
    written("focus", 1, "noising"), written("confusion", 2, "denoising"), written("confusion", 2, "noising"),
)  # fmt: skip
AUROC = {name: key("auroc", phase=phase, score=f"{name}Score") for phase, name in ((1, "Coarse"), (2, "Refine"))}
STEPS, TIME = (gain("exact_match", "mechanistic", "cot", budget) for budget in ("equal_steps", "equal_time"))
WITHOUT = [gain("exact_match", f"without phase {phase}", "full") for phase in (1, 2)]
LAS, *LAS_WITHOUT = (
    gain("las", "mechanistic", "cot"), *(gain("las", f"without phase {phase}", "mechanistic") for phase in (1, 2)),
)  # fmt: skip
# Recorded results under which every claim holds, each just inside its bound; 9 and 90 are bins.
HELD = {
    "02_text": {
        **dict.fromkeys([*CONTRAST.values(), *SHUFFLED.values()], UP),
        key("confusion", t=0.5): MIDDLE, key("confusion", t=1.0): BELOW,
    },
    "04_coarse": {DEPTH["Coarse"]: (0.4, 0.3, 0.5 - E)},
    "05_refine": {DEPTH["Coarse"]: (0.4, 0.3, 0.5), DEPTH["Refine"]: (0.6, 0.5 + E, 0.7)},
    "06_patching": {
        ANCHOR: UP, moved("noising", "anchor", "top", 1, n_heads=9): DOWN,
        written("focus", 1, "noising", 0): MIDDLE, FOCUS: BELOW,
        moved("denoising", "anchor", "top", 1): UP, key("corruption_effect", readout="anchor"): (2.0, E, 3.0),
        moved("denoising", "margin", "top", 2): UP,
        written("confusion", 2, "denoising", 0): MIDDLE, RESTORED: BELOW,
        MARGIN: UP,
        written("confusion", 2, "noising", 0): MIDDLE, NOISED: ABOVE,
        RANDOM["anchor"]: (0.1, 0.0, 0.2), RANDOM["margin"]: (-0.1, -0.2, 0.0),
        moved("denoising", "anchor", "random"): QUIET, moved("denoising", "margin", "random"): QUIET,
        moved("noising", "anchor", "lowest", 1): QUIET, moved("noising", "margin", "lowest", 2): QUIET,
        beyond_random(1, "anchor"): UP, beyond_random(1, "margin"): (0.1, 0.0, 0.2),
        beyond_random(2, "anchor"): (0.1, 0.0, 0.2), beyond_random(2, "margin"): UP,
    },
    "07_instruments": dict.fromkeys(AUROC.values(), (0.9, 0.5 + E, 1.0)),
    "08_together": {phases(effect, phase): UP for effect in ("shapley_share", "lost") for phase in (1, 2)},
    "10_teaching": {STEPS: UP, TIME: UP},
    "12_ablations": dict.fromkeys(WITHOUT, DOWN),
    "13_las": {LAS: UP, **dict.fromkeys(LAS_WITHOUT, DOWN)},
}  # fmt: skip
ZERO, NEVER = (1.0, 0.0, 2.0), (-1.0, -2.0, 0.0)
# On the other side of a bound: claim, results that change, verdict.
DECIDED = [
    ("focus-rises-early", {CONTRAST["focus"]: ZERO}, PARTLY),
    ("focus-rises-early", {SHUFFLED["focus"]: ZERO}, NOT_REPRODUCED),
    ("confusion-falls-late", {key("confusion", t=1.0): (0.3, 0.2, 0.4)}, PARTLY),
    ("confusion-falls-late", {CONTRAST["confusion"]: ZERO}, NOT_REPRODUCED),
    ("confusion-falls-late", {SHUFFLED["confusion"]: ZERO}, NOT_REPRODUCED),
    ("shortlisting-heads-early", {DEPTH["Coarse"]: (0.4, 0.3, 0.5)}, NOT_REPRODUCED),
    ("refining-heads-late", {DEPTH["Coarse"]: (0.5, 0.4, 0.5 + E)}, PARTLY),
    ("refining-heads-late", {DEPTH["Refine"]: (0.6, 0.5, 0.7)}, NOT_REPRODUCED),
    ("noising-phase-1", {ANCHOR: ZERO}, PARTLY),
    ("noising-phase-1", {FOCUS: (0.3, 0.2, 0.4)}, PARTLY),
    ("noising-phase-1", {ANCHOR: ZERO, FOCUS: ABOVE}, NOT_REPRODUCED),
    ("denoising-phase-1", {key("corruption_effect", readout="anchor"): (2 + E, 1.0, 3.0)}, PARTLY),
    ("denoising-phase-1", {key("corruption_effect", readout="anchor"): (2.0, 0.0, 3.0)}, NOT_REPRODUCED),
    ("denoising-phase-1", {moved("denoising", "anchor", "top", 1): ZERO}, NOT_REPRODUCED),
    ("denoising-phase-2", {moved("denoising", "margin", "top", 2): ZERO}, PARTLY),
    ("denoising-phase-2", {RESTORED: (0.3, 0.2, 0.4)}, PARTLY),
    ("denoising-phase-2", {moved("denoising", "margin", "top", 2): ZERO, RESTORED: ABOVE}, NOT_REPRODUCED),
    ("noising-phase-2", {MARGIN: ZERO}, PARTLY),
    ("noising-phase-2", {NOISED: (0.7, 0.6, 0.8)}, PARTLY),
    ("noising-phase-2", {MARGIN: ZERO, NOISED: BELOW}, NOT_REPRODUCED),
    ("controls-do-nothing", {RANDOM["anchor"]: UP}, REPRODUCED),
    ("controls-do-nothing", {RANDOM["anchor"]: UP, RANDOM["margin"]: DOWN}, NOT_REPRODUCED),
    ("controls-do-nothing", {ANCHOR: ZERO}, REPRODUCED),
    ("controls-do-nothing", {ANCHOR: ZERO, MARGIN: ZERO}, PARTLY),
    ("double-dissociation", {beyond_random(1, "margin"): UP}, PARTLY),
    ("double-dissociation", {beyond_random(2, "anchor"): UP}, PARTLY),
    ("double-dissociation", {beyond_random(1, "anchor"): ZERO}, NOT_REPRODUCED),
    ("double-dissociation", {beyond_random(2, "margin"): ZERO}, NOT_REPRODUCED),
    ("complementary", {phases("lost", 2): ZERO}, PARTLY),
    ("complementary", {phases("shapley_share", 1): ZERO}, PARTLY),
    ("complementary", {phases("lost", phase): ZERO for phase in (1, 2)}, NOT_REPRODUCED),
    ("scores-find-known-heads", {AUROC["Coarse"]: (0.9, 0.5, 1.0)}, PARTLY),
    ("scores-find-known-heads", dict.fromkeys(AUROC.values(), MIDDLE), NOT_REPRODUCED),
    ("mechanistic-beats-cot", {TIME: ZERO}, PARTLY),
    ("mechanistic-beats-cot", {STEPS: ZERO}, PARTLY),
    ("mechanistic-beats-cot", {STEPS: ZERO, TIME: ZERO}, NOT_REPRODUCED),
    ("each-phase-matters", {WITHOUT[0]: NEVER}, PARTLY),
    ("each-phase-matters", dict.fromkeys(WITHOUT, NEVER), NOT_REPRODUCED),
    ("las", {LAS: ZERO}, NOT_REPRODUCED),
    ("las-each-phase", {LAS_WITHOUT[0]: NEVER}, PARTLY),
    ("las-each-phase", dict.fromkeys(LAS_WITHOUT, NEVER), NOT_REPRODUCED),
]  # fmt: skip


def write(folder, stem, found, profile="smoke", page="", **parameters):
    """A run folder: results by `key`, each of value, low and high, or a text."""
    at = folder / stem / profile
    at.mkdir(parents=True, exist_ok=True)
    rows = []
    for (metric, *dimensions), value in found.items():
        number = {"unit": "verdict", "value": value}
        if isinstance(value, tuple):
            number = {"unit": "units", "value": value[0], "interval": value[1:], "n": 9}
            number |= {"interval_over": "documents", "interval_method": "BCa"}
        rows.append(Row(metric=metric, **number, **dict(dimensions)))
    results.write(rows, at / "results.json")
    manifest = {"notebook": f"notebooks/{stem}.ipynb", "profile": profile, "parameters": parameters}
    (at / "manifest.json").write_text(json.dumps(manifest))
    cell = v4.new_code_cell("", outputs=[v4.new_output("display_data", {"text/markdown": page})])
    nbformat.write(v4.new_notebook(cells=[cell]), at / f"{stem}.ipynb")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`runs/` in an empty current directory, in which every claim holds under the profile smoke."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    for stem, held in HELD.items():
        write(tmp_path / "runs", stem, held, dataset="some", teacher="who")
    return tmp_path / "runs"


def verdicts_of(rows):
    """The verdicts of a ledger as its notebook records them."""
    return {key("verdict", claim=row.key[0], published_run=row.key[1]): row.verdict for row in rows}


def of(folder, name):
    return next(row for row in ledger.judge_claims("smoke", folder) if row.claim.id == name)


def keep_ledger(folder):
    """A run of the ledger, as its notebook would have left it."""
    rows = ledger.judge_claims("smoke", folder)
    write(folder, ledger.STEM, verdicts_of(rows), page=ledger.table(rows))


def test_every_claim_is_reproduced_just_inside_its_bounds(folder):
    rows = ledger.judge_claims("smoke", folder)
    assert {row.claim.id: row.verdict for row in rows} == dict.fromkeys([one.id for one in CLAIMS], REPRODUCED)
    assert ledger.counts(rows) == {REPRODUCED: len(CLAIMS), PARTLY: 0, NOT_REPRODUCED: 0, NOT_RUN: 0}
    assert {row.data for row in rows} == {"some, who"}


@pytest.mark.parametrize(("claim", "changed", "verdict"), DECIDED)
def test_a_bound_decides(folder, claim, changed, verdict):
    stem = of(folder, claim).stem
    assert changed.keys() <= HELD[stem].keys()
    write(folder, stem, HELD[stem] | changed, dataset="some", teacher="who")
    assert of(folder, claim).verdict == verdict


def test_the_cases_above_decide_every_claim_both_ways():
    assert {claim for claim, _, verdict in DECIDED if verdict == NOT_REPRODUCED} == {one.id for one in CLAIMS}


@pytest.mark.parametrize("missing", [(claim.id, name) for claim in CLAIMS for name in claim.reads])
def test_without_one_of_its_results_a_claim_is_not_run(folder, missing):
    claim, called = missing
    row = of(folder, claim)
    place = list(row.claim.reads).index(called)
    part, held = row.claim.reads[called], HELD[row.stem]
    wanted = key(part.metrics[0], **part.dimensions)
    free = {part.largest, "dataset", "teacher"}
    rest = {one: value for one, value in held.items() if (one[0], *(x for x in one[1:] if x[0] not in free)) != wanted}
    assert len(rest) < len(held)
    write(folder, row.stem, rest, dataset="some", teacher="who")
    assert of(folder, claim).verdict == NOT_RUN
    assert of(folder, claim).ours[place].endswith(": none")


def test_without_a_run_or_a_value_a_claim_is_not_run(folder):
    write(folder, "13_las", {LAS: None})
    assert of(folder, "las").verdict == NOT_RUN
    assert ledger.counts(ledger.judge_claims("default", folder))[NOT_RUN] == len(CLAIMS)
    assert ledger.judge_claims("smoke", folder / "nowhere")[0].cells[3:] == ("-", NOT_RUN, "-", "02")


def test_the_largest_bin_is_the_largest_number_and_the_row_says_which(folder):
    assert of(folder, "noising-phase-1").ours[0] == "anchor lost, top 90: 1 [1e-09, 2] (units)"
    bins = {moved("noising", "anchor", "top", 1, n_heads=100): DOWN}
    write(folder, "06_patching", HELD["06_patching"] | bins, dataset="some", teacher="who")
    assert of(folder, "noising-phase-1").verdict == PARTLY
    assert of(folder, "noising-phase-1").ours[0].startswith("anchor lost, top 100: -1 ")


def test_results_of_another_study_or_model_are_not_read(folder):
    write(folder, "08_together", HELD["08_together"], dataset="other", teacher="who")
    second = {(metric, *dimensions, ("study", "second")): UP for metric, *dimensions in HELD["08_together"]}
    assert of(folder, "complementary").verdict == NOT_RUN
    write(folder, "08_together", second, dataset="some", teacher="who")
    assert of(folder, "complementary").verdict == NOT_RUN
    write(folder, "08_together", HELD["08_together"] | second, dataset="some", teacher="who")
    assert of(folder, "complementary").verdict == REPRODUCED


def test_published_numbers_are_those_of_the_authors_notes():
    told = {claim.id: claim.published for claim in CLAIMS}
    assert told["noising-phase-1"] == "Focus 85 % to 25 % (-71 %)"
    assert told["denoising-phase-2"] == "Confusion 0.72 to 0.24 (-67 %)"
    assert told["noising-phase-2"] == "Confusion 0.22 to 0.66 (+200 %)"
    assert told["focus-rises-early"] == "Focus 0.46 at t = 0, 0.95 at t = 0.3"
    assert told["las-each-phase"].startswith("LAS 0.76 against 0.72 and 0.73 (MIMIC-IV)")
    assert told["las"] == "LAS 0.76 against 0.69 (MIMIC-IV); 0.79 against 0.71 (WikiSeeAlso)"
    assert len(told) == len(CLAIMS)


def chapters():
    """(claim, notebook) for the chapters that are written."""
    known = {path.name[:2]: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    return [pytest.param(one, known[one.chapter], id=one.id) for one in CLAIMS if one.chapter in known]


@pytest.mark.parametrize(("claim", "notebook"), chapters())
def test_a_claim_reads_what_its_chapter_records_and_points_to_a_place_in_it(claim, notebook, tmp_path):
    cells = notebook_files.read_notebook(notebook).cells
    figures = {cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in cells}
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    headings = {re.sub(r"\W+", "-", line.lstrip("# ").lower()).strip("-") for line in lines if line.startswith("#")}
    assert claim.place in figures | headings
    golden = DATA / "golden" / f"{notebook.stem}.smoke.json"
    if golden.is_file():
        rows = [row for row in validate.read_golden(golden).values() if row.interval_over == "documents"]
        usable = {key(row.metric, **{name: getattr(row, name) for name in DIMENSIONS}): row for row in rows}
        found = {name: (row.value, -1.0, 1.0) for name, row in usable.items()}
        write(tmp_path, notebook.stem, found, **runs.plan(notebook, "smoke").parameters)
        assert of(tmp_path, claim.id).verdict != NOT_RUN


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("results.json", "{", r"results\.json is not JSON"),
        ("results.json", "[]", r"has results of schema 1, and this ctd reads schema 2: run the notebook again"),
        ("results.json", '{"schema": 2, "rows": [{"metric": "focus"}]}', r"is not whole \(unit: Field required\)"),
        ("results.json", '{"schema": 2}', r"is not whole \(KeyError\('rows'\)\)"),
        ("manifest.json", "{}", r"not a whole run \(KeyError\('parameters'\)\)"),
        ("manifest.json", None, r"02_text/smoke/manifest\.json"),
    ],
)
def test_a_damaged_run_is_one_clear_line(folder, file, content, complaint):
    path = folder / "02_text" / "smoke" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        ledger.judge_claims("smoke", folder)
    said = CliRunner().invoke(app, ["claims", "--profile", "smoke"])
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1


def test_two_notebooks_of_one_number_are_refused(folder):
    write(folder, "13_other", {})
    with pytest.raises(
        ValueError, match="chapter 13 must be one notebook; .* has runs of 13_las, 13_other: remove one"
    ):
        ledger.judge_claims("smoke", folder)


def test_a_row_links_to_its_chapter_only_where_there_is_a_run(folder):
    write(folder, "13_las", HELD["13_las"], teacher="<b>&")
    shown = of(folder, "las").html
    assert '<a href="13_las.html#what-it-means">13</a>: &lt;b&gt;&amp;' in shown
    assert "<strong>reproduced</strong>" in shown
    assert "LAS, mechanistic less CoT: 1 [1e-09, 2] (units)" in shown
    assert "<em>Rule:</em> the difference in leakage-adjusted simulatability is above 0." in shown
    assert "<a " not in ledger.table(ledger.judge_claims("default", folder))
    assert ledger.table(ledger.judge_claims("smoke", folder)).count("<tr>") == 1 + 2 * len(CLAIMS)
    assert "\n\n" not in ledger.table(ledger.judge_claims("smoke", folder)), "a blank line ends HTML within Markdown"


def test_check_passes_where_all_follows_and_names_what_does_not(folder):
    keep_ledger(folder)
    assert ledger.check("smoke", folder) == []
    write(folder, "13_las", HELD["13_las"] | {LAS: ZERO}, dataset="some", teacher="who")
    write(folder, "04_coarse", {DEPTH["Coarse"]: (0.2, 0.1, 0.3)}, dataset="some", teacher="who")
    first, second = ledger.check("smoke", folder)
    assert first.startswith("verdict on shortlisting-heads-early: the page of ")
    assert "shows other numbers than the stored results; mend: ctd run 14_claims --profile smoke --force" in first
    assert second.startswith("verdict on las is 'reproduced' in ")
    assert "and 'not reproduced' by the stored results" in second


def keep(folder, name, stem, found):
    """A run kept with the book, besides those in the folder."""
    write(folder.parent / "elsewhere", stem, found, profile=name, dataset="some", teacher="who")
    at = folder.parent / "elsewhere" / stem / name
    told = json.loads((at / "manifest.json").read_text())
    machine = {"hardware": {"gpu": "a GPU", "cores": 1}, "commit": "0123456789"}
    (at / "manifest.json").write_text(json.dumps(told | machine))
    published_runs.keep(run_folder.RunFolder(at), name)


def test_golden_results_have_the_verdict_of_every_run_kept_with_the_book():
    """Without the smoke run that ends with the same question, half an hour later."""
    golden = validate.read_golden(DATA / "golden" / f"{ledger.STEM}.smoke.json").values()
    said = {(row.claim, row.published_run): row.value for row in golden if row.metric == "verdict"}
    published = {row.key: row.verdict for row in ledger.judge_claims("smoke") if row.published_run}
    assert len(published) > 10
    assert published.items() <= said.items()


def test_a_run_that_is_kept_has_a_row_of_its_own_by_the_same_rule(folder):
    keep_ledger(folder)
    keep(folder, "big", "13_las", {LAS: ZERO})
    keep(folder, "without-it", "13_las", {key("other"): UP})
    rows = ledger.judge_claims("smoke", folder)
    mine, big, last = rows[-3:]
    assert (mine.key, mine.verdict) == (("las", None), REPRODUCED)
    assert (big.key, big.verdict) == (("las", "big"), NOT_REPRODUCED)
    assert last.key == ("las-each-phase", None), "of what it reads the kept run has nothing"
    assert ledger.counts(rows)[NOT_REPRODUCED] == 0
    assert big.cells[-1] == "data/results/big (a GPU, commit 01234567)"
    assert "<em>the same, by the published run big:</em> a GPU, commit 01234567</td>" in big.html
    (problem,) = ledger.check("smoke", folder)
    assert problem.startswith("verdict on las by big is 'not recorded' in ")
    keep_ledger(folder)
    assert ledger.check("smoke", folder) == []
    keep(folder, "big", "13_las", {LAS: UP})
    assert "verdict on las by big is 'not reproduced' in " in ledger.check("smoke", folder)[0]


def test_check_names_verdicts_that_were_not_recorded_or_are_of_no_claim(folder):
    keep_ledger(folder)
    rows = ledger.judge_claims("smoke", folder)
    verdicts = verdicts_of(rows[1:]) | {key("verdict", claim="gone"): REPRODUCED}
    write(folder, ledger.STEM, verdicts, page=ledger.table(rows))
    first, second = ledger.check("smoke", folder)
    assert first.startswith("verdict on focus-rises-early is 'not recorded' in ")
    assert "'no claim of the ledger'" in second


def test_the_command_prints_the_ledger_and_checks_it(folder):
    def call(*words):
        return CliRunner().invoke(app, ["claims", *words], catch_exceptions=False)

    printed = call("--profile", "smoke").stdout
    assert all(claim.rule in printed and claim.statement in printed for claim in CLAIMS)
    assert f"{len(CLAIMS)} reproduced, 0 partly, 0 not reproduced, 0 not run" in printed
    assert f"{len(CLAIMS)} not run" in call().stdout
    assert "no run runs/14_claims/smoke" in call("--profile", "smoke", "--check").stderr
    assert "no profile smok (did you mean smoke?)" in call("--profile", "smok").stderr
    keep_ledger(folder)
    assert "all verdicts follow" in call("--profile", "smoke", "--check").stdout
    write(folder, "12_ablations", {}, dataset="some", teacher="who")
    failed = call("--profile", "smoke", "--check")
    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        "verdict on each-phase-matters is 'reproduced' in 14_claims/smoke, and 'not run' by the stored results"
    )
    assert failed.stderr.count("\n") == 1


def test_the_notebook_records_what_the_ledger_says(folder, monkeypatch, capsys):
    monkeypatch.setenv("CTD_RUN_DIR", str(folder / ledger.STEM / ".smoke.1.partial"))
    cells = notebook_files.read_notebook(ROOT / "notebooks" / f"{ledger.STEM}.ipynb").cells
    names = {}
    for cell in cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            names["profile"] = "smoke"
    rows = results.read(folder / ledger.STEM / ".smoke.1.partial" / "results.json")
    recorded = {(row.metric, row.claim or row.item): row.value for row in rows}
    assert [recorded["verdict", claim.id] for claim in CLAIMS] == [REPRODUCED] * len(CLAIMS)
    assert recorded["claims", REPRODUCED] == len(CLAIMS)


def test_runs_are_looked_for_beside_the_ledgers_own(tmp_path):
    assert ledger.runs_beside(tmp_path / ledger.STEM / ".smoke.1.partial") == tmp_path
    assert ledger.runs_beside(tmp_path / "mine") == ROOT / "runs"


def test_a_claim_that_would_read_one_of_several_results_is_refused():
    one = {"metric": "auroc", "unit": "probability", "interval": (0.5, 0.7), "interval_over": "documents"}
    one |= {"interval_method": "BCa", "n": 3, "value": 0.6}
    rows = [Row(**one, dataset=dataset) for dataset in (None, "some")]
    with pytest.raises(ValueError, match="a claim reads one result, and 2 are auroc"):
        reads("auroc").read(rows, {"dataset": "some"})
    assert reads("auroc").read(rows[:1], {"dataset": "some"}) == rows[0]
