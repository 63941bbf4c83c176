"""What all students of an experiment share: the teacher, its traces of training documents, and the test documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from scipy.sparse import csr_matrix

from ctd import workers
from ctd.data.task import Task
from ctd.distill import examples, students, teacher_states, trace_signals
from ctd.distill.examples import Example
from ctd.distill.teacher_states import States
from ctd.distill.trace_signals import ChosenHeads, TraceSignals
from ctd.keys import fingerprint
from ctd.mechanism import heads, planted_heads
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import ON_DOCUMENT, ON_GOLD, PAPER
from ctd.reasoning import models
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import LabelIndex

N_SCORED = 64  # traces at most that heads are ranked on
TRAINING_ONLY = frozenset(
    (
        "layers",
        "student_heads",
        "student",
        "n_steps",
        "batch_tokens",
        "learning_rate",
        "n_heads",
        "ranked_by",
        "matching",
    )
)  # fields of a plan that leave its data as they are
RANKED_BY = {"paper": PAPER, "mass": {Phase.SHORTLIST: ON_DOCUMENT, Phase.REFINE: ON_GOLD}}
"""The scores that heads are ranked by, one of each phase: the paper's, or attention to document and gold label."""


@dataclass(frozen=True)
class Plan:
    """What all arms of an experiment share.

    layers: layers of the student, taken evenly from the teacher's.
    student_heads: heads of each layer of a student that begins with random weights; 0 to begin with the teacher's.
    student: folder or Hugging Face id of a model to begin with instead.
    n_traces: training documents that the teacher reasons about.
    n_steps: optimizer steps of every arm.
    batch_tokens: tokens of a step, padding counted.
    learning_rate: the highest learning rate.
    n_heads: how many of the teacher's heads are taught in each phase; 0 for those that were planted in it.
    ranked_by: the scores that choose these heads, a name in `RANKED_BY`.
    matching: how the student's heads are chosen. "depth": those at the same relative depth, each phase by itself.
        "apart": the same, but no head is used twice and no layer is crowded. "score": those with the highest scores.
    max_tokens: what teacher and student may write about a document.
    n_test: documents that every student answers.
    split: the split that these documents come from.
    topic_depth: level of the label tree whose nodes are the topics, 0 for the highest.
    n_topics: topics of a document at most.
    patience: a student stops after this many validation losses in a row without a new lowest one, and takes the weights
        of the lowest. The loss is computed after each tenth of the steps, so that with 10 or more a student trains to
        the end and takes the best weights. 0: it trains to the end and takes the last weights.
    n_validation: how many validation documents this loss is computed on.
    Raises ValueError for a number out of range.
    """

    layers: int = 3
    student_heads: int = 0
    student: str = ""
    n_traces: int = 256
    n_steps: int = 110
    batch_tokens: int = 1024
    learning_rate: float = 2e-3
    n_heads: int = 4
    ranked_by: Literal["paper", "mass"] = "paper"
    matching: Literal["depth", "apart", "score"] = "depth"
    max_tokens: int = 320
    n_test: int = 100
    split: str = "test"
    topic_depth: int = 2
    n_topics: int = 2
    patience: int = 0
    n_validation: int = 32

    def __post_init__(self) -> None:
        at_least_1 = "layers", "n_traces", "n_steps", "batch_tokens", "max_tokens", "n_test", "n_topics", "n_validation"
        for name in at_least_1:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("n_heads", "student_heads", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.ranked_by not in RANKED_BY:
            raise ValueError(f"ranked_by must be one of {', '.join(RANKED_BY)}, got {self.ranked_by!r}")
        if self.matching not in ("depth", "apart", "score"):
            raise ValueError(f"matching must be one of depth, apart, score, got {self.matching!r}")


@dataclass(frozen=True, eq=False)
class Experiment:
    """A teacher, its task, and what it wrote: everything that students learn from and are measured by.

    teacher: whom the students learn from.
    task: the documents and the label space.
    index: grounds what students write in labels.
    plan: what all arms share.
    annotated_traces: the traces that are learned from, as tokens.
    traces: the same, as text.
    teacher_answers: what the teacher wrote about the test documents. No student learns from it.
    left_out: how many traces were left out, by the reason.
    live: run the teacher in every step instead of once for all students, and write nothing of it to disk.
    validation_annotated: the teacher's traces of validation documents, by which students are stopped, as tokens; none
        where the plan has no patience.
    validation_traces: the same, as text.
    """

    teacher: Teacher
    task: Task
    index: LabelIndex
    plan: Plan
    annotated_traces: list[AnnotatedTrace]
    traces: list[Trace]
    teacher_answers: list[Prediction]
    left_out: dict[str, int]
    live: bool = False
    validation_annotated: list[AnnotatedTrace] = field(default_factory=list)
    validation_traces: list[Trace] = field(default_factory=list)

    @property
    def validation(self) -> Experiment:
        """The same experiment with the traces of the validation documents in place of those that are learned from."""
        return replace(self, annotated_traces=self.validation_annotated, traces=self.validation_traces)

    @property
    def language_model(self) -> LanguageModel:
        """The teacher's model.

        Raises ValueError for a teacher behind a server.
        """
        if not isinstance(self.teacher.language_model, LanguageModel):
            raise ValueError("students learn what their teacher computes: load the teacher here, not behind a server")
        return self.teacher.language_model

    @property
    def test_documents(self) -> list[str]:
        """The documents that every student answers."""
        return list(self.task.documents[self.plan.split]["text"])[: self.plan.n_test]

    @property
    def gold(self) -> csr_matrix:
        """Gold labels of the test documents."""
        return self.task.gold(self.plan.split)[: self.plan.n_test]

    @property
    def description(self) -> str:
        """How many traces are learned from, in words, and why there are fewer than the plan asks for."""
        n, planned, available = len(self.traces), self.plan.n_traces, len(self.task.documents["train"])
        reasons = [f"{planned:,} asked for"] if n < planned else []
        reasons += [f"the task has {available:,} training documents"] if available < planned else []
        reasons += [f"{count:,} left out: {reason}" for reason, count in self.left_out.items()]
        return f"{n:,} traces" + (f" ({'; '.join(reasons)})" if reasons else "")

    @property
    def mixed(self) -> bool:
        """Whether students are trained in mixed precision: where the teacher is in bfloat16.

        An organism never is: single precision keeps the differences between processors small.
        """
        return self.language_model.model.dtype == torch.bfloat16

    @property
    def teacher_examples(self) -> list[Example]:
        """The teacher's traces about the test documents."""
        traces = [answer.trace for answer in self.teacher_answers if answer.trace.cot]
        tokenizer = self.language_model.tokenizer
        return [examples.example(trace.prompt, trace.text, tokenizer) for trace in traces]

    @cached_property
    def teacher_heads(self) -> dict[Phase, list[Head]]:
        """The teacher's heads whose computation is taught: its highest of each phase, or those planted in it."""
        if not self.plan.n_heads:
            return planted_heads.planted_heads(self.language_model.name)
        return students.by_score(self.teacher_rankings, self.plan.n_heads)

    @cached_property
    def teacher_rankings(self) -> dict[Phase, list[Head]]:
        """All of the teacher's heads by the score of each phase, the highest first."""
        return self.rankings(self.language_model.model)

    def rankings(self, model: Any) -> dict[Phase, list[Head]]:
        """All heads of teacher or student by the score of each phase, the highest first."""
        scored = heads.score(model, self.annotated_traces[:N_SCORED])
        return {phase: scored.ranking(name) for phase, name in RANKED_BY[self.plan.ranked_by].items()}

    def student_heads(self, student: Any) -> ChosenHeads:
        """The student's heads that stand for the teacher's, in their order."""
        chosen, teacher = self.teacher_heads, self.language_model.model
        if self.plan.matching == "score":
            rankings = self.rankings(student)
            return {phase: rankings[phase][: len(chosen[phase])] for phase in chosen}
        if self.plan.matching == "apart":
            return students.apart(teacher, student, chosen)
        return {phase: students.by_depth(teacher, student, chosen[phase]) for phase in chosen}

    @property
    def shares_basis(self) -> bool:
        """Whether students are made of the teacher's layers, so that their dimensions mean the same."""
        return not self.plan.student and not self.plan.student_heads

    def initial_student(self, seed: int) -> Any:
        """The student before it is taught, on the device of its teacher."""
        plan, teacher = self.plan, self.language_model.model
        if plan.student:
            return students.load(plan.student, self.language_model.tokenizer)
        if plan.student_heads:
            return students.narrower(teacher, plan.layers, plan.student_heads, seed).to(teacher.device)
        return students.shallower(teacher, plan.layers).to(teacher.device)

    @cached_property
    def teacher_signals(self) -> Sequence[TraceSignals]:
        """What the teacher's chosen heads compute along every trace."""
        return self.signals(self.teacher_heads)

    def signals(
        self, chosen: ChosenHeads, language_model: LanguageModel | None = None, uniform: bool = False
    ) -> Sequence[TraceSignals]:
        """What heads compute along every trace: in a file of the cache, or live.

        chosen: heads of each phase.
        language_model: whose; the teacher's when not given.
        uniform: as if each head attended to all tokens before it equally.
        """
        read = language_model or self.language_model
        if self.live:
            return trace_signals.Live(read.model, self.annotated_traces, chosen, uniform)
        with workers.one_thread():
            return trace_signals.stored(read.model, read.key, self.annotated_traces, chosen, uniform=uniform)

    def teacher_states(self, learned: Sequence[Example]) -> States:
        """The states that the teacher computes its next-token distributions from: in a file of the cache, or live.

        learned: the examples whose batches ask for them.
        """
        teacher = self.language_model
        if self.live:
            return teacher_states.Live(teacher.model)
        with workers.one_thread():
            return teacher_states.stored(teacher.model, teacher.key, learned)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What every student depends on, by content. Computed once an experiment."""
        return {
            "teacher": fingerprint((self.language_model.key, self.teacher.tuned, self.teacher.document_tokens)),
            "label_space": fingerprint(self.task.space),
            "index": fingerprint(self.index.key),
            "test_documents": fingerprint(self.test_documents),
            "gold": fingerprint(self.gold),
            "teacher_answers": fingerprint(self.teacher_answers),
            "traces": fingerprint(self.traces),
            "computed_by": fingerprint(trace_signals.computed_by(self.language_model.model)),
            "student": models.load(self.plan.student, dtype="float32").key if self.plan.student else "",
        }

    @cached_property
    def annotated_fingerprint(self) -> str:
        """The annotated traces by content, anchors and comparisons included."""
        return fingerprint(self.annotated_traces)

    @cached_property
    def example_fingerprints(self) -> dict[str, str]:
        """What methods learn from, by content: filled by `ctd.distill.teach` as methods are asked for."""
        return {}

    def with_plan(self, **changes: Any) -> Experiment:
        """The same experiment under a plan that differs in some settings.

        changes: fields of `Plan` that only decide how students are trained, such as n_heads.
        Raises ValueError for a field that decides which traces or documents there are.
        """
        if fixed := sorted(changes.keys() - TRAINING_ONLY):
            raise ValueError(
                f"with_plan changes {', '.join(sorted(TRAINING_ONLY))}; {', '.join(fixed)} would change the data: call "
                "prepare with a plan of its own"
            )
        return replace(self, plan=replace(self.plan, **changes))
