"""Students that are kept, asked again: for the probabilities of their answers, and for answers that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ctd.cache import cache_dir
from ctd.distill import teach
from ctd.distill.experiment import Experiment
from ctd.distill.methods import Arm
from ctd.distill.methods.answering import load_student
from ctd.reasoning import predict
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher


def language_model(experiment: Experiment, arm: Arm, seed: int, folder: Path | None = None) -> LanguageModel:
    """A student that `pool.run` has taught.

    folder: where students are kept; the cache's own by default.
    """
    home = _home(experiment, arm, seed, folder)
    return load_student(home, experiment.language_model, arm.name, home.name)


def _home(experiment: Experiment, arm: Arm, seed: int, folder: Path | None) -> Path:
    return (folder or cache_dir("students")) / teach.key(experiment, arm, seed)


def as_teacher(experiment: Experiment, arm: Arm, seed: int, folder: Path | None = None) -> Teacher:
    """The same, asked as the teacher is."""
    return replace(experiment.teacher, language_model=language_model(experiment, arm, seed, folder))


def answers(experiment: Experiment, arm: Arm, seed: int, folder: Path | None = None) -> list[Prediction]:
    """What a student answered about the test documents, with the log-probabilities of its labels."""
    student, home = language_model(experiment, arm, seed, folder), _home(experiment, arm, seed, folder)
    return teach.answers_of(experiment, arm, student.model, f"{arm.name}, seed {seed}, answers", student.key, home)


def draw_answers(
    experiment: Experiment, answerer: Teacher, n_documents: int, n_samples: int, arm: Arm | None = None
) -> list[list[Prediction]]:
    """Answers that a model draws at temperature 1, by the document.

    answerer: the model.
    n_documents: the first test documents.
    n_samples: answers to each.
    arm: how a student is asked; None for the teacher.
    """
    request = predict.Request(
        arm.base.mode if arm else "trace", temperature=1.0, after_prompt=arm.after_prompt if arm else ""
    )
    by_sample: Sequence[list[Prediction]] = [
        predict.reason(
            answerer,
            experiment.test_documents[:n_documents],
            experiment.index,
            request,
            max_tokens=experiment.plan.max_tokens,
            seed=number,
            desc=f"{arm.name if arm else 'the teacher'}: sample {number + 1} of {n_samples}",
        )
        for number in range(n_samples)
    ]
    return [list(samples) for samples in zip(*by_sample, strict=True)]


def draw_answers_of_student(
    experiment: Experiment, arm: Arm, seed: int, n_documents: int, n_samples: int, folder: Path | None = None
) -> list[list[Prediction]]:
    """The same of a student."""
    return draw_answers(experiment, as_teacher(experiment, arm, seed, folder), n_documents, n_samples, arm)
