"""The ledger: rows by the reader's runs and the published ones, corrected together, and checked against its page."""

import json

import pytest
from typer.testing import CliRunner

from ctd.book import (
    ledger,
    ledger_check,
    ledger_page,
    looks,
    notebook_files,
    published_runs,
    results,
    rules,
    run_folder,
    validate,
)
from ctd.book.claims import CLAIMS
from ctd.book.run_folder import RunFolder
from ctd.book.verdicts import TESTED, Verdict
from ctd.cache import DATA, ROOT
from ctd.cli import app
from tests.book import ledger_runs
from tests.book.ledger_runs import key, write

HELD = ledger_runs.runs()
LAS = tuple(key("las_balanced", over, arm="mechanistic", baseline="cot") for over in ("documents", "seeds"))
NEED = {
    row: value
    for row, value in HELD["13_chapter"].items()
    if row[0] == "las_balanced" and ("arm", "own explanation") in row
}
WIDE, REFUTED = (0.0, -1.0, 1.0), (-1.0, -1.1, -0.9)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`runs/` in an empty current directory, in which every claim holds under the profile smoke."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    for stem, held in HELD.items():
        write(tmp_path / "runs", stem, held, dataset="some", teacher="who")
    return tmp_path / "runs"


def judge(folder, name):
    return next(row for row in ledger.judge_claims("smoke", folder) if row.claim.id == name)


def verdicts_of(rows):
    """The verdicts of a ledger as its notebook records them."""
    return {key("verdict", None, claim=row.key[0], published_run=row.key[1]): row.verdict for row in rows}


def keep_ledger(folder):
    """A run of the ledger, as its notebook would have left it."""
    rows = ledger.judge_claims("smoke", folder)
    write(folder, ledger.STEM, verdicts_of(rows), page=ledger_page.table(rows))


def keep(folder, name, stem, rows):
    """A run published with the book, besides those in the folder."""
    write(folder.parent / "elsewhere", stem, rows, profile=name, dataset="some", teacher="who")
    at = folder.parent / "elsewhere" / stem / name
    manifest = json.loads((at / "manifest.json").read_text())
    machine = {"hardware": {"gpu": "a GPU", "cores": 1}, "commit": "0123456789", "start": "2026-11-29T10:00:00"}
    (at / "manifest.json").write_text(json.dumps(manifest | machine))
    published_runs.keep(run_folder.RunFolder(at), name)


def test_the_claims_are_counted_by_verdict_and_by_whose_they_are(folder):
    rows = ledger.judge_claims("smoke", folder)
    assert ledger.counts(rows)[Verdict.REPRODUCED] == len(CLAIMS)
    paper, ours = (ledger.counts(rows, source)[Verdict.REPRODUCED] for source in ("paper", "ours"))
    assert (paper, ours) == (len(CLAIMS) - 5, 5)
    assert {row.data for row in rows} == {"some, who"}
    assert ledger.counts(ledger.judge_claims("default", folder))[Verdict.NOT_RUN] == len(CLAIMS)
    assert ledger.judge_claims("smoke", folder / "nowhere")[0].cells[3:] == ("-", Verdict.NOT_RUN, "", "-", "02")


def test_a_verdict_that_does_not_stand_among_the_others_says_so(folder):
    just = {row: (0.1, 0.001, 0.199) if row in LAS else value
            for row, value in HELD["13_chapter"].items()}  # fmt: skip
    write(folder, "13_chapter", just, dataset="some", teacher="who")
    row = judge(folder, "las")
    assert row.verdict == Verdict.REPRODUCED, "Holm takes the weakest of a family of strong ones as it is"
    others = {row: WIDE if row not in LAS else value for row, value in just.items()} | NEED
    write(folder, "13_chapter", others, dataset="some", teacher="who")
    row = judge(folder, "las")
    assert row.verdict == Verdict.INCONCLUSIVE
    assert row.why.startswith("reproduced by itself, not among ")


