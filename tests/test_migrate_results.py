"""Results of schema 1 become rows: every kind of name, with nothing lost."""

import importlib.util
import json

import pytest

from ctd.book import results
from ctd.cache import ROOT

spec = importlib.util.spec_from_file_location("migrate_results", ROOT / "scripts" / "migrate_results.py")
migrate_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migrate_results)

PARAMETERS = {
    "teacher": "organism", "encoder": "wordllama", "cutoff": 5, "metric": "nDCG", "n_seeds": 3, "n_test": 24,
    "square_bin": 1,
}  # fmt: skip


def migrated(chapter, name, value=0.5, unit="fraction", interval=(0.25, 0.75), beside=()):
    content = {"results": [{"name": name, "value": value, "unit": unit, "interval": interval}, *beside]}
    manifest = {"notebook": f"notebooks/{chapter}_x.ipynb", "parameters": PARAMETERS}
    plain = migrate_results.migrate(content, manifest)[name].plain()
    return {key: entry for key, entry in plain.items() if key not in ("value", "unit", "interval", "n")}


OVER = {"interval_over": "documents", "interval_method": "BCa"}


@pytest.mark.parametrize(
    ("chapter", "name", "row"),
    [
        ("00", "tail/mesh", {"metric": "tail_share", "dataset": "mesh"}),
        ("01", "recall@100/BM25", {"metric": "recall", "k": 100, "method": "BM25"}),
        ("01", "unscored_too/P@1/BM25", {"metric": "precision", "k": 1, "method": "BM25", "label_set": "all"}),
        ("01", "oracle_ndcg@5/100/BM25", {"metric": "oracle_ndcg", "k": 5, "shortlist_size": 100, "method": "BM25"}),
        ("01", "setmm/recall@5/BM25", {"metric": "recall", "k": 5, "method": "BM25", "dataset": "setmm"}),
        (
            "01", "recall@100/depth depth 0/BM25",
            {"metric": "recall", "k": 100, "method": "BM25", "group_by": "depth", "group": "depth 0"},
        ),
        ("02", "nDCG@5/organism, answer", {"metric": "ndcg", "k": 5, "method": "organism", "mode": "answer"}),
        ("02", "nDCG@5/zero-shot", {"metric": "ndcg", "k": 5, "method": "organism", "mode": "zero-shot"}),
        ("02", "focus/0.1/organism", {"metric": "focus", "t": 0.1}),
        ("02", "focus/0.1/lines shuffled", {"metric": "focus", "t": 0.1, "control": "lines shuffled"}),
        ("02", "contrast above shuffled/focus",
         {"metric": "phase_contrast", "readout": "focus", "baseline": "lines shuffled"}),
        ("03", "gain/own", {"metric": "ndcg", "k": 5, "shortlist": "own", "refinement": "own", "baseline": "none"}),
        ("05", "RefineScore/layer 3 head 4", {"metric": "head_score", "score": "RefineScore", "layer": 3, "head": 4}),
        ("07", "phase2/gain/precision", {"metric": "precision", "phase": 2, "score": "gain"}),
        ("07", "lost/planted, phase1/anchor",
         {"metric": "patching_effect", "intervention": "noising", "readout": "anchor", "heads": "planted", "phase": 1}),
        ("08", "mesh, organism (second)/lost without Phase 2",
         {"metric": "ndcg", "k": 5, "dataset": "mesh", "teacher": "organism", "study": "second", "effect": "lost",
          "phase": 2}),
        ("10", "equal time/mechanistic - cot/exact",
         {"metric": "exact_match", "arm": "mechanistic", "baseline": "cot", "budget": "equal_time"}),
        ("10", "exact/cot, equal time", {"metric": "exact_match", "arm": "cot", "budget": "equal_time"}),
        ("10", "gain in nDCG with 64 traces/mechanistic - cot",
         {"metric": "ndcg", "k": 5, "traces": 64, "arm": "mechanistic", "baseline": "cot"}),
        ("12", "gap, not leaking/cot",
         {"metric": "las_gap", "group_by": "leakage", "group": "not leaking", "arm": "cot"}),
    ],
)  # fmt: skip
def test_a_name_becomes_dimensions(chapter, name, row):
    assert migrated(chapter, name) == row | OVER


def test_intervals_say_what_they_are_over_and_how_they_were_made():
    assert migrated("04", "depth of the top/gain")["interval_method"] == "percentile"
    assert migrated("04", "rank stability/gain")["interval_over"] == "resampled rankings"
    seeds = migrated("11", "cot - full/exact, over seeds")
    assert (seeds["interval_over"], seeds["interval_method"]) == ("seeds", "Student's t")
    assert migrated("11", "cot - full/exact") | {"interval_over": "seeds", "interval_method": "Student's t"} == seeds
    assert "interval_over" not in migrated("13", "verdict/las/a-run", "partly", "verdict", None)


def test_the_bins_of_written_text_are_counted_in_heads():
    patched = [
        {"name": f"noising/anchor/Phase 1, top/{n}", "value": 1.0, "unit": "nats", "interval": None} for n in (1, 12)
    ]
    name = "focus, Phase 1, noising/random heads/0.3333"
    beside = [*patched, {"name": "focus, Phase 1, noising/heads of the phase/0.3333"}]
    counts = migrate_results.head_counts({one["name"]: one for one in beside}, PARAMETERS)
    row = migrate_results.chapter_06(name, counts)
    assert row == {"metric": "focus", "phase": 1, "intervention": "noising", "heads": "random", "n_heads": 12}


def test_golden_results_keep_value_and_tolerance():
    rows = {"a": results.Row(metric="recall", k=5, unit="fraction", value=0.1)}
    assert migrate_results.migrate_golden({"a": {"value": 0.5, "tolerance": 0.25}}, rows) == [
        {"metric": "recall", "unit": "fraction", "k": 5, "value": 0.5, "tolerance": 0.25}
    ]


def test_what_comes_with_the_book_is_migrated(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "11_ablations" / "smoke"
    kept = tmp_path / "results" / "one"
    golden = tmp_path / "golden"
    for folder in (run, kept, golden):
        folder.mkdir(parents=True)
    old = {"results": [{"name": "exact/cot", "value": 0.5, "unit": "fraction", "interval": [0.25, 0.75]}]}
    manifest = {"notebook": "notebooks/11_ablations.ipynb", "parameters": PARAMETERS}
    for folder in (run, kept):
        (folder / "results.json").write_text(json.dumps(old | {"figures": [], "gpu": None, "peak_memory_mib": 1.0}))
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (golden / "11_ablations.smoke.json").write_text(json.dumps({"exact/cot": {"value": 0.5, "tolerance": 0.01}}))
    monkeypatch.setattr(migrate_results, "DATA", tmp_path)
    migrate_results.main(tmp_path / "runs")
    (row,) = results.read(kept / "results.json")
    assert (row.metric, row.arm, row.value, row.interval, row.n) == ("exact_match", "cot", 0.5, (0.25, 0.75), 24)
    (entry,) = json.loads((golden / "11_ablations.smoke.json").read_text())
    assert (entry["metric"], entry["tolerance"], entry["interval_over"]) == ("exact_match", 0.01, "documents")
