"""One student: trained as an arm says, asked about the test documents, measured, and kept in the cache.

Notes: a student is kept under a key of all that it depends on, the code that trains it included, so that chapters share
students and a killed run goes on.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctd import hardware
from ctd.cache import atomic, once
from ctd.data.damaged import named_if_damaged
from ctd.distill import checkpoint, early_stopping, lora, measures, train
from ctd.distill.controls import CONTROLS
from ctd.distill.examples import Example, batches
from ctd.distill.experiment import Experiment
from ctd.distill.methods import METHODS, Arm, Method, Stage
from ctd.distill.methods.answering import AnsweringStudent, load_experts
from ctd.distill.settings import Settings
from ctd.keys import Maker, fingerprint, source_digest
from ctd.reasoning import predict
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction

OUTCOME = "outcome.json"
EXPERTS = "experts"  # a folder of each, beside the student
LOOKS = 10  # at the validation loss, over the steps of a student
NO_HEADS = {
    "n_heads": 0,
    "ranked_by": "paper",
    "matching": "depth",
    "topic_depth": 0,
    "n_topics": 1,
}  # of a plan, where none are read
UNREAD = frozenset(("name", "draw"))  # fields of an arm that its students do not depend on
OF_HEADS = frozenset(("weights", "anneal_fraction", "forms", "control"))  # and these, where no heads are read
STUDENTS = Maker(
    "students",
    "ctd.distill.teach",
    (
        "teacher", "label_space", "index", "test_documents", "gold", "teacher_answers", "traces", "computed_by",
        "student", "examples", "annotated_traces", "planted_heads", "plan", "arm", "methods", "seed",
    ),
)  # fmt: skip


def key(experiment: Experiment, arm: Arm, seed: int) -> str:
    """The key of a student: a digest of all that it and its answers depend on."""
    method, settings = METHODS[arm.method], asdict(arm)
    for name in UNREAD if method.reads_heads else UNREAD | OF_HEADS:
        del settings[name]
    return STUDENTS.key(
        **experiment.fingerprints,
        examples=_examples_fingerprint(experiment, arm),
        annotated_traces=experiment.annotated_fingerprint if arm.needs & {"heads", "hidden"} else None,
        planted_heads=experiment.teacher_heads if method.reads_heads and not experiment.plan.n_heads else None,
        plan=asdict(experiment.plan) | ({} if method.reads_heads else NO_HEADS),
        arm=settings,
        methods=_methods_fingerprint(arm),
        seed=seed,
    )


def _examples_fingerprint(experiment: Experiment, arm: Arm) -> str:
    """What an arm learns from and is stopped by, by content; computed once for all arms that learn from the same.

    What is learned from a student so far depends on nothing but what is in the key.
    """
    known, prints = experiment.example_fingerprints, []
    for stage in arm.stages:
        if not stage.reads_student:
            name = f"{stage.examples.__module__}.{stage.examples.__qualname__}{arm.settings or ''}"
            if name not in known:
                known[name] = fingerprint([arm.texts(experiment, stage), _validation_examples(experiment, arm, stage)])
            prints.append(known[name])
    return fingerprint(prints)


def _validation_examples(experiment: Experiment, arm: Arm, stage: Stage, student: Any = None) -> list[Example]:
    """What an arm is stopped by: its texts of the validation documents, in its last stage; none without patience."""
    if not experiment.plan.patience or stage is not arm.base:
        return []
    return arm.texts(experiment.validation, stage, student)


def _methods_fingerprint(arm: Arm) -> str:
    """What an arm's method, base loss and control are: fields and code, since the registry's own does not count."""
    control = _source_outside(CONTROLS[arm.control]) if METHODS[arm.method].reads_heads else ""
    parts = [
        (name, method.mode, sorted(method.needs), _stages(method), _code(method))
        for name, method in ((name, METHODS[name]) for name in arm.method_names)
    ]
    return fingerprint([*parts, control])


def _stages(method: Method) -> list[tuple[float, float, int, str]]:
    return [(stage.share, stage.rate, stage.rank, stage.expert) for stage in method.stages]


def _code(method: Method) -> list[str]:
    """The code of the functions that a method is made of."""
    return [
        _source_outside(part) or f"{part.__qualname__} {source_digest(part.__module__)}" for part in method.all_parts
    ]


def _source_outside(function: Any) -> str:
    """The source of a function that is not part of ctd, whose code the key would not see otherwise.

    With it the whole file which defines it, for it may use other things there; in a notebook it is the function alone.
    """
    if function.__module__.startswith("ctd."):
        return ""
    source = inspect.getsource(function)
    with suppress(OSError, TypeError):
        source += inspect.getsource(sys.modules[function.__module__])
    return source


def train_student(experiment: Experiment, arm: Arm, seed: int, home: Path) -> tuple[Any, list[dict[str, float]]]:
    """Train a student as an arm says.

    home: folder that gets the log, the checkpoint and, in `EXPERTS`, the experts of stages that have one.
    Returns the student and the log.
    """
    student = experiment.initial_student(seed)
    n_steps = round(experiment.plan.n_steps * arm.step_multiplier)
    log: list[dict[str, float]] = []
    for number, stage in enumerate(arm.stages, 1):
        last = stage is arm.base
        learner = experiment.initial_student(seed) if stage.expert else student
        examples = arm.texts(experiment, stage, learner)
        settings = _settings(experiment, examples, n_steps - len(log) if last else round(n_steps * stage.share), seed)
        log += train.train(
            learner,
            examples,
            replace(
                settings,
                learning_rate=settings.learning_rate * stage.rate,
                patience=settings.patience if last else 0,
            ),
            home if last else home / f"stage_{number}",
            lora.MergedLoRA(learner, stage.rank, 2 * stage.rank, seed) if stage.rank else None,
            validation=_validation_examples(experiment, arm, stage, learner),
            loss=replace(arm, draw=seed).loss(experiment, learner, stage, examples),
            desc=f"{arm.name}, seed {seed}" + (f", stage {number}" if arm.base.before else ""),
        )
        if stage.expert and train.processes().is_main_process:
            learner.save_pretrained(home / EXPERTS / stage.expert)
    return student, log


def _settings(experiment: Experiment, examples: Sequence[Example], n_steps: int, seed: int) -> Settings:
    settings = Settings(
        batch_tokens=experiment.plan.batch_tokens,
        learning_rate=experiment.plan.learning_rate,
        decay=0.5,
        weight_decay=0.05,
        seed=seed,
        save_every=100,
        check_every=max(1, n_steps // LOOKS),
        patience=experiment.plan.patience,
        mixed=experiment.mixed,
    )
    epoch = len(batches(examples, settings))
    return replace(settings, epochs=-(-n_steps // epoch), n_steps=n_steps)


def teach(experiment: Experiment, arm: Arm, seed: int, folder: Path) -> None:
    """Train one student and let it answer, where that was not done before.

    folder: gets a folder of the student's own with its weights and its outcome.
    """
    home = folder / key(experiment, arm, seed)
    with once(home / OUTCOME) as missing:
        if missing:
            student, log = train_student(experiment, arm, seed, home)
            outcome = _outcome(experiment, arm, seed, student, log, home)
            student.bfloat16().save_pretrained(home)
            forget(home)
            with atomic(home / OUTCOME) as scratch:
                scratch.write_text(json.dumps(outcome))


def forget(home: Path) -> None:
    """Remove the checkpoints of a student that was taught."""
    for name in (checkpoint.CHECKPOINT, checkpoint.BEST):
        for saved in home.rglob(name):
            saved.unlink(missing_ok=True)


def chosen_step(experiment: Experiment, log: Sequence[dict[str, float]]) -> int:
    """How many steps a student's weights have taken: all, or those to the lowest validation loss."""
    return early_stopping.steps_to_lowest(log) if experiment.plan.patience else len(log)


