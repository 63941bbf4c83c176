"""The claims: each decided both ways by each of its numbers, read from what its chapter records."""

import re

import pandas as pd
import pytest

from ctd.book import ledger, notebook_files, published_runs, rules, runs, validate
from ctd.book.claim_rules import Precondition, reads, said
from ctd.book.claims import CLAIMS
from ctd.book.results import DIMENSIONS, Row
from ctd.book.verdicts import Verdict
from ctd.cache import DATA, ROOT
from tests.book import ledger_runs
from tests.book.ledger_runs import STEMS, around, key, keys, need_key, overs, write

PARTS = [pytest.param(claim, name, id=f"{claim.id}: {name}") for claim in CLAIMS for name in claim.parts]
HELD = ledger_runs.runs()
NEEDS = [pytest.param(claim, name, id=f"{claim.id}: {name}") for claim in CLAIMS for name in claim.needs]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where runs are written, without those that are published with the book."""
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Judges a claim by runs in which every claim holds, but for some rows, by stem and key."""
    folder, written = tmp_path_factory.mktemp("held") / "runs", {}

    def judge(claim, changed=(), without=()):
        for stem, rows in HELD.items():
            wanted = rows | {row: value for (place, row), value in dict(changed).items() if place == stem}
            wanted = {row: value for row, value in wanted.items() if (stem, row) not in without}
            if written.get(stem) != wanted:
                write(folder, stem, wanted, dataset="some", teacher="who")
                written[stem] = wanted
        return next(row for row in ledger.judge_claims("smoke", folder) if row.claim.id == claim.id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_runs, "FOLDER", folder / "none")
        yield judge


def moved(claim, name, bounds, half=0.25):
    """The rows that put a number of a claim so many bounds from its null value."""
    part, stem = claim.parts[name], STEMS[claim.chapter]
    changed = {}
    for over in overs(part):
        first, *less = keys(part, over)
        shift = part.share * HELD[stem][less[0]][0] if less else 0.0
        changed[stem, first] = tuple(end + shift for end in around(part, bounds, half))
    return changed


def test_pages_say_minus():
    assert said("gain of {largest}, less that of b", "c") == "gain of c, minus that of b"
    assert said("beyond shuffled lines") == "compared with shuffled lines"
    assert not any(" less " in claim.rule for claim in CLAIMS)


@pytest.mark.parametrize(("claim", "name"), PARTS)
def test_each_number_decides_its_claim(judged, claim, name):
    side = {"above": 1, "below": -1, "at": 0}[claim.parts[name].claimed]
    assert judged(claim).verdict == Verdict.REPRODUCED
    assert judged(claim, moved(claim, name, -4 * side or 4)).verdict == Verdict.CONTRADICTED
    wide = judged(claim, moved(claim, name, side, half=10))
    assert wide.verdict == Verdict.INCONCLUSIVE
    assert "could have been seen" in wide.why
    if side:
        nothing = judged(claim, moved(claim, name, 0))
        assert nothing.verdict == Verdict.EQUIVALENT
        refuting = nothing.why.partition(": ")[2].split("; ")
        assert (said(name) in refuting) == (len(claim.parts) > 1)


@pytest.mark.parametrize(("claim", "name"), PARTS)
def test_without_one_of_its_numbers_a_claim_is_not_run(judged, claim, name):
    missing = {
        (STEMS[claim.chapter], row) for over in overs(claim.parts[name]) for row in keys(claim.parts[name], over)
    }
    row = judged(claim, without=missing)
    assert row.verdict == Verdict.NOT_RUN
    assert any(number.endswith(": none") for number in row.ours)


@pytest.mark.parametrize(("claim", "name"), NEEDS)
def test_a_precondition_that_fails_makes_its_claim_not_testable(judged, claim, name):
    need = claim.needs[name]
    stem, row = STEMS[need.chapter or claim.chapter], need_key(need)
    if need.n:  # of a part of the claim
        assert row in {row for part in claim.parts.values() for row in keys(part)}
        return
    bad = ledger_runs.limit(need)[1]
    failed = judged(claim, {(stem, row): bad})
    assert failed.verdict == Verdict.NOT_TESTABLE
    assert f": {bad if need.says else f'{bad[0]:.4g} ['}" in failed.why
    assert f", where {need.words} is needed" in failed.why
    if row not in {row for part in claim.parts.values() for row in keys(part)}:
        absent = judged(claim, without={(stem, row)})
        assert absent.verdict == Verdict.NOT_TESTABLE
        assert absent.why.endswith(f": not recorded, where {need.words} is needed")