def test_published_runs_of_one_commit_and_machine_are_corrected_together(folder):
    just = {row: (0.1, 0.001, 0.199) if row in LAS else value for row, value in HELD["13_chapter"].items()}
    weak = {row: WIDE if row not in LAS else value for row, value in just.items()} | NEED
    keep(folder, "las", "13_chapter", weak)
    published = {row.key: row for row in ledger.judge_claims("smoke", folder) if row.published_run}
    tested = sum(row.verdict in TESTED and row.claim.source == "paper" for row in published.values())
    assert published["las", "las"].why.endswith(
        f"not among {tested} claims (Holm, p = {published['las', 'las'].p:.2g})"
    )
    keep(folder, "curves", "02_chapter", HELD["02_chapter"])
    again = {row.key: row for row in ledger.judge_claims("smoke", folder) if row.published_run}
    more = sum(row.verdict in TESTED and row.claim.source == "paper" for row in again.values())
    assert more > tested
    assert f"not among {more} claims" in again["las", "las"].why
    manifest = published_runs.FOLDER / "curves" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0123456789", "9876543210"))
    apart = {row.key: row for row in ledger.judge_claims("smoke", folder) if row.published_run}
    assert apart["las", "las"].why == published["las", "las"].why


def test_the_precondition_of_a_published_run_is_looked_up_in_one_that_was_made_with_it(folder):
    keep(folder, "heads", "04_chapter", HELD["04_chapter"])
    assert judge_published(folder, "shortlisting-heads-early").verdict == Verdict.REPRODUCED
    blind = {row: (0.4, 0.3, 0.45) if row[0] == "auroc" else value for row, value in HELD["07_chapter"].items()}
    keep(folder, "instruments", "07_chapter", blind)
    assert judge_published(folder, "shortlisting-heads-early").verdict == Verdict.NOT_TESTABLE
    assert judge(folder, "shortlisting-heads-early").verdict == Verdict.REPRODUCED


def judge_published(folder, name):
    return next(row for row in ledger.judge_claims("smoke", folder) if row.claim.id == name and row.published_run)


def test_the_largest_bin_is_the_largest_number_and_the_row_says_which(folder):
    assert judge(folder, "noising-phase-1").ours[0].startswith("anchor lost, top 90: 0.2 ")
    bins = key("patching_effect", intervention="noising", readout="anchor", heads="top", phase=1, n_heads=100)
    write(folder, "06_chapter", HELD["06_chapter"] | {bins: REFUTED}, dataset="some", teacher="who")
    assert judge(folder, "noising-phase-1").verdict == Verdict.CONTRADICTED
    row = judge(folder, "noising-phase-1")
    assert row.ours[0].startswith("anchor lost, top 100: -1 ")
    assert row.why.startswith("by the number: anchor lost, top *") == (len(row.claim.parts) > 1)


def test_results_of_another_study_or_model_are_not_read(folder):
    values = {(*row, ("dataset", "some"), ("teacher", "who")): value for row, value in HELD["08_chapter"].items()}
    write(folder, "08_chapter", values, dataset="other", teacher="who")
    second = {(*row, ("study", "second")): value for row, value in values.items()}
    assert judge(folder, "complementary").verdict == Verdict.NOT_RUN
    write(folder, "08_chapter", second, dataset="some", teacher="who")
    assert judge(folder, "complementary").verdict == Verdict.NOT_RUN
    write(folder, "08_chapter", values | second, dataset="some", teacher="who")
    assert judge(folder, "complementary").verdict == Verdict.REPRODUCED


