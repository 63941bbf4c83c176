"""Arms of an experiment: students taught in different ways from the same traces, and how well each then answers.

Notes: every arm begins with the same student and sees the same traces, in the order of the seed, for the same number of
steps; arms differ in their loss alone (answer-only also in its text). Trained students are kept in the cache under a
digest of all that they depend on, so that chapters share them and a killed run goes on. Runs stand side by side, one
thread each, so that a result does not depend on the number of cores.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from ctd import hardware, stats
from ctd.cache import atomic, cache_dir, once, scratch
from ctd.data.task import Task
from ctd.distill import checkpoint, examples, losses, signals, students, train
from ctd.distill.losses import Weights
from ctd.distill.signals import Stored
from ctd.keys import Maker, fingerprint
from ctd.mechanism import heads, planted_heads
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import PAPER
from ctd.reasoning import annotate, architecture, models, predict, rank_answers
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import ANSWER, OPEN, Trace
from ctd.reasoning.traces import format as format_trace
from ctd.retrieval import metrics
from ctd.retrieval import shortlists as sl
from ctd.retrieval.index import LabelIndex

Teaching = Literal["answer", "cot", "fkl", "rkl", "mechanistic"]
Words = Literal["cot", "fkl", "rkl"]
MEASURES = ("exact_match", "ndcg@5", "shortlist_recall", "token_probability", "tokens")
RECORDED = {
    "exact_match": "exact", "ndcg@5": "nDCG", "shortlist_recall": "shortlist recall",
    "token_probability": "word probability", "tokens": "tokens",
}  # fmt: skip  # each measure's name in results.json
STARTING = 20  # steps that a process of its own costs: below that many for each, runs stand in this one
ON_GPU = 9  # runs side by side on an accelerator, which one alone leaves waiting for the processor
N_SCORED = 64  # passages at most that heads are ranked on
NO_HEADS = {"n_heads": 0, "matching": "depth", "topic_depth": 0, "n_topics": 1}  # of a plan, for arms that read none
TRAINING = frozenset(
    ("layers", "student_heads", "student", "n_steps", "batch_tokens", "learning_rate", "n_heads", "matching")
)  # fields of a plan that leave its data as they are
STUDENTS = Maker(
    "students",
    "ctd.distill.experiment",
    (
        "teacher", "label_space", "index", "test_documents", "gold", "teacher_answers", "traces", "examples",
        "annotated_traces", "student", "plan", "method", "seed",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way of teaching. weights: of the mechanistic terms; fade: the fraction of the steps over which these fall to
    zero, 0 for never. time: how many times the plan's steps it takes. words: the way of teaching that the mechanistic
    terms are added to. Raises ValueError for a number out of range, or words without these terms.
    """

    name: str
    teaching: Teaching
    weights: Weights = field(default_factory=Weights)
    fade: float = 0.0
    time: float = 1.0
    words: Words = "cot"

    def __post_init__(self) -> None:
        if not 0 <= self.fade <= 1:
            raise ValueError(f"fade must be between 0 and 1, got {self.fade}")
        if not self.time > 0:
            raise ValueError(f"time must be above 0, got {self.time}")
        if self.words not in get_args(Words):
            raise ValueError(f"words must be one of {', '.join(get_args(Words))}, got {self.words!r}")
        if self.words != "cot" and self.teaching != "mechanistic":
            raise ValueError(
                f"words says what the mechanistic terms are added to, and {self.teaching} has none: leave it out, or "
                "teach mechanistic"
            )


STANDARD = (Arm("answer", "answer"), Arm("cot", "cot"), Arm("fkl", "fkl"), Arm("rkl", "rkl"))


