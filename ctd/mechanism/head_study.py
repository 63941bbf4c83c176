"""One phase's heads on a task: a teacher reasons, its traces are annotated, its heads are scored. Chapters 04 and 05.

task, index = teachers.with_topics(task, encoders.load(encoder), n_clusters, seed)
study = head_study.study(teachers.load(teacher), task, index, Settings(Phase.SHORTLIST, direction=direction))
plots.head_maps(study.maps())
plots.head_ranking(study.top(), study.n_layers, study.score)
plots.courses(study.course(), f"mean {study.score}")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.data.task import Task
from ctd.mechanism import attention, head_scores, heads, scores
from ctd.mechanism.attention import Head
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.heads import Direction
from ctd.mechanism.phases import Phase
from ctd.mechanism.untestable import refining_score, require_traces
from ctd.reasoning import annotate, architecture, predict
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.teachers import Teacher
from ctd.retrieval.index import LabelIndex
from ctd.stats import Interval

SILENT = "anchor never mentioned"


@dataclass(frozen=True)
class Settings:
    """Which heads are studied, and on what.

    phase: whose heads.
    n_scored: documents at most that heads are scored on.
    max_tokens: what the teacher may write about a document.
    topic_depth: level of the label tree whose nodes are the topics, 0 the highest.
    n_topics: topics (anchors) of a document at most.
    decides: whose labels a comparison is to keep, the teacher's "answer" or "gold".
    direction: where the anchor direction of CoarseScore comes from (see `heads.score`).
    n_top: how many of the highest heads are looked at.
    n_effects: documents at most that are read backward, for the scores by effect; 0 leaves these out.
    seed: of the teacher's texts and of bootstrap samples.
    """

    phase: Phase
    n_scored: int = 64
    max_tokens: int = 512
    topic_depth: int = 0
    n_topics: int = 2
    decides: str = "answer"
    direction: Direction = "unembedding"
    n_top: int = 20
    n_effects: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class HeadStudy:
    """The scores of all heads of a teacher.

    settings: what was studied.
    traces: all annotated traces; heads are scored on the first `n_scored`.
    left_out: how many documents have no such trace, by the reason.
    scored: every score of every head.
    everything: all heads, layer by layer.
    score: the name of the score that ranks the heads: the paper's, where the texts can tell it.
    instead: why it is not the paper's; "" where it is.
    """

    settings: Settings
    traces: list[AnnotatedTrace]
    left_out: dict[str, int]
    scored: HeadScores
    everything: list[Head]
    score: str
    instead: str = ""

    @property
    def n_layers(self) -> int:
        """How many layers the model has."""
        return self.everything[-1].layer + 1

    @cached_property
    def ranking(self) -> list[Head]:
        """All heads, the highest by the score first."""
        return self.scored.ranking(self.score)

    def maps(self) -> dict[str, Float[np.ndarray, "layers heads"]]:
        """Mean of the score and of its factors for every head."""
        names = (self.score, *scores.SCORES[self.score].factors)
        return {name: self.scored.mean(name).estimate for name in names}

    def top(self) -> pd.DataFrame:
        """The highest heads in order: see `HeadScores.top`."""
        return self.scored.top(self.score, self.settings.n_top, self.settings.seed)

    def depth(self, name: str = "") -> Interval:
        """Mean depth of the highest heads by a score (the study's if not given), 0 the first layer and 1 the last."""
        return self.scored.depth(name or self.score, self.settings.n_top, seed=self.settings.seed)

    def random_depth(self) -> Interval:
        """Mean depth of as many heads drawn at random: 0.5, and what 95 % of draws lie in."""
        return head_scores.random_depth(
            self.n_layers, len(self.everything) // self.n_layers, self.settings.n_top, seed=self.settings.seed
        )

    def depths(self, *others: str) -> pd.DataFrame:
        """How good the ranking of heads is by each score of the phase that two documents have.

        others: more scores to include.
        Returns columns score, depth (of the highest heads), tau (between rankings of resampled documents), specificity
        (correlation with the ranking under other documents' anchors and labels; NaN where it was not measured), each an
        `Interval`, and n (documents that have the score).
        """
        names = [name for name in self.scored.names(self.settings.phase) if self.scored.n_documents(name) > 1]
        names, seed = [*names, *others], self.settings.seed
        rows = [
            (
                name,
                self.depth(name),
                self.scored.stability(name, seed=seed),
                self.scored.specificity(name, seed=seed),
                self.scored.n_documents(name),
            )
            for name in names
        ]
        return pd.DataFrame(rows, columns=["score", "depth", "tau", "specificity", "n"])

    def course(self) -> pd.DataFrame:
        """The score along the CoT, of the highest heads and of all: see `HeadScores.course`."""
        n_top = self.settings.n_top
        groups = {f"top {n_top}": self.ranking[:n_top], "all heads": self.everything}
        return self.scored.course(self.score, groups, self.settings.seed)


def study(teacher: Teacher, task: Task, index: LabelIndex, settings: Settings) -> HeadStudy:
    """Let a teacher reason about the test documents, annotate what it wrote, and score its heads.

    task: with topics (see `teachers.with_topics`).
    index: over its label space.
    Raises NotTestable where no document can be scored or, for Phase 2, fewer than two compare or judge labels; and,
    before anything is written, ValueError for a model whose heads cannot be read exactly.
    """
    model = teacher.language_model.model
    architecture.shape(model)
    traces, left_out = annotated_traces(teacher, task, index, settings)
    if settings.direction == "mentions":
        speaking = [trace for trace in traces if trace.anchor_mentions]
        left_out[SILENT], traces = len(traces) - len(speaking), speaking
    require_traces(traces, left_out)
    score, instead = scores.PAPER[settings.phase], ""
    if settings.phase is Phase.REFINE:
        score, instead = refining_score(traces[: settings.n_scored], least=2)
    scored = heads.score(
        model, traces[: settings.n_scored], settings.direction, n_effects=settings.n_effects, with_others=True
    )
    return HeadStudy(settings, traces, left_out, scored, attention.all_heads(model), score, instead)


def annotated_traces(
    teacher: Teacher, task: Task, index: LabelIndex, settings: Settings
) -> tuple[list[AnnotatedTrace], dict[str, int]]:
    """What a teacher writes about the test documents, annotated, and how many are left out, by the reason."""
    tokenizer = teacher.language_model.tokenizer
    assert tokenizer is not None, "heads are read from a model, not from a server"
    documents, uids = (list(task.documents["test"][column]) for column in ("text", "uid"))
    predictions = predict.reason(
        teacher, documents, index, uids=uids, max_tokens=settings.max_tokens, seed=settings.seed
    )
    traces, left_out = annotate.annotate_task(
        task,
        predictions,
        tokenizer,
        settings.topic_depth,
        settings.n_topics,
        settings.decides,
        architecture.context(teacher.language_model.model),
    )
    return traces, dict(left_out)


def against_random(depth: Interval, random: Interval) -> str:
    """Where heads of this depth lie against heads drawn at random, in words that follow "the top heads lie".

    random: see `HeadStudy.random_depth`.
    """
    _, low, high = depth.less(random).scalar
    where = "earlier than" if high < 0 else "later than" if low > 0 else "neither earlier nor later than"
    return f"{where} heads at random"
