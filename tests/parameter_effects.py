"""What each parameter of each notebook changes in its results: another value, and the rows that it must move.

Notes: `tests/test_parameter_effects.py` runs the notebooks on small settings and holds them against this table. A
parameter that moves no row, for it only changes what is shown, says what it changes there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Effect:
    """What changing a parameter does. One of moves, adds, removes and shows is given.

    change: the other value, with what it needs beside it.
    moves: columns of rows; such a row that both runs have must have another value.
    adds: columns of rows; the changed run must have such a row that the other has not.
    removes: the other way round.
    shows: something counted or found in what the cells show; it must differ.
    base: what both runs have besides the chapter's small setting.
    quick: whether `make test` tries it; the others wait for `make test-all`.
    """

    change: dict[str, Any]
    moves: dict[str, Any] = field(default_factory=dict)
    adds: dict[str, Any] = field(default_factory=dict)
    removes: dict[str, Any] = field(default_factory=dict)
    shows: Callable[[list[str]], object] | None = None
    base: dict[str, Any] = field(default_factory=dict)
    quick: bool = False


def moves(change, base=None, quick=False, **columns):
    return Effect(change, moves=columns, base=base or {}, quick=quick)


def adds(change, base=None, quick=False, **columns):
    return Effect(change, adds=columns, base=base or {}, quick=quick)


def removes(change, base=None, quick=False, **columns):
    return Effect(change, removes=columns, base=base or {}, quick=quick)


def shows(change, read, base=None, quick=False):
    return Effect(change, shows=read, base=base or {}, quick=quick)


def table_rows(shown):
    """How many rows all tables have."""
    return sum(text.count("<tr") for text in shown)


def claim_worked_through(shown):
    """The claim that the ledger works through."""
    return re.findall(r"\*\*(.+)\.\*\* Reproduced, if", "\n".join(shown))


def profile_timed(shown):
    """Whose runs chapter 16 times."""
    return re.findall(r"under the profile `(\w+)`", "\n".join(shown))


ORGANISM = {"dataset": "organism", "teacher": "organism", "encoder": "wordllama", "n_documents": 12, "max_tokens": 320}
HEADS = {**ORGANISM, "n_clusters": 0, "topic_depth": 2}
STUDENTS = {"layers": 5, "n_traces": 8, "n_steps": 2, "n_test": 10, "n_seeds": 1}
SMALL: dict[str, dict[str, Any]] = {
    "00_label_spaces": {"tasks": ["heart-failure"], "encoder": "wordllama", "n_clusters": 4},
    "01_retrieval_shortlists": {
        "dataset": "setmm-slice", "second_dataset": "none", "encoder": "wordllama", "n_documents": 60,
        "ks": [5, 50, 500], "k_fail": 50, "n_labels": 3000,
    },
    "02_reasoning_trajectories": {**HEADS, "modes": ["answer"]},
    "03_shortlist_isolation": ORGANISM,
    "04_coarse_heads": {**HEADS, "n_top": 6},
    "05_refinement_heads": {**HEADS, "n_top": 6},
    "06_activation_patching": {**HEADS, "n_scored": 4, "n_patched": 3, "n_written": 1, "n_random": 2},
    "07_do_the_instruments_work": {
        "n_documents": 8, "n_patched": 2, "n_random": 3, "n_blank": 0, "others": ["organism-late"],
    },
    "08_complementarity": {**HEADS, "second_dataset": "none", "n_scored": 4, "n_patched": 3, "n_written": 0},
    "09_standard_distillation": STUDENTS,
    "10_mechanistic_distillation": STUDENTS,
    "11_learning_curve": {**STUDENTS, "n_traces": [8]},
    "12_ablations": {**STUDENTS, "tried": ["without 1"]},
    "13_simulatability": STUDENTS,
    "14_baselines": {**STUDENTS, "arms": ["mechanistic"]},
    "15_what_else_changes": {**STUDENTS, "arms": ["mechanistic"], "drawn": [3, 2]},
    "16_performance": {},
    "17_claims": {},
}  # fmt: skip
"""The small setting of each notebook, on top of its smoke profile."""

# Files that the tests write: in a and b a label's words stand in the text; c and d are vignettes of the organism.
CLUSTERED = {"n_clusters": 8, "topic_depth": 0}
A = {"dataset": "records", "source": "a.jsonl"}
C = {"dataset": "records", "source": "c.jsonl", **CLUSTERED}
SHORT_A = {**A, "max_tokens": 60, "cutoff": 1}
TITLES = {"columns": ["title", "labels"]}


def columns(base, other, **row):
    """The effects of the two parameters that say where one's own data are."""
    return {
        "source": moves({"source": other}, base, **row),
        "columns": moves(TITLES, base, **row),
    }