def test_an_interval_over_both_takes_the_place_of_one_over_each(folder):
    both = {(row[0], "documents and seeds", *row[2:]): WIDE for row in HELD["10_chapter"] if row[1] == "seeds"}
    write(folder, "10_chapter", HELD["10_chapter"] | both, dataset="some", teacher="who")
    row = judge(folder, "mechanistic-beats-cot")
    assert row.verdict == Verdict.INCONCLUSIVE
    assert "only an effect of 1.4 or more could have been seen" in row.why
    assert any(", over documents and seeds: 0 [-1, 1]" in number for number in row.ours)


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("results.json", "{", r"results\.json is not JSON"),
        ("results.json", "[]", r"has results of schema 1, and this ctd reads schema 2: run the notebook again"),
        ("results.json", '{"schema": 2, "rows": [{"metric": "focus"}]}', r"is not whole \(unit: Field required\)"),
        ("results.json", '{"schema": 2}', r"is not whole \(KeyError\('rows'\)\)"),
        ("manifest.json", "{}", r"manifest\.json is not whole \(no 'notebook'\); run the notebook again"),
        ("manifest.json", None, r"02_chapter/smoke/manifest\.json"),
    ],
)
def test_a_damaged_run_is_one_clear_line(folder, file, content, complaint):
    path = folder / "02_chapter" / "smoke" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        ledger.judge_claims("smoke", folder)
    result = CliRunner().invoke(app, ["claims", "--profile", "smoke"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_claims_of_a_chapter_that_ended_early_are_not_testable_and_say_why(folder):
    why = "none of the 40 texts has a chain of thought"
    write(folder, "02_chapter", {key("not_testable", None): why}, dataset="some", teacher="who")
    row = judge(folder, "focus-rises-early")
    assert (row.verdict, row.why, row.p, row.page) == (Verdict.NOT_TESTABLE, why, None, "02_chapter.html")
    assert judge(folder, "mechanistic-beats-cot").page == "10_chapter.html#what-it-means"
    assert f"[not testable] {row.claim.statement}" in "\n".join(ledger.lines([row]))
    assert judge(folder, "mechanistic-beats-cot").verdict is Verdict.REPRODUCED
    write(folder, "02_chapter", {}, dataset="some", teacher="who")
    assert judge(folder, "focus-rises-early").verdict is Verdict.NOT_RUN


def test_two_notebooks_of_one_number_are_refused(folder):
    write(folder, "13_other", {})
    with pytest.raises(
        ValueError, match="chapter 13 must be one notebook; .* has runs of 13_chapter, 13_other: remove one"
    ):
        ledger.judge_claims("smoke", folder)


def test_check_passes_where_all_follows_and_names_what_does_not(folder):
    keep_ledger(folder)
    assert ledger_check.check("smoke", folder) == []
    write(folder, "13_chapter", HELD["13_chapter"] | dict.fromkeys(LAS, REFUTED), dataset="some", teacher="who")
    (problem,) = ledger_check.check("smoke", folder)
    assert problem.startswith("verdict on las is 'reproduced' in 17_claims/smoke, and 'contradicted' by the stored")
    near = {row: tuple(end + 0.001 for end in HELD["13_chapter"][row]) for row in LAS}
    write(folder, "13_chapter", HELD["13_chapter"] | near, dataset="some", teacher="who")
    (problem,) = ledger_check.check("smoke", folder)
    assert problem.startswith("verdict on las: the page of 17_claims/smoke shows other numbers than the stored")


def test_check_names_verdicts_that_were_not_recorded_or_are_of_no_claim(folder):
    keep_ledger(folder)
    rows = ledger.judge_claims("smoke", folder)
    verdicts = verdicts_of(rows[1:]) | {key("verdict", None, claim="gone"): Verdict.REPRODUCED}
    write(folder, ledger.STEM, verdicts, page=ledger_page.table(rows))
    first, second = ledger_check.check("smoke", folder)
    assert first.startswith("verdict on focus-rises-early is 'not recorded' in ")
    assert "'no claim of the ledger'" in second


def test_golden_results_have_the_verdict_of_every_run_published_with_the_book():
    """Without the smoke run that ends with the same question, half an hour later."""
    golden = validate.read_golden(DATA / "golden" / f"{ledger.STEM}.smoke.json").values()
    verdicts = {(row.claim, row.published_run): row.value for row in golden if row.metric == "verdict"}
    published = {row.key: row.verdict for row in ledger.judge_claims("smoke") if row.published_run}
    assert len(published) > 10
    assert {claim for claim, _ in published} >= {"mechanistic-beats-cot", "each-phase-matters"}
    assert {pair for pair in verdicts if pair[1]} == set(published)


def test_a_published_run_has_a_row_of_its_own_by_the_same_rule(folder):
    keep_ledger(folder)
    keep(folder, "big", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    keep(folder, "without-it", "13_chapter", {key("other"): WIDE})
    rows = ledger.judge_claims("smoke", folder)
    book_row, big, last = rows[-3:]
    assert (book_row.key, book_row.verdict) == (("las", None), Verdict.REPRODUCED)
    assert (big.key, big.verdict) == (("las", "big"), Verdict.CONTRADICTED)
    assert last.key == ("las-each-phase", None), "of what it reads the published run has nothing"
    assert ledger.counts(rows)[Verdict.CONTRADICTED] == 0
    assert big.cells[-1] == "data/results/big (a GPU, commit 01234567)"
    assert "<td>big (a GPU, commit 01234567)<br>some, who</td>" in ledger_page.run(big)
    (problem,) = ledger_check.check("smoke", folder)
    assert problem.startswith("verdict on las by big is 'not recorded' in ")
    keep_ledger(folder)
    assert ledger_check.check("smoke", folder) == []


def test_it_is_said_which_came_first_and_how_often_documents_were_looked_at(folder):
    sized = dict.fromkeys(LAS, REFUTED) | NEED
    keep(folder, "big", "13_chapter", sized)
    path = published_runs.FOLDER / "big" / "results.json"
    rows = [*results.read(path), results.Row(metric="documents", unit="documents", value=250)]
    results.write(rows, path)
    log = looks.of_run(RunFolder(published_runs.FOLDER / "big"), "big")
    (look,) = log.to_dict("records")
    assert {name: look[name] for name in ("dataset", "teacher", "chapter", "run", "documents")} == {
        "dataset": "some", "teacher": "who", "chapter": "13", "run": "big", "documents": 250,
    }  # fmt: skip
    assert look["date"].startswith("2026-11-29")
    table = rules.provenance(ledger.judge_claims("smoke", folder), folder, "smoke")
    assert len(table) == len(CLAIMS) + 1
    assert set(table["which came first"]) == {rules.UNKNOWN}, "no commit has these hashes"


def test_the_command_prints_the_ledger_and_checks_it(folder):
    def call(*words):
        return CliRunner().invoke(app, ["claims", *words], catch_exceptions=False)

    lines = call("--profile", "smoke", "--rules").stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 100, "also off a terminal"
    printed = " ".join(" ".join(lines).split())
    assert all(claim.rule in printed and claim.statement in printed for claim in CLAIMS)
    assert f"{len(CLAIMS)} reproduced, 0 contradicted, 0 equivalent to nothing" in printed
    assert f"{len(CLAIMS)} not run" in call().stdout
    table = json.loads(call("--profile", "smoke", "--json").stdout)
    assert [row["claim"] for row in table[: len(CLAIMS)]] == [claim.statement for claim in CLAIMS]
    assert "no run runs/17_claims/smoke" in call("--profile", "smoke", "--check").stderr
    assert "no profile smok (did you mean smoke?)" in call("--profile", "smok").stderr
    keep_ledger(folder)
    assert "all verdicts follow" in call("--profile", "smoke", "--check").stdout
    write(folder, "12_chapter", {}, dataset="some", teacher="who")
    failed = call("--profile", "smoke", "--check")
    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        "verdict on each-phase-matters is 'reproduced' in 17_claims/smoke, and 'not run' by the stored results"
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
    verdicts = {row.claim: row.value for row in rows if row.metric == "verdict"}
    assert verdicts == dict.fromkeys([claim.id for claim in CLAIMS], Verdict.REPRODUCED)
    counted = {(row.method, row.item): row.value for row in rows if row.metric == "claims"}
    assert counted["the paper", Verdict.REPRODUCED] + counted["ours", Verdict.REPRODUCED] == len(CLAIMS)
    assert sum(counted.values()) == len(CLAIMS)
    assert set(TESTED) <= {verdict for _, verdict in counted}


def test_runs_are_looked_for_beside_the_ledgers_own(tmp_path):
    assert ledger.runs_beside(tmp_path / ledger.STEM / ".smoke.1.partial") == tmp_path
    assert ledger.runs_beside(tmp_path / "mine") == ROOT / "runs"
