"""What the teacher's heads of both phases compute, beside the base loss."""

from __future__ import annotations

from ctd.distill import loss_forms, losses
from ctd.distill.controls import CONTROLS
from ctd.distill.methods.method import Course
from ctd.distill.token_loss import Loss


def mechanistic(course: Course) -> Loss:
    """The base loss, and what the teacher's heads of both phases compute, or a control in their place.

    Source: the paper, arXiv:2606.06840; the forms of its terms are our definition.
    """
    experiment, student = course.experiment, course.student
    student_heads = experiment.student_heads(student)
    signals = CONTROLS[course.control](experiment, lambda: student_heads, course.draw)
    traces = [example.trace for example in course.examples]
    every = traces == list(range(len(experiment.annotated_traces)))
    return losses.Mechanistic(
        [experiment.annotated_traces[trace] for trace in traces],
        signals if every else [signals[trace] for trace in traces],
        student_heads,
        course.weights,
        loss_forms.write_term(course.forms.write, experiment.language_model.model, student, experiment.shares_basis),
        course.anneal_fraction,
        course.base_loss,
        course.forms,
    )