def reasoning(**row):
    """The effects of what a teacher reads and writes, on such a row."""
    return {
        "dataset": moves({"dataset": "vignettes"}, **row),
        "teacher": moves({"teacher": "organism-planted"}, **row),
        "document_tokens": moves({"document_tokens": 30}, **row),
        "n_documents": moves({"n_documents": 10}, **row),
        "seed": moves({"seed": 5}, **row),
    }


def heads(**row):
    """The effects of what heads are scored on, on such a row."""
    return {
        **reasoning(**row),
        **columns({**C, "n_documents": 60, "n_scored": 12}, "d.jsonl", **row),
        "max_tokens": moves({"max_tokens": 130}, **row),
        "n_scored": moves({"n_scored": 5}, **row),
        "encoder": moves({"encoder": "minilm"}, CLUSTERED, **row),
        "n_clusters": moves(CLUSTERED, **row),
        "topic_depth": moves({"topic_depth": 0}, **row),
        "n_topics": moves({"n_topics": 1}, **row),
    }


def students(base, **row):
    """The effects of what students are and learn, on such a row."""
    return {
        **{name: effect for name, effect in reasoning(**row).items() if name != "n_documents"},
        **columns({**base, "n_traces": 30}, "d.jsonl", **row),
        "max_tokens": moves({"max_tokens": 150}, **row),
        "layers": moves({"layers": 4}, **row),
        "n_traces": moves({"n_traces": 9}, **row),
        "n_steps": moves({"n_steps": 3}, **row),
        "batch_tokens": moves({"batch_tokens": 600}, **row),
        "learning_rate": moves({"learning_rate": 0.01}, **row),
        "n_seeds": moves({"n_seeds": 2}, {"batch_tokens": 600}, **row),  # several batches: the seed orders them
        "patience": moves({"patience": 1}, {"n_steps": 6, "learning_rate": 0.1}, **row),  # the loss rises
        "n_test": moves({"n_test": 11}, metric="token_probability"),
    }


def mechanism(**row):
    """The effects of what students learn from heads, on such a row."""
    return {
        **students(C, **row),
        "encoder": moves({"encoder": "minilm"}, {**CLUSTERED, "n_heads": 12}, **row),
        "n_clusters": moves(CLUSTERED, **row),
        "topic_depth": moves({"topic_depth": 0}, **row),
        "n_heads": moves({"n_heads": 2}, **row),
        "matching": moves({"matching": "score"}, **row),
        "loss_forms": moves({"loss_forms": "mended"}, **row),
        "weights": moves({"weights": [0.3, 0.1, 0.1, 1.0, 0.1, 0.1]}, **row),
    }


