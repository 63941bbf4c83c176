"""Turn results that were addressed by name (schema 1) into rows (schema 2): `python scripts/migrate_results.py RUNS`.

RUNS: the folder with the smoke runs of schema 1, from which golden results take their units.
Migrated are `data/results/*/results.json` and `data/golden/*.json`. Values, intervals and tolerances stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctd.book import results
from ctd.book.results import Row
from ctd.cache import DATA

Fields = dict[str, Any]

MEASURES: dict[str, Fields] = {
    "exact": {"metric": "exact_match"},
    "nDCG": {"metric": "ndcg", "k": 5},
    "shortlist recall": {"metric": "shortlist_recall"},
    "word probability": {"metric": "token_probability"},
    "tokens": {"metric": "tokens"},
}
ANSWERS = {"P": "precision", "nDCG": "ndcg", "PSP": "psp", "micro F1": "micro_f1", "macro F1": "macro_f1"}
MEASURED = "documents"  # most intervals are over documents


def migrate(content: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of a `results.json` of schema 1, by the names that they had.

    manifest: that of the run.
    """
    chapter = Path(manifest["notebook"]).stem[:2]
    parameters = {**manifest["parameters"], "chapter": chapter}
    named = {result["name"]: result for result in content["results"]}
    if chapter == "06":
        parameters |= head_counts(named, parameters)
    return {name: row(result, chapter, parameters, named) for name, result in named.items()}


def row(result: Mapping[str, Any], chapter: str, parameters: Mapping[str, Any], named: Mapping[str, Any]) -> Row:
    """One result as a row. named: all results of the run."""
    name, seeds = split_seeds(result["name"])
    fields = CHAPTERS[chapter](name, parameters)
    unit = "fraction" if result["unit"].startswith(("nDCG", "PSP")) else result["unit"]
    fields |= {"value": result["value"], "unit": unit}
    if result["value"] is None:
        fields["interval_over"] = interval_over(name)  # nothing to measure, as Yule's Q of no errors
    if result["interval"] is not None:
        documents = named["documents"]["value"] if "documents" in named else parameters.get("n_test", 1)
        fields |= {
            "interval": tuple(result["interval"]),
            "interval_over": "seeds" if seeds else interval_over(name),
            "interval_method": method(name, seeds),
            "n": parameters["n_seeds"] if seeds else documents,
        }
    return Row.model_validate(fields)


