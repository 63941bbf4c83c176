"""The log of looks at test documents: what a run adds to it, and that nothing is lost."""

import pandas as pd

from ctd.book import looks, natural_page, published_runs
from ctd.book.results import Row
from ctd.cache import DATA

MANIFEST = {
    "notebook": "notebooks/10_teaching.ipynb", "parameters": {"teacher": "organism", "dataset": "mesh", "seed": 3},
    "start": "2026-11-29T10:00:00+00:00", "commit": "0123456789abcdef",
}  # fmt: skip
ROWS = [
    Row(metric="documents", unit="documents", value=250),
    Row(metric="documents", unit="documents", value=5, dataset="other", teacher="who"),
    Row(metric="exact_match", unit="fraction", value=0.5),
]


def test_a_run_says_whose_test_documents_it_read():
    first, second = looks.of_rows(MANIFEST, ROWS, "big").to_dict("records")
    assert first == {
        "dataset": "mesh", "teacher": "organism", "chapter": "10", "run": "big", "documents": 250, "seed": 3,
        "date": "2026-11-29T10:00:00", "commit": "0123456789ab",
    }  # fmt: skip
    assert (second["dataset"], second["teacher"], second["documents"]) == ("other", "who", 5)


def test_what_reads_no_test_documents_is_no_look():
    validation = MANIFEST | {"parameters": MANIFEST["parameters"] | {"split": "validation"}}
    assert looks.of_rows(validation, ROWS, "big").empty
    assert looks.of_rows(MANIFEST | {"notebook": "notebooks/17_claims.ipynb"}, ROWS, "big").empty
    assert looks.of_rows(MANIFEST, ROWS[2:], "big").empty


def test_a_log_is_appended_to_and_a_look_is_counted_once(tmp_path):
    log_file, run_log = tmp_path / "looks.csv", tmp_path / "runs" / "10_teaching" / "smoke" / "looks.csv"
    looks.append(looks.of_rows(MANIFEST, ROWS, "big"), log_file)
    looks.append(looks.of_rows(MANIFEST, ROWS, "big"), log_file)
    assert len(looks.read(log_file)) == 2
    for hour in ("11", "12"):
        again = MANIFEST | {"start": f"2026-11-29T{hour}:00:00+00:00"}
        looks.append(looks.of_rows(again, ROWS[:1], "10_teaching/smoke"), run_log.with_suffix(".new"), before=run_log)
        run_log.with_suffix(".new").rename(run_log)
    assert looks.read(run_log)["date"].tolist() == ["2026-11-29T11:00:00", "2026-11-29T12:00:00"]
    log = looks.every(log_file, tmp_path / "runs")
    assert log[log["dataset"] == "mesh"]["look"].tolist() == [1, 2, 3]
    counted = looks.counts(log).set_index("dataset")
    assert counted.loc["mesh", ["looks", "runs"]].tolist() == [3, 2]
    assert looks.every(tmp_path / "none.csv", tmp_path).empty


def test_every_published_run_that_read_test_documents_is_in_the_log_once_and_a_run_that_was_replaced_stays_there():
    log = looks.read(DATA / looks.FILE)
    assert not log.duplicated().any()
    newest = log.groupby("run")["date"].transform("max")
    log = log[(log["date"] == newest) & (log["chapter"] != natural_page.PAGE)]
    seen = pd.concat([looks.of_run(run, run.path.name) for run in published_runs.of()])
    key = ["dataset", "teacher", "chapter", "run", "documents", "seed", "date"]
    assert set(seen[key].itertuples(index=False, name=None)) == set(log[key].itertuples(index=False, name=None))
