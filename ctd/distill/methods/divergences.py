"""Divergences between the teacher's and the student's distributions over the next token."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, logaddexp

from ctd.distill.losses import Divergence, TokenDistillation
from ctd.distill.methods.method import Course
from ctd.distill.methods.token_by_token import Seen, kl_divergence
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


def jensen_shannon(course: Course, beta: float = 0.5) -> Loss:
    """The generalised Jensen-Shannon divergence: beta KL(teacher || M) + (1 - beta) KL(student || M).

    M is beta times the teacher's distribution plus 1 - beta times the student's, as in TRL. It is GKD without samples
    of the student.

    Source: Agarwal et al. (2024), arXiv:2306.13649, equation 1 and lambda = 0.
    """
    return distillation(course, "jsd", beta)


def skew(seen: Seen, alpha: float = 0.1) -> Float[Tensor, " m"]:
    """KL of the teacher's distribution from alpha times itself plus 1 - alpha times the student's.

    alpha: share of the teacher in the mixture; the default is DistiLLM's.
    Raises ValueError for one outside 0 .. 1.

    Source: Ko et al. (2024), arXiv:2402.03898, the skew KLD, without samples of the student.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1 (both excluded), got {alpha}")
    mixture = logaddexp(seen.teacher_log_p + math.log(alpha), seen.log_p + math.log1p(-alpha))
    return kl_divergence(seen.teacher_log_p, mixture)
