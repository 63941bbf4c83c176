"""The findings and the ledger as a reader sees them: counts, cards, a grid of verdicts, rows that unfold."""

from dataclasses import replace

import pytest
from bs4 import BeautifulSoup

from ctd.book import front_page, ledger, ledger_page, published_runs, results
from ctd.book.claims import CLAIMS
from ctd.book.verdicts import Verdict
from tests.book import ledger_runs
from tests.book.ledger_runs import write
from tests.book.test_ledger import LAS, NEED, REFUTED, WIDE, keep

HELD = ledger_runs.runs()
PAPER = [claim for claim in CLAIMS if claim.source == "paper"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`runs/` in which every claim holds under the profile smoke, and no published run."""
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    for stem, held in HELD.items():
        write(tmp_path / "runs", stem, held, dataset="some", teacher="who")
    return tmp_path / "runs"


def rows_of(folder, profile="smoke"):
    return ledger.judge_claims(profile, folder)


def parsed(markup):
    return BeautifulSoup(markup, "html.parser")


def row_of(rows, name):
    return next(row for row in front_page.decided(rows) if row.claim.id == name)


def test_the_first_line_counts_the_papers_claims_alone(folder):
    words = parsed(front_page.headline(rows_of(folder))).get_text()
    assert words.startswith(f"Of {len(PAPER)} claims of the paper: ")
    assert f"{len(PAPER)} reproduced" in words
    assert "0 contradicted" in words
    assert "not run" not in words
    assert f"{len(PAPER)} not run" in parsed(front_page.headline(rows_of(folder, "default"))).get_text()


def test_every_card_has_its_claims_with_verdict_numbers_model_and_link(folder):
    known = {claim.id for claim in CLAIMS}
    page = parsed(front_page.front_page(rows_of(folder), "explorer.html"))
    cards = page.select(".ctd-card")
    assert [card.h2.get_text() for card in cards] == [question.asks for question in front_page.QUESTIONS]
    for card, question in zip(cards, front_page.QUESTIONS, strict=True):
        assert set(question.claims) <= known
        assert [link["href"] for link in card.select(".ctd-answers a")] == [
            f"notebooks/17_claims.html#claim-{name}" for name in question.claims
        ]
        assert len(card.select(".ctd-answers .ctd-verdict")) == len(question.claims)
        assert "reproduced" in card.get_text()
        assert "who (some)" in card.select_one(".ctd-source").get_text()
        assert 1 <= len(card.select("svg.ctd-dot title")) <= front_page.MOST
    assert [link["href"] for link in page.select(".ctd-button")] == [
        "explorer.html",
        "your_model.html",
        "validate.html",
    ]


def test_a_card_shows_the_number_that_speaks_least_for_a_claim(folder):
    row = row_of(rows_of(folder), "double-dissociation")
    name, part, _ = row.estimates[2]
    write(folder, "06_chapter", HELD["06_chapter"] | {ledger_runs.keys(part)[0]: WIDE}, dataset="some", teacher="who")
    row = row_of(rows_of(folder), "double-dissociation")
    assert [number.name for number in front_page.weakest(row, 1)] == [name]


def seen(markup):
    """What is read on the page, without the titles of icons."""
    page = parsed(markup)
    for icon in page.select("svg"):
        icon.decompose()
    return " ".join(page.get_text().split())


def test_a_card_says_both_where_a_less_precise_run_finds_something_else(folder):
    keep(folder, "big", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    rows = rows_of(folder)
    book_row, published = sorted((row for row in rows if row.claim.id == "las"), key=lambda row: row.published_run)
    assert (book_row.verdict, published.verdict) == (Verdict.REPRODUCED, Verdict.CONTRADICTED)
    assert row_of(rows, "las") is book_row
    both = seen(front_page.disagreement(book_row, rows))
    assert both == "Runs disagree: reproduced in this book's run, contradicted in big."
    sized = [replace(book_row, traces=8192), replace(published, traces=256)]
    both = seen(front_page.disagreement(sized[0], sized))
    assert both == "Runs disagree: reproduced with 8,192 traces, contradicted with 256 traces."
    assert both in seen(front_page.card(front_page.Question("Are explanations faithful?", ("las",)), sized))
    for agreeing in ([book_row], [book_row, replace(published, verdict=Verdict.NOT_TESTABLE)]):
        assert front_page.disagreement(book_row, agreeing) == ""


def test_a_dot_is_filled_where_the_interval_leaves_out_what_it_is_held_against():
    assert 'fill="currentColor"' in front_page.dot(front_page.Number("a", ledger.Estimate(2, 1, 3)), 0, 4)
    hollow = front_page.dot(front_page.Number("a & b", ledger.Estimate(2, -1, 3)), -1, 3)
    assert 'fill="currentColor"' not in hollow
    assert "<title>a &amp; b: 2.000" in hollow


def test_a_published_run_counts_where_the_books_own_cannot_test(folder):
    keep(folder, "big", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    assert row_of(rows_of(folder), "las").verdict == Verdict.REPRODUCED
    need = dict.fromkeys(NEED, (0.0, -0.1, 0.1))
    write(folder, "13_chapter", HELD["13_chapter"] | need, dataset="some", teacher="who")
    row = row_of(rows_of(folder), "las")
    assert (row.published_run, row.verdict) == ("big", Verdict.CONTRADICTED)
    assert front_page.counts(rows_of(folder), "paper")[Verdict.CONTRADICTED] == 1
    assert row_of(rows_of(folder, "default"), "las").published_run == "big"


def test_a_gain_is_shown_with_the_fewest_and_the_most_traces(folder):
    assert front_page.gains_over_traces() == []
    keep(folder, "curve", "10_chapter", {})
    over = {"interval_over": "documents", "interval_method": "BCa", "n": 9, "arm": "mechanistic", "baseline": "cot"}
    gains = {64: 0.5, 1024: 0.25, 256: 0.125}
    rows = [
        results.Row(metric="ndcg", k=5, unit="fraction", value=value, interval=(0, 1), traces=traces, **over)
        for traces, value in gains.items()
    ]
    results.write(rows, published_runs.FOLDER / "curve" / "results.json")
    first, last = front_page.gains_over_traces()
    assert (first.name, first.estimate.value) == ("gain in nDCG@5, 64 traces", 0.5)
    assert (last.name, last.estimate.value) == ("gain in nDCG@5, 1,024 traces", 0.25)


def test_the_grid_has_an_icon_for_every_claim_and_model_that_a_screen_reader_reads(folder):
    keep(folder, "one", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    keep(folder, "two", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    grid = parsed(front_page.verdict_grid(rows_of(folder)))
    lines = {line["href"].split("#claim-")[1]: line for line in grid.select("a.ctd-line")}
    assert set(lines) == {claim.id for claim in CLAIMS}
    assert [heading.get_text() for heading in grid.select("h3")] == list(ledger_page.SOURCES.values())
    titles = [icon.title.get_text() for icon in lines["las"].select("svg")]
    assert titles == ["reproduced", "contradicted in 2 runs"]
    assert lines["las"].sub.get_text() == "2"


def test_a_row_of_the_ledger_unfolds_to_rule_numbers_and_runs(folder):
    write(folder, "13_chapter", HELD["13_chapter"], teacher="<b>&")
    keep(folder, "a-long-name", "13_chapter", dict.fromkeys(LAS, REFUTED) | NEED)
    page = parsed(ledger_page.table(rows_of(folder)))
    row = page.select_one("details#claim-las")
    cells = {
        cell["data-model"]: [icon.title.get_text() for icon in cell("svg")] for cell in row.summary(class_="ctd-cell")
    }
    assert cells == {"<b>&": ["reproduced"], "who (some)": ["contradicted"]}
    rules = [item.get_text() for item in row.select("li")]
    assert "balanced LAS of mechanistic minus CoT is above 0 (bound 0.02)" in rules
    book_row, published = row.select("tbody tr")
    assert "<b>&" in book_row.get_text()
    assert "reproduced" in book_row.get_text()
    assert "a-long-name" in published.get_text()
    assert published.wbr
    assert row.select_one("a")["href"] == "13_chapter.html#what-it-means"


def test_the_model_that_nobody_trained_leads_the_columns(folder):
    write(folder, "13_chapter", HELD["13_chapter"], dataset="heart-failure", teacher="qwen-1.5b")
    assert ledger_page.models(rows_of(folder)) == ["qwen-1.5b (heart-failure)", "who (some)"]


def test_claims_without_a_run_have_no_link_and_the_grid_no_column(folder):
    page = parsed(ledger_page.table(rows_of(folder, "default")))
    assert page.select("a") == []
    assert page.select("summary .ctd-cell") == []
    assert len(page.select("details")) == len(CLAIMS)


def test_every_icon_of_a_verdict_has_a_shape_of_its_own():
    assert len(set(ledger_page.SHAPES.values())) == len(Verdict)