def _outcome(
    experiment: Experiment, arm: Arm, seed: int, student: Any, log: Sequence[dict[str, float]], home: Path
) -> dict[str, Any]:
    """What a trained student answers, what that is worth, and what it took."""
    began = time.perf_counter()
    answers = answers_of(experiment, arm, student, f"{arm.name}, seed {seed}, answers", home.name, home)
    values = measures.of_answers(answers, experiment.gold)
    values["token_probability"] = measures.token_probability(student, experiment.teacher_examples, experiment.mixed)
    return {
        "arm": asdict(arm),
        "seed": seed,
        "plan": asdict(experiment.plan),
        "hardware": hardware.describe(student.device),
        "values": {measure: scores.tolist() for measure, scores in values.items()},
        "answers": [list(answer.ranking) for answer in answers],
        "cots": [answer.trace.cot for answer in answers],
        "steps": len(log),
        "chosen_step": chosen_step(experiment, log),
        "tokens": int(sum(row["tokens"] for row in log)),
        "seconds": sum(row["seconds"] for row in log),
        "step_seconds": float(
            np.median([row["seconds"] / row["tokens"] for row in log]) * experiment.plan.batch_tokens
        ),
        "answer_seconds": (time.perf_counter() - began) / len(answers),
        "loss": float(np.mean([row["loss"] for row in log[-10:]])),
    }


def answers_of(
    experiment: Experiment, arm: Arm, student: Any, desc: str, name: str, home: Path | None = None
) -> list[Prediction]:
    """What a student answers about the test documents.

    desc: what the progress bar says.
    name: key of the student.
    home: its folder, where it has experts; None where it has none.
    """
    model = LanguageModel(arm.name, student, experiment.language_model.tokenizer, name)
    request = predict.Request(arm.base.mode, after_prompt=arm.after_prompt)
    answerer = replace(experiment.teacher, language_model=model)
    experts = load_experts(home / EXPERTS, answerer) if home else {}
    documents, max_tokens = experiment.test_documents, experiment.plan.max_tokens
    return arm.answers(AnsweringStudent(answerer, documents, experiment.index, request, max_tokens, experts, desc))


def read(home: Path, arm: str, seed: int) -> measures.Outcome:
    """The outcome of a student that `teach` kept."""
    with named_if_damaged(home / OUTCOME):
        stored = dict(json.loads((home / OUTCOME).read_text("utf-8")))
    names = ("answers", "cots", "steps", "chosen_step", "tokens", "seconds", "step_seconds", "answer_seconds", "loss")
    values = {measure: np.array(scores) for measure, scores in stored["values"].items()}
    return measures.Outcome(arm, seed, values, **{name: stored[name] for name in names})
