"""The parameters of each chapter: shared groups, and what the chapter adds. A notebook imports its model as `Settings`.

Notes: a test holds the parameters cell of each notebook against its model: names, types, defaults and comments.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ctd.book.settings import (
    MANY,
    ArmName,
    BaseLoss,
    Corruption,
    Cutoff,
    Decides,
    Direction,
    Documents,
    Effects,
    HeadSettings,
    MechanismSettings,
    MethodName,
    NearMisses,
    Noise,
    PathOrName,
    SearchSettings,
    Settings,
    ShortlistSize,
    StudentSettings,
    TaskSettings,
    TeacherSettings,
    TopicDepth,
    Topics,
    TopicSettings,
    TraceCount,
)

OwnTask = Literal["mesh", "setmm", "setmm-slice", "vignettes", "heart-failure"]
Profile = Literal["smoke", "default", "full"]
LEDGER = "17_claims"  # the notebook that reads the results of all others
NEEDS: dict[str, tuple[str, ...]] = {  # what comes before: a notebook writes texts and teaches students that others use
    "02_reasoning_trajectories": (),
    "09_standard_distillation": (),
    "10_mechanistic_distillation": ("09_standard_distillation",),
    "14_baselines": ("10_mechanistic_distillation",),
    "15_what_else_changes": ("10_mechanistic_distillation",),
    "12_ablations": ("10_mechanistic_distillation",),
    "13_simulatability": ("12_ablations",),
    "11_learning_curve": ("10_mechanistic_distillation",),
    "06_activation_patching": ("02_reasoning_trajectories",),
    "03_shortlist_isolation": ("02_reasoning_trajectories",),
    "08_complementarity": ("03_shortlist_isolation",),
    "07_do_the_instruments_work": (),
    "05_refinement_heads": ("02_reasoning_trajectories",),
    "04_coarse_heads": ("02_reasoning_trajectories",),
    "01_retrieval_shortlists": (),
    "00_label_spaces": (),
    "16_performance": (),  # last, for it shows what the others took
}
"""What each notebook needs, in the order in which they begin: those that others wait for, then the longest, first."""
NEEDS[LEDGER] = tuple(NEEDS)


class LabelSpaces(Settings):
    """Chapter 00."""

    tasks: Annotated[list[Literal[OwnTask, "mesh-descriptors"]], Field(description="label spaces to show")] = [
        "mesh", "setmm", "vignettes", "heart-failure",
    ]  # fmt: skip
    encoder: Annotated[Literal["minilm", "wordllama"], Field(description="ranks near misses, groups topics")] = "minilm"
    n_clusters: Annotated[
        int, Field(ge=2, le=5000, description="coarse topics of a label space whose tree has none, such as MeSH")
    ] = 256
    n_near_misses: Annotated[int, Field(ge=1, le=50, description="near misses to show for a document")] = 8
    n_examples: Annotated[int, Field(ge=1, le=20, description="documents on each data card")] = 5
    seed: Annotated[int, Field(ge=0, le=MANY, description="draws the examples and starts the clusters")] = 0


class RetrievalShortlists(TaskSettings, SearchSettings):
    """Chapter 01."""

    second_dataset: Annotated[Literal["none", OwnTask], Field(description="a second task")] = "setmm-slice"
    n_documents: Documents = 20_000
    n_labels: Annotated[
        int, Field(ge=10, le=10_000_000, description="labels at most: the gold ones, and others drawn by seed")
    ] = 3_000_000
    index_kind: Annotated[
        Literal["flat", "hnsw", "ivfpq", "fastscan"], Field(description="exact search (flat), or approximate search")
    ] = "flat"
    ks: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(description="shortlist sizes")] = [
        10, 30, 100, 300, 1000, 3000, 10000,
    ]  # fmt: skip
    k_fail: Annotated[int, Field(ge=1, le=100_000, description="shortlist size at which failures are examined")] = 100
    cutoff: Cutoff = 5


class ReasoningTrajectories(TaskSettings, TeacherSettings, TopicSettings):
    """Chapter 02."""

    n_documents: Documents = 200
    n_topics: Topics = 2
    n_near_misses: NearMisses = 10
    modes: Annotated[
        list[Literal["answer", "candidates", "zero-shot"]], Field(description="other ways of asking, scored too")
    ] = ["answer"]
    t_star: Annotated[float, Field(ge=0.1, le=0.9, description="fixed boundary between phases, as in the paper")] = 0.5
    n_forced: Annotated[int, Field(ge=2, le=MANY, description="documents at most whose answer is forced")] = 12
    cutoff: Cutoff = 5


class ShortlistIsolation(TaskSettings, TeacherSettings):
    """Chapter 03."""

    n_documents: Documents = 200
    shortlist_size: ShortlistSize = 0
    corruption: Corruption = 0.5
    n_near_misses: NearMisses = 10
    cutoff: Cutoff = 5


class CoarseHeads(HeadSettings):
    """Chapter 04."""

    direction: Direction = "unembedding"
    n_top: Annotated[int, Field(ge=3, le=1000, description="heads in the ranking")] = 20
    n_effects: Effects = 8


class RefinementHeads(HeadSettings):
    """Chapter 05."""

    decides: Decides = "answer"
    n_top: Annotated[int, Field(ge=3, le=1000, description="heads in the ranking")] = 20
    n_effects: Effects = 8


class ActivationPatching(HeadSettings):
    """Chapter 06."""

    decides: Decides = "answer"
    direction: Direction = "unembedding"
    n_patched: Annotated[
        int, Field(ge=2, le=MANY, description="documents that heads are patched on, not those that rank them")
    ] = 4
    n_written: Annotated[
        int,
        Field(ge=0, le=MANY, description="documents written anew under each intervention; the ledger asks for 30"),
    ] = 2
    text_corruption: Annotated[
        Literal["anchors", "sentences", "document", "shortlist"],
        Field(description="what differs between the two runs"),
    ] = "document"
    what: Annotated[Literal["pattern", "output"], Field(description="what is exchanged")] = "pattern"
    noise: Noise = "run"
    queries: Annotated[
        Literal["phase", "all"], Field(description="where heads are patched: lines of their phase, or the whole trace")
    ] = "phase"
    n_random: Annotated[
        int, Field(ge=1, le=1000, description="random sets beside the largest bin of each phase; others have 5")
    ] = 50
    largest_bin: Annotated[
        float, Field(ge=0.02, le=0.5, description="share of all heads in the largest bin; 0.02 for the paper's bins")
    ] = 0.02
    n_near_misses: NearMisses = 10


class InstrumentCheck(Settings):
    """Chapter 07."""

    teacher: Annotated[
        PathOrName, Field(description="a model whose heads are known: organism-planted, or a folder like it")
    ] = "organism-planted"
    n_documents: Annotated[int, Field(ge=4, le=10_000, description="test vignettes that heads are scored on")] = 64
    n_patched: Annotated[int, Field(ge=2, le=10_000, description="of these, vignettes that heads are patched on")] = 8
    n_random: Annotated[
        int, Field(ge=1, le=1000, description="random sets of heads that the planted ones are held against")
    ] = 200
    n_blank: Annotated[
        int, Field(ge=0, le=1000, description="models with random weights, on which nothing should be found")
    ] = 10
    others: Annotated[
        list[Literal["organism-planted", "organism-early", "organism-late", "organism-swapped"]],
        Field(description="more models with known heads"),
    ] = ["organism-early", "organism-late", "organism-swapped"]
    direction: Direction = "unembedding"
    noise: Annotated[
        Literal["run", "gaussian", "uniform", "mean"],
        Field(description="what replaces the pattern of each head alone"),
    ] = "uniform"


class Complementarity(TaskSettings, TeacherSettings, TopicSettings):
    """Chapter 08."""

    second_dataset: Annotated[
        Literal["none", "mesh", "organism", "setmm-slice", "vignettes", "heart-failure"],
        Field(description="a second task"),
    ] = "organism"
    second_teacher: Annotated[PathOrName, Field(description="teacher of the second task")] = "organism"
    second_topic_depth: TopicDepth = 2
    n_documents: Documents = 200
    shortlist_size: ShortlistSize = 0
    corruption: Corruption = 0.5
    n_near_misses: NearMisses = 10
    absent: Annotated[
        Literal["retrieved", "corrupted"], Field(description="the shortlist that stands for no Phase 1")
    ] = "retrieved"
    metric: Annotated[Literal["nDCG", "PSP"], Field(description="what an answer is worth")] = "nDCG"
    cutoff: Cutoff = 5
    n_scored: Annotated[
        int, Field(ge=2, le=MANY, description="of these, documents at most whose heads are scored and texts replaced")
    ] = 24
    n_patched: Annotated[
        int, Field(ge=0, le=MANY, description="others at most on which heads are disturbed, 0 to leave heads alone")
    ] = 6
    n_written: Annotated[int, Field(ge=0, le=MANY, description="of these, documents that are written anew")] = 2
    heads_bin: Annotated[
        int, Field(ge=1, le=5, description="how many heads of a phase are disturbed, as a bin of chapter 06")
    ] = 4


class StandardDistillation(StudentSettings):
    """Chapter 09."""

    n_traces: TraceCount = 256


class MechanisticDistillation(MechanismSettings):
    """Chapter 10."""

    n_traces: TraceCount = 256
    baselines: Annotated[list[MethodName], Field(description="compared with, beside cot")] = [
        "answer", "fkl", "rkl",
    ]  # fmt: skip
    base_losses: Annotated[list[BaseLoss], Field(description="methods that the terms are added to, one arm each")] = [
        "cot"
    ]
    time_factors: Annotated[
        list[Annotated[float, Field(ge=0.01, le=100)]],
        Field(description="steps of cot, fkl, rkl at equal time, times n_steps"),
    ] = [1.35, 0.65]


class LearningCurve(MechanismSettings):
    """Chapter 11."""

    n_traces: Annotated[list[TraceCount], Field(description="how many traces to learn from, in turn")] = [64, 256]
    draw_per_seed: Annotated[bool, Field(description="each seed draws traces of its own")] = True


class Ablations(MechanismSettings):
    """Chapter 12."""

    n_traces: TraceCount = 256
    split: Annotated[
        Literal["validation", "test"], Field(description="which documents; choose settings on validation")
    ] = "test"
    tried: Annotated[
        list[str], Field(description="an arm each; what can be tried stands at the end of the chapter")
    ] = ["without 1", "without 2"]


class Simulatability(MechanismSettings):
    """Chapter 13."""

    n_traces: TraceCount = 256
    terms: Annotated[
        list[str], Field(description="what is left out, one arm each: a phase (1, 2), or a term of the loss by name")
    ] = ["1", "2"]
    n_retrieved: Annotated[
        int, Field(ge=1, le=1000, description="retrieved labels among the candidates of a document")
    ] = 5
    which: Annotated[Literal["labels", "first"], Field(description="what the simulator predicts")] = "labels"


class Baselines(MechanismSettings):
    """Chapter 14."""

    n_traces: TraceCount = 256
    arms: Annotated[list[ArmName], Field(description="beside cot")] = [
        "fkl", "taid", "pst", "redi", "mechanistic", "retrieval",
    ]  # fmt: skip
    rate_factors: Annotated[
        list[Annotated[float, Field(ge=0.01, le=100)]],
        Field(min_length=1, description="learning rates tried on validation documents, times learning_rate"),
    ] = [1.0]


class WhatElseChanges(MechanismSettings):
    """Chapter 15."""

    n_traces: TraceCount = 256
    arms: Annotated[list[ArmName], Field(description="beside cot")] = ["fkl", "mechanistic"]
    drawn: Annotated[
        list[Annotated[int, Field(ge=2, le=MANY)]],
        Field(min_length=2, max_length=2, description="documents answered often, and how often"),
    ] = [25, 8]
    chain_factors: Annotated[
        list[Annotated[float, Field(ge=0.01, le=100)]],
        Field(min_length=2, description="steps of students that a student teaches, times n_steps"),
    ] = [1.0, 4.0]


class Performance(Settings):
    """Chapter 16."""

    sizes: Annotated[
        list[Annotated[int, Field(ge=256, le=10_000_000)]], Field(description="made-up labels to search here")
    ] = [1_000, 10_000, 100_000]
    n_queries: Annotated[int, Field(ge=1, le=10_000, description="queries that are searched together")] = 32
    k: Annotated[int, Field(ge=1, le=200, description="neighbours of each query")] = 100
    profile: Annotated[Profile, Field(description="whose runs are timed: runs/NOTEBOOK/PROFILE")] = "default"
    seed: Annotated[int, Field(ge=0, le=MANY, description="draws the made-up labels")] = 0


class Claims(Settings):
    """Chapter 17."""

    profile: Annotated[Profile, Field(description="whose runs are read: runs/NOTEBOOK/PROFILE")] = "default"
    seed: Annotated[int, Field(ge=0, le=MANY, description="draws the row that is worked through")] = 0
