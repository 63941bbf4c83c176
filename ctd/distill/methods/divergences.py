"""Divergences between the teacher's and the student's distributions over the next token."""

from __future__ import annotations

from ctd.distill.losses import Divergence, TokenDistillation
from ctd.distill.methods.method import Course
from ctd.distill.token_loss import Loss


def distillation(course: Course, divergence: Divergence, beta: float = 0.1) -> Loss:
    """A divergence from the teacher's distribution over the next token (see `losses.TokenDistillation`)."""
    experiment = course.experiment
    states = experiment.teacher_states(course.examples)
    return TokenDistillation(experiment.language_model.model, divergence, beta, states)


def forward_kl(course: Course) -> Loss:
    """KL(teacher || student) over the next token.

    Source: Hinton et al. (2015), arXiv:1503.02531.
    """
    return distillation(course, "fkl")


def reverse_kl(course: Course) -> Loss:
    """KL(student || teacher) over the next token.

    Source: Gu et al. (2024), arXiv:2306.08543, without its samples of the student.
    """
    return distillation(course, "rkl")