def migrate_golden(golden: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Golden results of schema 1 as a list of identity, value and tolerance.

    rows: those of a run under the same profile (`migrate`), by name; they say in what unit a number is.
    """
    entries = []
    for name, entry in golden.items():
        plain = rows[name].plain()
        key = {field: plain[field] for field in results.IDENTITY if field in plain}
        entries.append(key | {"value": entry["value"], "tolerance": entry["tolerance"]})
    return entries


def head_counts(named: Mapping[str, Any], parameters: Mapping[str, Any]) -> Fields:
    """Chapter 06: how many heads the model has, and how many the square of the double dissociation is about."""
    patched = [name.split("/") for name in named if name.startswith("noising/")]
    sizes = sorted({int(parts[3]) for parts in patched})
    shares = [float(name.rpartition("/")[2]) for name in named if "/heads of the phase/" in name]
    all_heads = round(sizes[-1] / max(shares)) if shares else 0
    return {"square_heads": sizes[parameters["square_bin"] - 1], "all_heads": all_heads}


def split_seeds(name: str) -> tuple[str, bool]:
    return name.removesuffix(", over seeds"), name.endswith(", over seeds")


def interval_over(name: str) -> str:
    if name.startswith("rank stability/"):
        return "resampled rankings"
    return "subsets of documents" if name.endswith("AUROC from one document") else MEASURED


def method(name: str, seeds: bool) -> str:
    if seeds:
        return "Student's t"
    percentile = name.startswith(("depth of the top/", "rank stability/", "t*/detected", "macro F1/", "distance in "))
    return "percentile" if percentile or "/AUROC" in name else "BCa"


def answered(metric: str) -> Fields:
    """ "P@5" as metric and k."""
    name, _, k = metric.partition("@")
    return {"metric": ANSWERS.get(name, name)} | ({"k": int(k)} if k else {})


def chapter_00(name: str, parameters: Mapping[str, Any]) -> Fields:
    metric, _, dataset = name.partition("/")
    metric = {
        "tail": "tail_share", "nearest_near_miss": "nearest_near_miss_cosine",
        "heart_failure_labels": "closed_set_labels", "heart_failure_exclusions": "closed_set_exclusions",
    }.get(metric, metric)  # fmt: skip
    return {"metric": metric} | ({"dataset": dataset} if dataset else {})


def chapter_01(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if not parts:
        return {"metric": first}
    if first == "unscored_too":
        return answered(parts[0]) | {"method": parts[1], "label_set": "all"}
    if first.startswith("oracle_ndcg@"):
        return answered(first) | {"shortlist_size": int(parts[0]), "method": parts[1]}
    if len(parts) == 2 and parts[0].startswith("recall@"):
        return answered(parts[0]) | {"dataset": first, "method": parts[1]}
    if len(parts) == 2:
        by, _, group = parts[0].partition(" ")
        return answered(first) | {"group_by": by, "group": group, "method": parts[1]}
    return answered(first) | {"method": parts[0]}


def chapter_02(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "written":
        return {"metric": "written", "item": parts[0]}
    if first == "t*":
        return {"metric": "phase_boundary", "method": parts[0]}
    if first.startswith("contrast"):
        beside = {"baseline": "lines shuffled"} if first == "contrast above shuffled" else {}
        return {"metric": "phase_contrast", "readout": parts[0], **beside}
    if first == "two phases show":
        return {"metric": "two_phases_show"}
    if len(parts) == 2:
        control = {} if parts[1] == parameters["teacher"] else {"control": parts[1]}
        return {"metric": first, "t": float(parts[0]), **control}
    if not parts:
        return {"metric": first}
    who, _, mode = parts[0].partition(", ")
    asked = {"method": parameters["teacher"], "mode": who} if who == "zero-shot" else {"method": who}
    asked |= {"mode": mode} if mode else {}
    if first == "beats retrieval and prior":
        return {"metric": "beats_retrieval_and_prior", **asked}
    metric, _, group = first.partition(", ")
    return answered(metric) | ({"group_by": "frequency", "group": group} if group else {}) | asked


def chapter_03(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    ranked = {"metric": "ndcg", "k": parameters["cutoff"]}
    if first == "recall":
        return {"metric": "recall", "method": parts[0]}
    if first == "nDCG":
        return ranked | {"shortlist": parts[0], "refinement": parts[1]}
    if first == "gain":
        return ranked | {"shortlist": parts[0], "refinement": "own", "baseline": "none"}
    if first == "answered from the list":
        return {"metric": "answers_from_shortlist", "shortlist": parts[0]}
    return {"metric": first}


def chapter_04(name: str, parameters: Mapping[str, Any]) -> Fields:
    """Chapter 05 too."""
    first, *parts = name.split("/")
    score = "CoarseScore" if parameters["chapter"] == "04" else "RefineScore"
    if first == "left out":
        return {"metric": "left_out", "item": parts[0]}
    if first == "depth of the top":
        return {"metric": "mean_depth", "score": parts[0], "heads": "top"}
    if first == "rank stability":
        return {"metric": "kendall_tau", "score": parts[0]}
    if first == "course":
        heads = "all" if parts[0] == "all heads" else "top"
        return {"metric": "head_score", "score": score, "heads": heads, "stage": int(parts[1])}
    if parts:
        _, layer, _, head = parts[0].split()
        return {"metric": "head_score", "score": first, "layer": int(layer), "head": int(head)}
    return {"metric": first.replace(" ", "_")}


def chapter_06(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "left out":
        return {"metric": "left_out", "item": parts[0]}
    if first in ("noising", "denoising"):
        moved = {"metric": "patching_effect", "intervention": first, "readout": parts[0], "n_heads": int(parts[2])}
        return moved | kind(parts[1])
    if first == "corruption":
        return {"metric": "corruption_effect", "readout": parts[0]}
    if first == "beyond random":
        beyond = {"metric": "patching_effect", "intervention": "noising", "readout": parts[1], "baseline": "random"}
        return beyond | {"phase": phase(parts[0]), "heads": "top", "n_heads": parameters["square_heads"]}
    if first == "double dissociation":
        return {"metric": "double_dissociation"}
    if parts:
        metric, of, way = first.split(", ")
        heads = "top" if parts[0] == "heads of the phase" else "random"
        number = round(float(parts[1]) * parameters["all_heads"])
        return {"metric": metric, "phase": phase(of), "intervention": way, "heads": heads, "n_heads": number}
    return {"metric": first}


def kind(name: str) -> Fields:
    """ "Phase 1, top" as phase and heads."""
    if name == "random":
        return {"heads": "random"}
    of, _, heads = name.partition(", ")
    return {"phase": phase(of), "heads": heads}


def phase(name: str) -> int:
    return int(name[-1])


def chapter_07(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "left out":
        return {"metric": "left_out", "item": parts[0]}
    if first == "lost":
        of = {"heads": "random"} if parts[0] == "random" else {"heads": "planted", "phase": phase(parts[0])}
        return {"metric": "patching_effect", "intervention": "noising", "readout": parts[1], **of}
    if not parts:
        return {"metric": first}
    if parts[0] == "best score":
        return {"metric": "best_score", "phase": phase(first)}
    score, _, readout = parts[0].partition(" (")  # "patching one head (anchor)"
    of = {"phase": phase(first), "score": score.strip("|")} | ({"readout": readout.strip(")")} if readout else {})
    if parts[1] == "AUROC from one document":
        return {"metric": "auroc", "traces": 1, **of}
    return {"metric": parts[1].lower(), **of}


def chapter_08(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    dataset, _, teacher = first.partition(", ")
    where = {"dataset": dataset, "teacher": teacher.removesuffix(" (second)")}
    where |= {"study": "second"} if teacher.endswith(" (second)") else {}
    ranked = {"metric": parameters["metric"].lower(), "k": parameters["cutoff"], **where}
    if len(parts) == 3:
        by, group, measure = parts
        group_of = {} if by == "all" else {"group_by": by, "group": group}
        if measure in ("phase_1", "phase_2", "both"):
            removed = {"effect": "both"} if measure == "both" else {"effect": "alone", "phase": phase(measure)}
            return {"metric": "errors_removed", **removed, **group_of, **where}
        return {"metric": {"Yule's Q": "yules_q"}.get(measure, measure), **group_of, **where}
    if len(parts) == 2:
        if parts[0] in ("anchor", "margin", "focus", "confusion"):
            cost = {"metric": "patching_effect", "intervention": "noising", "readout": parts[0], "heads": "top"}
            if parts[1] == "beyond adding up":
                return cost | where | {"heads": "both", "effect": "synergy"}
            return cost | where | ({"heads": "both"} if parts[1] == "both" else {"phase": phase(parts[1])})
        if parts[0] in ("shortlist", "refinement"):
            return ranked | {"effect": "main", parts[0]: parts[1]}
        if parts[0] == "interaction":
            shortlist, refinement = parts[1].split(", ")
            return ranked | {"effect": "interaction", "shortlist": shortlist, "refinement": refinement}
        return ranked | {"shortlist": parts[0], "refinement": parts[1]}
    effects: dict[str, Fields] = {
        "neither phase": {"effect": "neither"},
        "both phases": {"effect": "both"},
        "beyond adding up": {"effect": "synergy"},
    }
    for number in (1, 2):
        effects[f"Phase {number} alone"] = {"effect": "alone", "phase": number}
        effects[f"Shapley share of Phase {number}"] = {"effect": "shapley_share", "phase": number}
        effects[f"lost without Phase {number}"] = {"effect": "lost", "phase": number}
    if parts[0] in effects:
        return ranked | effects[parts[0]]
    return {"metric": {"adds up": "additivity"}.get(parts[0], parts[0]), **where}


def chapter_09(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "retrieval":
        return MEASURES[parts[0]] | {"method": parameters["encoder"]}
    if first == "teacher":
        return MEASURES[parts[0]] | {"method": parameters["teacher"]}
    if first == "left out":
        return {"metric": "left_out", "item": parts[0]}
    if first in MEASURES:
        return MEASURES[first] | {"arm": parts[0]}
    costs = {
        "loss at the end": "final_loss", "training": "training_time", "learned from": "training_tokens",
        "an answer": "answer_time",
    }  # fmt: skip
    if first in costs:
        return {"metric": costs[first], "arm": parts[0]}
    if parts:
        of, _, baseline = first.rpartition(" - ")
        return MEASURES[parts[0]] | {"arm": of, "baseline": baseline}
    return {"metric": first}


def chapter_10(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "overhead of a step":
        return {"metric": "step_time_ratio", "arm": "mechanistic", "baseline": "cot"}
    if first.startswith("distance in "):
        return {"metric": "trajectory_distance", "readout": first.removeprefix("distance in "), "arm": parts[0]}
    if first.endswith(" traces"):
        traces = int(first.split()[-2])
        of, _, baseline = parts[0].rpartition(" - ")
        compared = {"arm": of, "baseline": baseline} if baseline and of else {"arm": parts[0]}
        return MEASURES["nDCG"] | {"traces": traces} | compared
    if first in ("equal steps", "equal time"):
        return chapter_09("/".join(parts), parameters) | {"budget": first.replace(" ", "_")}
    fields = chapter_09(name, parameters)
    if "arm" in fields:
        fields["budget"] = "equal_time" if fields["arm"].endswith(", equal time") else "equal_steps"
        fields["arm"] = fields["arm"].removesuffix(", equal time")
    return fields


def chapter_12(name: str, parameters: Mapping[str, Any]) -> Fields:
    first = next((start for start in SIMULATED if name.startswith(f"{start}/")), None)
    if first is None:
        return chapter_09(name, parameters)
    of, _, baseline = name.removeprefix(f"{first}/").rpartition(" - ")
    return SIMULATED[first] | ({"arm": of, "baseline": baseline} if of else {"arm": baseline})


SIMULATED: dict[str, Fields] = {
    "LAS": {"metric": "las"},
    "gap, leaking": {"metric": "las_gap", "group_by": "leakage", "group": "leaking"},
    "gap, not leaking": {"metric": "las_gap", "group_by": "leakage", "group": "not leaking"},
    "sim(x, e)": {"metric": "sim_xe"},
    "sim(x)": {"metric": "sim_x"},
    "sim(e)": {"metric": "sim_e"},
    "items that leak": {"metric": "items", "group_by": "leakage", "group": "leaking"},
    "items that do not": {"metric": "items", "group_by": "leakage", "group": "not leaking"},
}


def chapter_13(name: str, parameters: Mapping[str, Any]) -> Fields:
    first, *parts = name.split("/")
    if first == "claims":
        return {"metric": "claims", "item": parts[0]}
    return {"metric": "verdict", "claim": parts[0]} | ({"published_run": parts[1]} if len(parts) > 1 else {})


CHAPTERS = {
    "00": chapter_00, "01": chapter_01, "02": chapter_02, "03": chapter_03, "04": chapter_04, "05": chapter_04,
    "06": chapter_06, "07": chapter_07, "08": chapter_08, "09": chapter_09, "10": chapter_10, "11": chapter_09,
    "12": chapter_12, "13": chapter_13,
}  # fmt: skip


def main(runs: Path) -> None:
    """Migrate what comes with the book. runs: the smoke runs of schema 1."""
    for folder in sorted((DATA / "results").iterdir()):
        content = results.read_json(folder / results.RESULTS)
        rows = migrate(content, results.read_json(folder / "manifest.json"))
        beside = {name: content[name] for name in ("figures", "peak_memory_mib", "gpu")}
        results.write(rows.values(), folder / results.RESULTS, **beside)
    for path in sorted((DATA / "golden").glob("*.json")):
        run = runs / path.name.split(".")[0] / "smoke"
        rows = migrate(results.read_json(run / results.RESULTS), results.read_json(run / "manifest.json"))
        path.write_text(results.lines(migrate_golden(results.read_json(path), rows)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
