"""Rows: one schema, found again by their identity, filtered and read back as they were written."""

import json

import pandas as pd
import pytest
from pydantic import ValidationError

from ctd.book import results
from ctd.book.results import Row
from ctd.mechanism.phases import Phase

OVER = {"interval_over": "documents", "interval_method": "BCa", "n": 80}


def row(metric="recall", value=0.5, unit="fraction", **fields):
    return Row(metric=metric, value=value, unit=unit, **fields)


ROWS = [
    row(k=5, method="BM25", interval=(0.25, 0.75), **OVER),
    row(k=5, method="BM25", interval=(0.4, 0.6), **{**OVER, "interval_over": "seeds", "n": 3}),
    row(k=100, method="minilm"),
    row("patching_effect", -1.0, "nats", phase=Phase.REFINE, heads="top", n_heads=3),
    row("best_score", "gain", "name"),
    row("yules_q", None, "Q", interval_over="documents"),
]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"value": float("inf")}, "finite"),
        ({"value": True}, "number, text or None"),
        ({"value": [1]}, "number, text or None"),
        ({"metric": ""}, "at least 1 character"),
        ({"unit": ""}, "at least 1 character"),
        ({"phase": 3}, "phase"),
        ({"budget": "time"}, "'equal_steps' or 'equal_time'"),
        ({"temperature": 1}, "Extra inputs"),
        ({"interval": (0.6, 0.4), **OVER}, "in order"),
        ({"interval": (0.1, float("nan")), **OVER}, "finite"),
        ({"interval": (0.1, 0.2, 0.3), **OVER}, "at most 2"),
        ({"interval": (0.1, 0.9)}, "needs interval_over, interval_method and n"),
        ({"interval": (0.1, 0.9), **OVER, "n": None}, "needs interval_over, interval_method and n"),
        ({"interval": (0.1, 0.9), **OVER, "n": 0}, "greater than or equal to 1"),
        ({"interval": (0.1, 0.9), **OVER, "interval_over": "days"}, "interval_over"),
        ({"interval_over": "documents"}, "there is none"),
        ({"interval_method": "BCa"}, "there is none"),
    ],
)
def test_a_row_that_is_not_whole_is_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        row(**fields)


def test_identity_is_all_but_the_number():
    first, seeds, other = ROWS[:3]
    assert first.identity == row(value=0.1, k=5, method="BM25", interval=(0, 1), **{**OVER, "n": 7}).identity
    assert (
        len({first.identity, seeds.identity, other.identity, row(unit="percent", k=100, method="minilm").identity}) == 4
    )


def test_labels_say_what_a_row_says():
    assert [result.label for result in ROWS] == [
        "recall@5 (method=BM25)", "recall@5 (method=BM25, over seeds)", "recall@100 (method=minilm)",
        "patching_effect (phase=2, heads=top, n_heads=3)", "best_score", "yules_q",
    ]  # fmt: skip


def test_rows_are_read_as_they_were_written_a_line_each(tmp_path):
    path = tmp_path / "results.json"
    results.write(ROWS, path, figures=["a"], gpu=None)
    assert results.read(path) == ROWS
    assert json.loads(path.read_text())["figures"] == ["a"]
    assert sum('"metric"' in line for line in path.read_text().splitlines()) == len(ROWS)
    results.write([], path)
    assert results.read(path) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", r"is not JSON .*; run the notebook again with --force"),
        (
            '{"results": []}',
            r"has results of schema 1, and this ctd reads schema 2: run the notebook again with --force",
        ),
        ('{"schema": 3, "rows": []}', r"has results of schema 3, and this ctd reads schema 2"),
        ('{"schema": 2, "rows": [{"metric": "a"}]}', r"is not whole \(unit: Field required\); run the notebook again"),
        ('{"schema": 2, "rows": 5}', r"is not whole \(TypeError"),
    ],
)
def test_another_file_is_refused_in_one_line_that_says_how_to_mend_it(tmp_path, content, complaint):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=complaint) as raised:
        results.read(tmp_path / "results.json")
    assert "\n" not in str(raised.value)


def test_a_table_of_rows_is_filtered_by_what_they_say():
    table = results.frame(ROWS)
    assert list(table) == list(results.COLUMNS)
    assert table["low"].tolist() == [0.25, 0.4, None, None, None, None]
    assert results.select(table, metric="recall", k=[5, 7])["n"].tolist() == [80, 3]
    assert results.select(table, k=5, interval_over="seeds")["value"].tolist() == [0.5]
    assert results.select(table, k=None)["metric"].tolist() == ["patching_effect", "best_score", "yules_q"]
    assert results.select(table, phase=2).index.tolist() == [3]
    assert results.measures(table).tolist()[:4] == ["recall@5", "recall@5", "recall@100", "patching_effect"]
    assert results.named(table, "metric", "method", by="/").tolist()[2:4] == ["recall/minilm", "patching_effect"]
    assert results.frame([]).empty
    assert results.select(results.frame([]), k=5).empty


def test_a_table_is_a_pivot_of_rows():
    wide = results.select(results.frame(ROWS), metric="recall", interval_over=["documents", None])
    shaped = wide.dropna(subset="k").pivot(index="method", columns="k", values="value")
    assert isinstance(shaped, pd.DataFrame)
    assert shaped.loc["minilm", 100] == 0.5