def test_a_precondition_needs_its_whole_interval_above_and_enough_documents():
    row = Row(metric="auroc", unit="-", value=0.6, interval=(0.5, 0.7), interval_over="documents",
              interval_method="BCa", n=29)  # fmt: skip
    assert not Precondition(reads("auroc"), above=0.5).holds(row)
    assert Precondition(reads("auroc"), above=0.49).holds(row)
    assert not Precondition(reads("auroc"), n=30).holds(row)
    assert Precondition(reads("auroc"), n=29).holds(row)
    assert not Precondition(reads("auroc"), n=0).holds(None)
    assert not Precondition(reads("auroc"), below=0.7).holds(row)
    assert Precondition(reads("auroc"), below=0.71).holds(row)
    assert not Precondition(reads("found"), says="yes").holds(row)


def test_the_digests_of_the_rules_are_those_that_are_kept():
    recorded = pd.read_csv(DATA / "rules.csv").set_index("claim")["rule"]
    now = pd.Series({claim.id: claim.digest for claim in CLAIMS})
    assert recorded.to_dict() == now.to_dict(), (
        "a rule has changed: python -m ctd.book.rules, and commit before you run"
    )


def test_a_rule_is_written_anew_and_its_commit_is_asked_of_git(tmp_path):
    rules.write(tmp_path / "rules.csv")
    assert (tmp_path / "rules.csv").read_text() == (DATA / "rules.csv").read_text()
    assert rules.commit("no rule has this digest") == rules.UNKNOWN
    assert rules.first(rules.UNKNOWN, "0" * 7) == rules.UNKNOWN


def test_published_numbers_are_those_of_the_authors_notes():
    published = {claim.id: claim.published for claim in CLAIMS}
    assert published["noising-phase-1"] == "Focus 85 % to 25 % (-71 %)"
    assert published["denoising-phase-2"] == "Confusion 0.72 to 0.24 (-67 %)"
    assert published["noising-phase-2"] == "Confusion 0.22 to 0.66 (+200 %)"
    assert published["focus-rises-early"] == "Focus 0.46 at t = 0, 0.95 at t = 0.3"
    assert published["las-each-phase"].startswith("LAS 0.76 against 0.72 and 0.73 (MIMIC-IV)")
    assert published["las"] == "LAS 0.76 against 0.69 (MIMIC-IV); 0.79 against 0.71 (WikiSeeAlso)"
    assert len(published) == len(CLAIMS)


def chapters():
    """(claim, notebook) for the chapters that are written."""
    known = {path.name[:2]: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    return [pytest.param(claim, known[claim.chapter], id=claim.id) for claim in CLAIMS]


@pytest.mark.parametrize(("claim", "notebook"), chapters())
def test_a_claim_reads_what_its_chapter_records_and_points_to_a_place_in_it(claim, notebook, folder):
    cells = notebook_files.read_notebook(notebook).cells
    figures = {cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in cells}
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    headings = {re.sub(r"\W+", "-", line.lstrip("# ").lower()).strip("-") for line in lines if line.startswith("#")}
    assert claim.place in figures | headings
    for stem in {notebook.stem, *(path.stem for need in claim.needs.values() for path in
                                  (ROOT / "notebooks").glob(f"{need.chapter or claim.chapter}_*.ipynb"))}:  # fmt: skip
        golden = validate.read_golden(DATA / "golden" / f"{stem}.smoke.json").values()
        recorded = {
            key(row.metric, row.interval_over, **{name: getattr(row, name) for name in DIMENSIONS}): (
                (0.0, -1.0, 1.0) if row.interval_over else row.value
            )
            for row in golden
            if row.interval_over is None or isinstance(row.value, float)
        }
        write(folder, stem, recorded, **runs.plan(ROOT / "notebooks" / f"{stem}.ipynb", "smoke").parameters)
    row = next(row for row in ledger.judge_claims("smoke", folder) if row.claim.id == claim.id)
    assert row.verdict != Verdict.NOT_RUN
    assert "not recorded" not in row.why


def test_a_claim_that_would_read_one_of_several_results_is_refused():
    fields = {"metric": "auroc", "unit": "probability", "interval": (0.5, 0.7), "interval_over": "documents"}
    fields |= {"interval_method": "BCa", "n": 3, "value": 0.6}
    rows = [Row(**fields, dataset=dataset) for dataset in (None, "some")]
    with pytest.raises(ValueError, match="a claim reads one result, and 2 are auroc"):
        reads("auroc").read(rows, {"dataset": "some"})
    assert reads("auroc").read(rows[:1], {"dataset": "some"}) == rows[0]