@dataclass(frozen=True)
class Plan:
    """What all arms of an experiment share.

    layers: of the student, taken over from the teacher; student_heads: in each of them, for one that begins with random
    weights instead, 0 for one that does not; student: folder or id of a model to begin with in place of both.
    n_traces: learned from. n_steps: taken by every arm. n_heads: of each phase, by the scores of `ctd.mechanism.heads`;
    0 for those that are planted in the teacher. matching: "depth" or "score" (see `ctd.distill.students`). n_test:
    documents answered, of `split`. topic_depth, n_topics: as in `Task.topics`. Raises ValueError for a number out of
    range.
    """

    layers: int = 3
    student_heads: int = 0
    student: str = ""
    n_traces: int = 256
    n_steps: int = 120
    batch_tokens: int = 2048
    learning_rate: float = 2e-3
    n_heads: int = 4
    matching: Literal["depth", "score"] = "depth"
    max_tokens: int = 320
    n_test: int = 100
    split: str = "test"
    topic_depth: int = 2
    n_topics: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "n_traces", "n_steps", "batch_tokens", "max_tokens", "n_test", "n_topics"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("n_heads", "student_heads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.matching not in ("depth", "score"):
            raise ValueError(f"matching must be depth or score, got {self.matching!r}")


@dataclass(frozen=True, eq=False)
class School:
    """A teacher, its task, and what it wrote about training documents: what every arm learns from.

    passages: of the traces that have one. left_out: how many have none, by the reason. own: what the teacher
    reasoned about the test documents, which no student learns.
    """

    teacher: Teacher
    language_model: LanguageModel
    task: Task
    index: LabelIndex
    plan: Plan
    passages: list[AnnotatedTrace]
    traces: list[Trace]
    own: list[Prediction]
    left_out: dict[str, int]

    @property
    def texts(self) -> list[str]:
        """The test documents."""
        return list(self.task.documents[self.plan.split]["text"])[: self.plan.n_test]

    @property
    def gold(self) -> Any:
        """Gold labels of the test documents."""
        return self.task.gold(self.plan.split)[: self.plan.n_test]

    @property
    def counted(self) -> str:
        """How many traces are learned from, in words, and why where they are fewer than the plan asks for."""
        n, asked, there = len(self.passages), self.plan.n_traces, len(self.task.documents["train"])
        reasons = [f"{asked:,} asked for"] if n < asked else []
        reasons += [f"the task has {there:,} training documents"] if there < asked else []
        reasons += [f"{many:,} left out: {reason}" for reason, many in self.left_out.items()]
        return f"{n:,} traces" + (f" ({'; '.join(reasons)})" if reasons else "")

    @property
    def mixed(self) -> bool:
        """Whether students are trained in mixed precision: where the teacher is in bfloat16. An organism never is: what
        its students learn is the same on every processor.
        """
        return self.language_model.model.dtype == torch.bfloat16

    @property
    def held(self) -> list[train.Example]:
        """The teacher's traces about the test documents."""
        traces = [one.trace for one in self.own if one.trace.cot]
        return [examples.example(one.document, format_trace(one), self.language_model.tokenizer) for one in traces]

    @cached_property
    def teacher_heads(self) -> dict[Phase, list[Head]]:
        """The teacher's heads whose computation is taught: its highest of each phase, or those planted in it."""
        if not self.plan.n_heads:
            return planted_heads.planted_heads(self.language_model.name)
        return students.by_score(self.rankings(self.language_model.model), self.plan.n_heads)

    def rankings(self, model: Any) -> dict[Phase, list[Head]]:
        """All heads of teacher or student by the score of each phase, the highest first."""
        scored = heads.score(model, self.passages[:N_SCORED])
        return {phase: scored.ranking(name) for phase, name in PAPER.items()}

    @cached_property
    def teacher_signals(self) -> Stored:
        """What those heads compute along every trace, read once and kept in the cache."""
        with _one_thread():
            return signals.stored(self.language_model.model, self.language_model.key, self.passages, self.teacher_heads)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """The inputs of a student's key that all arms share, by content. Computed once an experiment."""
        return {
            "teacher": fingerprint((self.language_model.key, self.teacher.tuned, self.teacher.document_tokens)),
            "label_space": fingerprint(self.task.space),
            "index": fingerprint((self.index.encoder.key, self.index.kind)),
            "test_documents": fingerprint(self.texts),
            "gold": fingerprint(self.gold),
            "teacher_answers": signals.content(self.own),
            "traces": signals.content(self.traces),
        }

    @cached_property
    def annotated_fingerprint(self) -> str:
        """The annotated traces by content, anchors and comparisons included."""
        return signals.content(self.passages)

    @cached_property
    def student_key(self) -> str:
        """The key of the model that students begin with, where the plan names one; else empty."""
        return models.load(self.plan.student, dtype="float32").key if self.plan.student else ""

    @cached_property
    def _examples_fingerprints(self) -> dict[bool, str]:
        return {}

    def examples_fingerprint(self, arm: Arm) -> str:
        """What an arm learns from, by content; computed once for all arms that learn from the same."""
        answer, known = arm.teaching == "answer", self._examples_fingerprints
        if answer not in known:
            known[answer] = signals.content(self.examples(arm))
        return known[answer]

    def with_plan(self, **changes: Any) -> School:
        """The same experiment under a plan that differs in some settings.

        changes: fields of `Plan` that decide how students are trained.
        Raises ValueError for a field that decides which traces or documents there are: prepare such a plan anew.
        """
        if fixed := sorted(changes.keys() - TRAINING):
            raise ValueError(
                f"with_plan changes {', '.join(sorted(TRAINING))}; {', '.join(fixed)} would change the data: call "
                "prepare with a plan of its own"
            )
        return replace(self, plan=replace(self.plan, **changes))

    def examples(self, arm: Arm) -> list[train.Example]:
        """The traces as an arm learns them: prompt and trace, or prompt and answer."""
        tokenizer: Any = self.language_model.tokenizer
        end = [tokenizer.eos_token_id]
        if arm.teaching != "answer":
            return [train.Example([*one.ids, *end], one.cot.start + 1) for one in self.passages]
        made = []
        for passage, trace in zip(self.passages, self.traces, strict=True):
            whole = tokenizer.decode(passage.ids)
            prompt = whole[: whole.index(OPEN)] + ANSWER
            given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            answer = "".join(f"- {text}\n" for text in trace.answer)
            ids = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
            made.append(train.Example([*ids, *end], len(given)))
        return made


def school(teacher: Teacher, task: Task, index: LabelIndex, plan: Plan, seed: int = 0) -> School:
    """The teacher's own traces about n_traces training documents (all where there are fewer: see `School.counted`),
    drawn by seed, and the documents to be answered.

    Raises ValueError for a teacher behind a server, a split that the task has not, or where fewer than two traces can
    be learned from.
    """
    language_model = teacher.language_model
    if plan.split not in task.documents:
        raise ValueError(f"split must be one of {', '.join(task.documents)}, got {plan.split!r}")
    if not isinstance(language_model, LanguageModel):
        raise ValueError("a student is taught what its teacher computes: load the teacher here, not behind a server")
    drawn = task.sample("train", plan.n_traces, seed)
    documents, uids = (list(drawn.documents["train"][column]) for column in ("text", "uid"))
    written = predict.reason(
        teacher, documents, index, uids=uids, max_tokens=plan.max_tokens, seed=seed, desc="traces to learn from"
    )
    traces = {one.trace.uid: one.trace for one in written}
    flat = task.space.parents is None  # then the labels are their own topics, which the text alone never asks for
    made, left_out = annotate.annotate_traces(
        list(traces.values()),
        [one.ranking for one in written],
        drawn.documents["train"]["labels"] if flat else drawn.topics("train", plan.topic_depth, plan.n_topics),
        task.space,
        language_model.tokenizer,
        architecture.context(language_model.model),
    )
    if len(made) < 2:
        raise ValueError(f"a student needs at least 2 traces to learn from, got {len(made)} ({dict(left_out)})")
    tests = list(task.documents[plan.split]["text"])[: plan.n_test]
    own = predict.reason(teacher, tests, index, max_tokens=plan.max_tokens, seed=seed, desc="the teacher's answers")
    learned = [traces[one.uid] for one in made]
    return School(teacher, language_model, task, index, plan, made, learned, own, dict(left_out))


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trained student: its answers on the test documents, and what it took.

    values: of each document, by `MEASURES`. cots: what it reasoned. seconds: of training, and of writing a document.
    """

    arm: str
    seed: int
    values: dict[str, Float[np.ndarray, " n"]]
    answers: list[list[int]]
    cots: list[str]
    steps: int
    tokens: int
    seconds: float
    step_seconds: float
    answer_seconds: float
    loss: float


def run(
    of: School, arms: Sequence[Arm], seeds: Sequence[int], folder: Path | None = None, workers: int = 0
) -> list[Outcome]:
    """Every arm with every seed, in order of arms, then seeds; those that were trained before are read.

    folder: where students and outcomes are kept; the cache's own by default. workers: runs side by side; 0 for as many
    as there are cores, but `ON_GPU` at most with the teacher on an accelerator, and half of them each time that a
    process is killed. Raises ValueError for two arms of one name.
    """
    if len({arm.name for arm in arms}) < len(arms):
        raise ValueError(f"arms need names of their own, got {', '.join(arm.name for arm in arms)}")
    folder = folder or cache_dir("arms")
    wanted = {(arm.name, seed): folder / key(of, arm, seed) for arm in arms for seed in seeds}
    missing = [(arm, seed) for arm in arms for seed in seeds if not (wanted[arm.name, seed] / "outcome.json").is_file()]
    if any(arm.teaching == "mechanistic" for arm, _ in missing):
        _ = of.teacher_signals  # before the processes that share them begin
    workers = min(
        workers or _side_by_side(of.language_model.model), len(missing), of.plan.n_steps * len(missing) // STARTING
    )
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="students", unit=" runs") as bar:
        if workers > 1:
            try:
                _beside(of, missing, folder, workers, bar)
            except BrokenProcessPool:
                bar.write(
                    f"a student's process was killed, most often for want of memory: going on with {workers // 2} at a "
                    f"time in place of {workers}, from their checkpoints"
                )
                return run(of, arms, seeds, folder, workers // 2)
        else:
            with _one_thread():
                for arm, seed in missing:
                    teach(of, arm, seed, folder)
                    bar.update()
    return [_read(wanted[arm.name, seed], arm.name, seed) for arm in arms for seed in seeds]


def _beside(of: School, missing: Sequence[tuple[Arm, int]], folder: Path, workers: int, bar: tqdm) -> None:
    torch.cuda.empty_cache()  # what this process has set aside on an accelerator, its students could not use
    context = multiprocessing.get_context("spawn")
    with _on_disk(of, folder) as shared, ProcessPoolExecutor(workers, context, _begin, (shared, folder)) as pool:
        try:
            for done in as_completed([pool.submit(_teach_there, arm, seed) for arm, seed in missing]):
                done.result()
                bar.update()
        except BaseException:  # an interrupt too: those that wait are not to begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _side_by_side(teacher: Any) -> int:
    cores = len(os.sched_getaffinity(0))
    return min(cores, ON_GPU) if hardware.on_accelerator(teacher) else cores


@contextmanager
def _one_thread() -> Iterator[None]:
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n)


@contextmanager
def _on_disk(of: School, folder: Path) -> Iterator[Path]:
    """A school as a file for as long as processes read it, all at once: handed over in person, each waits for the last.

    What it weighs is its label index. A teacher on the processor is mapped by all of them, one on an accelerator is
    copied to each.
    """
    with scratch(folder / "school.pt") as path:
        torch.save(of, path, pickle_protocol=pickle.HIGHEST_PROTOCOL)  # the one that bytes go into as they are
        yield path


_there: tuple[School, Path] | None = None


def _begin(shared: Path, folder: Path) -> None:
    global _there
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _there = torch.load(shared, mmap=True, weights_only=False), folder


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever; the student it is at has a checkpoint."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _teach_there(arm: Arm, seed: int) -> None:
    assert _there is not None
    teach(_there[0], arm, seed, _there[1])


def taught(of: School, arm: Arm, seed: int, home: Path, live: bool = False) -> tuple[Any, list[dict[str, float]]]:
    """A student trained as an arm says, and the log; `home` gets log and checkpoint. live: as in `loss_of`."""
    student = _beginner(of, seed)
    examples = of.examples(arm)
    n_steps = round(of.plan.n_steps * arm.time)
    settings = _settings(of, examples, n_steps, seed)
    loss = loss_of(of, arm, student, live)
    log = train.train(student, examples, settings, home, loss=loss, n_steps=n_steps, desc=f"{arm.name}, seed {seed}")
    return student, log


def _beginner(of: School, seed: int) -> Any:
    """The student before it is taught, where its teacher is."""
    plan, teacher = of.plan, of.language_model.model
    if plan.student:
        return students.load(plan.student, of.language_model.tokenizer)
    if plan.student_heads:
        return students.narrower(teacher, plan.layers, plan.student_heads, seed).to(teacher.device)
    return students.shallower(teacher, plan.layers).to(teacher.device)


def teach(of: School, arm: Arm, seed: int, folder: Path) -> None:
    """Train one student and let it answer; student and outcome go to a folder of their own, once."""
    home = folder / key(of, arm, seed)
    with once(home / "outcome.json") as missing:
        if missing:
            _teach(of, arm, seed, home)


def _teach(of: School, arm: Arm, seed: int, home: Path) -> None:
    plan = of.plan
    student, log = taught(of, arm, seed, home)
    began = time.perf_counter()
    told = replace(
        of.teacher, language_model=LanguageModel(arm.name, student, of.language_model.tokenizer, key(of, arm, seed))
    )
    mode: predict.Mode = "answer" if arm.teaching == "answer" else "trace"
    written = predict.reason(
        told, of.texts, of.index, mode=mode, max_tokens=plan.max_tokens, desc=f"{arm.name}, seed {seed}, answers"
    )
    values = measured(written, of.gold) | {"token_probability": token_probability(student, of.held, of.mixed)}
    outcome = {
        "arm": asdict(arm),
        "seed": seed,
        "plan": asdict(plan),
        "hardware": hardware.describe(student.device),
        "values": {name: values.tolist() for name, values in values.items()},
        "answers": [list(one.ranking) for one in written],
        "cots": [one.trace.cot for one in written],
        "steps": len(log),
        "tokens": int(sum(row["tokens"] for row in log)),
        "seconds": sum(row["seconds"] for row in log),
        "step_seconds": float(np.median([row["seconds"] / row["tokens"] for row in log]) * plan.batch_tokens),
        "answer_seconds": (time.perf_counter() - began) / len(written),
        "loss": float(np.mean([row["loss"] for row in log[-10:]])),
    }
    student.bfloat16().save_pretrained(home)
    (home / checkpoint.CHECKPOINT).unlink()
    with atomic(home / "outcome.json") as scratch:
        scratch.write_text(json.dumps(outcome))


def measured(written: Sequence[Prediction], gold: Any) -> dict[str, Float[np.ndarray, " n"]]:
    """What each answer is worth: exactly the gold labels, nDCG@5, recall of its shortlist, and tokens written."""
    right = [set(row.indices.tolist()) for row in gold]
    listed = sl.as_array([one.trace.shortlisted for one in written])
    values = (
        np.array([set(one.ranking) == labels for one, labels in zip(written, right, strict=True)], float),
        metrics.ndcg_at_k(rank_answers.rankings(written, 5), gold, 5, average=False),
        metrics.recall_at_k(listed, gold, listed.shape[1], average=False),
        np.array([one.n_tokens for one in written], float),
    )
    return dict(zip((*MEASURES[:3], MEASURES[-1]), values, strict=True))


@torch.no_grad()
def token_probability(student: Any, held: Sequence[train.Example], mixed: bool = False) -> Float[np.ndarray, " n"]:
    """What probability a student gives to the next token of each text, geometric mean over its tokens (our definition).

    The finest measure of how near it came to its teacher: every token of every text counts. mixed: in bfloat16 where
    it loses little.
    """
    taught = train.Taught(student, train.token_loss, mixed)
    alone = [train.collate([one], [0], student.device) for one in held]
    return np.array([np.exp(-taught(batch).item() / batch.n_targets) for batch in alone])


def loss_of(of: School, arm: Arm, student: Any, live: bool = False) -> train.Loss:
    """What an arm minimises, made for this student. live: the teacher is read in every step, not once to disk."""
    if arm.teaching != "mechanistic":
        return _loss_of_words(of, arm.teaching)
    theirs = of.teacher_heads
    if of.plan.matching == "score":
        mine = {phase: ranking[: len(theirs[phase])] for phase, ranking in of.rankings(student).items()}
    else:
        mine = {phase: students.by_depth(of.language_model.model, student, found) for phase, found in theirs.items()}
    width = architecture.shape(student).width
    signalled = signals.Live(of.language_model.model, of.passages, theirs) if live else of.teacher_signals
    words = _loss_of_words(of, arm.words)
    return losses.Mechanistic(of.passages, signalled, mine, arm.weights, width, arm.fade, words)


def _loss_of_words(of: School, teaching: Literal["answer", "cot", "fkl", "rkl"]) -> train.Loss:
    if teaching == "fkl" or teaching == "rkl":
        return losses.TokenDistillation(of.language_model.model, teaching)
    return train.token_loss


def _settings(of: School, examples: Sequence[train.Example], n_steps: int, seed: int) -> train.Settings:
    settings = train.Settings(
        batch_tokens=of.plan.batch_tokens,
        learning_rate=of.plan.learning_rate,
        decay=0.5,
        weight_decay=0.05,
        seed=seed,
        save_every=100,
        mixed=of.mixed,
    )
    epoch = len(train.batches(examples, settings))
    return replace(settings, epochs=-(-n_steps // epoch))


def key(of: School, arm: Arm, seed: int) -> str:
    """The key of a student: a digest of all that it and its outcome depend on."""
    reads_heads = arm.teaching == "mechanistic"
    plan = asdict(of.plan) | ({} if reads_heads else NO_HEADS)
    return STUDENTS.key(
        **of.fingerprints,
        examples=of.examples_fingerprint(arm),
        annotated_traces=of.annotated_fingerprint if reads_heads else None,
        student=of.student_key,
        plan=plan,
        method=(arm.teaching, arm.words, arm.time, arm.fade, asdict(arm.weights) if reads_heads else None),
        seed=seed,
    )


def _read(home: Path, arm: str, seed: int) -> Outcome:
    told = json.loads((home / "outcome.json").read_text())
    values = {name: np.array(of) for name, of in told["values"].items()}
    kept = {name: told[name] for name in ("answers", "cots", "steps", "tokens", "seconds", "step_seconds")}
    return Outcome(arm, seed, values, **kept, answer_seconds=told["answer_seconds"], loss=told["loss"])


def by_document(outcomes: Sequence[Outcome], measure: str) -> dict[str, Float[np.ndarray, " n"]]:
    """A measure of each document, mean over seeds, by arm."""
    arms = dict.fromkeys(one.arm for one in outcomes)
    return {arm: np.mean([one.values[measure] for one in outcomes if one.arm == arm], axis=0) for arm in arms}


def table(outcomes: Sequence[Outcome], seed: int = 0) -> pd.DataFrame:
    """Every measure of every arm, mean over seeds, interval over documents: columns arm, measure, value, low, high, sd.

    sd: standard deviation of the mean over documents from seed to seed.
    """
    rows = []
    for measure in MEASURES:
        for arm, values in by_document(outcomes, measure).items():
            means = [one.values[measure].mean() for one in outcomes if one.arm == arm]
            spread = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
            rows.append((arm, measure, *stats.bootstrap_mean(values, seed=seed).scalar, spread))
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high", "sd"])


def gains(outcomes: Sequence[Outcome], baseline: str, measure: str = "exact_match", seed: int = 0) -> pd.DataFrame:
    """Each arm less the baseline, paired over documents (means over seeds), Holm over the rows: as `stats.compared`.

    Another draw of documents and another order of training are two questions. value, low and high answer the first,
    seed_low and seed_high the second: Student's interval for the mean over seeds (`stats.t_interval`); `seeds` says in
    how many the arm is above the baseline. Raises ValueError for an unknown baseline.
    """
    values = by_document(outcomes, measure)
    if baseline not in values:
        raise ValueError(f"baseline must be one of {', '.join(values)}, got {baseline!r}")
    found = stats.compared({arm: of - values[baseline] for arm, of in values.items() if arm != baseline}, seed)
    means = {(one.arm, one.seed): one.values[measure].mean() for one in outcomes}
    own = {
        arm: np.array([mean - means[baseline, of] for (name, of), mean in means.items() if name == arm])
        for arm in found["name"]
    }
    between = [stats.t_interval(own[arm]).scalar[1:] for arm in found["name"]]
    low, high = np.array(between).T
    return found.assign(seeds=[int((own[arm] > 0).sum()) for arm in found["name"]], seed_low=low, seed_high=high)


def learning_curve(found: pd.DataFrame) -> pd.DataFrame:
    """What chapter 10 recorded of nDCG over numbers of traces, from `kept.table`: traces, arm, value, low, high.

    The gain of an arm over another is one of the arms, named "arm - other".
    """
    traces = found["metric"].str.extract(r"^(?:gain in )?nDCG with (\d+) traces$", expand=False)
    return found.assign(traces=pd.to_numeric(traces), arm=found["of"]).dropna(subset="traces").astype({"traces": int})


def final_loss(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The loss at the end of training, its terms included (nats a token), by arm, mean over seeds."""
    arms = dict.fromkeys(one.arm for one in outcomes)
    return {arm: float(np.mean([one.loss for one in outcomes if one.arm == arm])) for arm in arms}


def costs(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """What each arm took, mean over seeds: steps, tokens, seconds of training, of a step (median), of an answer."""
    rows = [
        {
            "arm": one.arm, "steps": one.steps, "tokens": one.tokens, "training s": one.seconds,
            "step s": one.step_seconds, "answer s": one.answer_seconds,
        }
        for one in outcomes
    ]  # fmt: skip
    means = pd.DataFrame(rows).groupby("arm", sort=False).mean().reset_index()
    return means.round({"steps": 0, "tokens": 0}).astype({"steps": int, "tokens": int})