EFFECTS: dict[str, dict[str, Effect]] = {
    "00_label_spaces": {
        "tasks": adds({"tasks": ["heart-failure", "setmm-slice"]}, metric="tail_share", quick=True),
        "encoder": moves({"encoder": "minilm"}, metric="nearest_near_miss_cosine"),
        "n_clusters": moves({"n_clusters": 2}, {"tasks": ["mesh"]}, metric="anchors"),
        "n_near_misses": moves({"n_near_misses": 2}, metric="nearest_near_miss_cosine", quick=True),
        "n_examples": shows({"n_examples": 2}, table_rows, quick=True),
        "seed": moves({"seed": 5}, metric="nearest_near_miss_cosine"),
    },
    "01_retrieval_shortlists": {
        "dataset": moves({"dataset": "heart-failure", "ks": [5, 50]}, metric="recall", k=50, method="BM25"),
        **columns({**A, "ks": [1, 2], "k_fail": 2, "cutoff": 1}, "b.jsonl", metric="recall", k=1, method="BM25"),
        "second_dataset": adds({"second_dataset": "heart-failure"}, metric="recall", dataset="icd10cm-heart-failure"),
        "n_documents": moves({"n_documents": 40}, metric="recall", k=50, method="BM25"),
        "n_labels": moves({"n_labels": 1000}, metric="recall", k=50, method="BM25", quick=True),
        "encoder": adds({"encoder": "minilm"}, {"n_labels": 300, "ks": [5, 50]}, metric="recall", method="minilm"),
        "index_kind": moves({"index_kind": "ivfpq"}, metric="recall", method="wordllama"),
        "ks": adds({"ks": [10, 50, 500]}, metric="recall", k=10),
        "k_fail": adds({"k_fail": 100}, metric="near_miss_only", k=100),
        "cutoff": adds({"cutoff": 3}, metric="ndcg", k=3, quick=True),
        "seed": moves({"seed": 5}, metric="recall", k=50, method="BM25"),
    },
    "02_reasoning_trajectories": {
        **reasoning(metric="focus", t=1.0),
        **columns({**SHORT_A, "n_clusters": 2, "topic_depth": 0}, "b.jsonl", metric="ndcg", method="wordllama"),
        "teacher": adds({"teacher": "organism-planted"}, metric="ndcg", method="organism-planted"),
        "max_tokens": moves({"max_tokens": 60}, metric="ndcg", method="organism"),
        "encoder": adds({"encoder": "minilm"}, metric="ndcg", method="minilm"),
        "n_clusters": moves(CLUSTERED, metric="focus", t=1.0),
        "topic_depth": moves({"topic_depth": 0}, metric="focus", t=1.0),
        "n_topics": moves({"n_topics": 1}, metric="focus", t=1.0),
        "n_near_misses": moves({"n_near_misses": 2}, metric="confusion", t=1.0, quick=True),
        "modes": adds({"modes": ["candidates"]}, metric="ndcg", mode="candidates"),
        "t_star": moves({"t_star": 0.3}, metric="phase_contrast", quick=True),
        "n_forced": moves({"n_forced": 3}, metric="near_miss_share", t=0.5),
        "cutoff": adds({"cutoff": 1}, metric="ndcg", k=1, method="organism"),
    },
    "03_shortlist_isolation": {
        **reasoning(metric="ndcg", shortlist="own", refinement="own"),
        **columns(SHORT_A, "b.jsonl", metric="ndcg", shortlist="retrieved", refinement="none"),
        "max_tokens": moves({"max_tokens": 60}, metric="ndcg", shortlist="own", refinement="own"),
        "encoder": moves({"encoder": "minilm"}, metric="ndcg", shortlist="retrieved", refinement="none"),
        "shortlist_size": moves({"shortlist_size": 2}, metric="ndcg", shortlist="retrieved", refinement="oracle"),
        "corruption": moves({"corruption": 1.0}, metric="ndcg", shortlist="corrupted", quick=True),
        "n_near_misses": moves({"n_near_misses": 1}, {"shortlist_size": 20}, metric="ndcg", shortlist="oracle"),
        "cutoff": adds({"cutoff": 1}, metric="ndcg", k=1, quick=True),
    },
    "04_coarse_heads": {
        **heads(metric="head_score", heads="top", stage=1),
        "direction": moves({"direction": "mentions"}, metric="head_score", heads="top", stage=1, quick=True),
        "n_top": moves({"n_top": 4}, metric="mean_depth", score="CoarseScore", quick=True),
        "n_effects": removes({"n_effects": 0}, metric="mean_depth", score="effect on the anchor"),
    },
    "05_refinement_heads": {
        **heads(metric="head_score", score="RefineScore", heads="top"),
        # topics move what these heads are compared with
        "encoder": moves({"encoder": "minilm"}, CLUSTERED, metric="kendall_tau", score="CoarseScore"),
        "n_clusters": moves(CLUSTERED, metric="kendall_tau", score="CoarseScore"),
        "topic_depth": moves({"topic_depth": 0}, metric="kendall_tau", score="CoarseScore"),
        "n_topics": moves({"n_topics": 1}, metric="kendall_tau", score="CoarseScore"),
        "decides": moves({"decides": "gold"}, metric="head_score", score="RefineScore", heads="top", quick=True),
        "n_top": moves({"n_top": 4}, metric="mean_depth", score="RefineScore", quick=True),
        "n_effects": removes({"n_effects": 0}, metric="mean_depth", score="effect on the margin"),
    },
    "06_activation_patching": {
        **heads(metric="patching_effect", intervention="noising", heads="top"),
        "dataset": moves(
            {"dataset": "vignettes"}, {"n_documents": 60, "n_scored": 30}, metric="patching_effect", heads="top"
        ),
        "encoder": moves({"encoder": "minilm"}, metric="focus"),
        "decides": moves({"decides": "gold"}, metric="patching_effect", readout="margin"),
        "direction": moves({"direction": "mentions"}, metric="patching_effect", heads="top", phase=1),
        "n_patched": moves({"n_patched": 2}, metric="patching_effect", intervention="noising", heads="top"),
        "n_written": moves({"n_written": 2}, metric="focus"),
        "what": moves({"what": "output"}, metric="patching_effect", intervention="denoising", heads="top", quick=True),
        "noise": moves({"noise": "uniform"}, metric="patching_effect", intervention="noising", heads="top"),
        "text_corruption": moves({"text_corruption": "anchors"}, metric="corruption_effect"),
        "queries": moves({"queries": "all"}, metric="patching_effect", heads="top", phase=1, readout="margin"),
        "n_random": moves({"n_random": 4}, metric="patching_effect", heads="random"),
        "largest_bin": adds({"largest_bin": 0.12}, metric="patching_effect", n_heads=4),
        "n_near_misses": moves({"n_near_misses": 1}, metric="confusion"),
    },
    "07_do_the_instruments_work": {
        "teacher": moves({"teacher": "small-planted"}, metric="auroc"),
        "n_documents": moves({"n_documents": 9}, metric="auroc"),
        "n_patched": moves({"n_patched": 3}, metric="auroc", score="patching one head"),
        "n_random": moves({"n_random": 9}, metric="random_percentile"),
        "n_blank": adds({"n_blank": 1}, metric="false_positive_share", item="patching"),
        "others": adds({"others": ["organism-swapped"]}, metric="auroc", teacher="organism-swapped", quick=True),
        "direction": moves({"direction": "mentions"}, metric="auroc", score="CoarseScore", quick=True),
        "noise": moves({"noise": "gaussian"}, metric="auroc", score="patching one head", quick=True),
        "seed": moves({"seed": 5}, metric="random_99th_percentile"),
    },
    "08_complementarity": {
        "dataset": adds(
            {"dataset": "vignettes"}, {"n_documents": 60, "n_scored": 30}, metric="ndcg", dataset="vignettes"
        ),
        **columns(
            {**SHORT_A, "n_clusters": 2, "topic_depth": 0, "n_patched": 0}, "b.jsonl",
            metric="ndcg", shortlist="retrieved", refinement="none",
        ),
        "teacher": adds({"teacher": "organism-planted"}, metric="ndcg", teacher="organism-planted"),
        "n_clusters": moves(CLUSTERED, metric="patching_effect"),
        "topic_depth": moves({"topic_depth": 0}, metric="patching_effect"),
        "second_dataset": adds({"second_dataset": "organism"}, metric="ndcg", study="second"),
        "second_teacher": adds(
            {"second_teacher": "organism-planted"}, {"second_dataset": "organism"},
            metric="ndcg", study="second", teacher="organism-planted",
        ),
        "second_topic_depth": moves(
            {"second_topic_depth": 1}, {"second_dataset": "organism"}, metric="patching_effect", study="second"
        ),
        "n_documents": moves({"n_documents": 10}, metric="ndcg", shortlist="own", refinement="own"),
        "document_tokens": moves({"document_tokens": 30}, metric="ndcg", shortlist="own", refinement="own"),
        "max_tokens": moves({"max_tokens": 130}, metric="ndcg", shortlist="own", refinement="own"),
        "encoder": moves({"encoder": "minilm"}, metric="ndcg", shortlist="retrieved", refinement="none"),
        "shortlist_size": moves({"shortlist_size": 2}, metric="ndcg", shortlist="retrieved", refinement="oracle"),
        "corruption": moves({"corruption": 1.0}, metric="ndcg", shortlist="corrupted"),
        "n_near_misses": moves({"n_near_misses": 1}, {"shortlist_size": 20}, metric="ndcg", shortlist="oracle"),
        "absent": moves({"absent": "corrupted"}, metric="ndcg", effect="shapley_share", quick=True),
        "metric": adds({"metric": "PSP"}, metric="psp", effect="shapley_share"),
        "cutoff": adds({"cutoff": 1}, metric="ndcg", k=1),
        "n_scored": moves({"n_scored": 5}, metric="patching_effect"),
        "n_patched": moves({"n_patched": 2}, metric="patching_effect"),
        "n_written": adds({"n_written": 2}, metric="patching_effect", readout="focus"),
        "heads_bin": moves({"heads_bin": 1}, metric="patching_effect", quick=True),
        "seed": moves({"seed": 5}, metric="ndcg", shortlist="own", refinement="own"),
    },
    "09_standard_distillation": {
        **students({**A, "source": "c.jsonl"}, metric="final_loss", arm="cot"),
        "encoder": adds({"encoder": "minilm"}, metric="ndcg", method="minilm"),
        "learning_rate": moves({"learning_rate": 0.01}, metric="final_loss", arm="cot", quick=True),
    },
    "10_mechanistic_distillation": {
        **mechanism(metric="final_loss", arm="mechanistic"),
        "baselines": removes({"baselines": ["cot"]}, metric="final_loss", arm="answer", quick=True),
        "base_losses": adds({"base_losses": ["rkl"]}, metric="ndcg", arm="rkl + mechanistic"),
        "time_factors": moves({"time_factors": [2.0]}, metric="final_loss", arm="cot", budget="equal_time"),
    },
    "11_learning_curve": {
        **mechanism(metric="final_loss", arm="mechanistic"),
        "dataset": adds({"dataset": "vignettes"}, metric="final_loss", arm="mechanistic", traces=6),  # 2 have no phases
        **columns({**C, "n_traces": [30]}, "d.jsonl", metric="final_loss", arm="mechanistic"),
        "n_test": moves({"n_test": 11}, metric="ndcg", traces=8),
        "n_traces": adds({"n_traces": [8, 6]}, metric="ndcg", arm="mechanistic", traces=6, quick=True),
        "draw_per_seed": moves({"draw_per_seed": True}, {"n_seeds": 2}, metric="final_loss", arm="mechanistic"),
    },
    "12_ablations": {
        **mechanism(metric="final_loss", arm="full"),
        "split": moves({"split": "validation"}, metric="token_probability", arm="full"),
        "tried": adds({"tried": ["without loop2"]}, metric="ndcg", arm="without loop2", quick=True),
    },
    "13_simulatability": {
        **mechanism(metric="final_loss", arm="mechanistic"),
        "patience": moves(  # at a rate at which students still answer
            {"patience": 1}, {"n_steps": 12, "learning_rate": 0.03}, metric="final_loss", arm="mechanistic"
        ),
        "n_test": moves({"n_test": 11}, metric="items"),
        "terms": adds({"terms": ["loop2"]}, metric="las", arm="without loop2"),
        "n_retrieved": moves({"n_retrieved": 8}, metric="items", quick=True),
        "which": moves({"which": "first"}, metric="items"),
    },
    "14_baselines": {
        **mechanism(metric="final_loss", arm="mechanistic"),
        "arms": adds({"arms": ["mechanistic", "retrieval"]}, metric="ndcg", arm="retrieval", quick=True),
        "rate_factors": adds({"rate_factors": [1, 2]}, metric="validation_ndcg", arm="mechanistic"),
    },
    "15_what_else_changes": {
        **mechanism(metric="final_loss", arm="mechanistic"),
        "n_test": moves({"n_test": 11}, metric="brier"),
        "arms": adds({"arms": ["mechanistic", "fkl"]}, metric="ece", arm="fkl", quick=True),
        "drawn": moves({"drawn": [3, 3]}, metric="embedding_distance", quick=True),
        "chain_factors": adds({"chain_factors": [1, 3]}, metric="chain_loss", item="taught by the truth, 6 steps"),
    },
    "16_performance": {
        "sizes": adds({"sizes": [300, 3001]}, metric="recall", item="3001 labels"),
        "n_queries": moves({"n_queries": 9}, metric="queries", quick=True),
        "k": adds({"k": 11}, metric="recall", k=11),
        "profile": shows({"profile": "full"}, profile_timed),
        "seed": moves({"seed": 1}, metric="cosine"),
    },
    "17_claims": {
        "profile": moves({"profile": "full"}, metric="verdict", quick=True),
        "seed": shows({"seed": 5}, claim_worked_through, quick=True),
    },
}  # fmt: skip
"""By the notebook and the parameter."""
