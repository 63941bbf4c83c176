"""Ways to teach a student: what it learns from, what it minimises, and how it answers.

Notes: all arms of an experiment begin with the same student and see the same traces, in the order of the seed, for the
same number of steps. They differ in their method alone. A new method is a function and a line in `METHODS`. This module
imports no single method, so that the code of one is in the keys of its own students alone.
"""

from ctd.distill.methods.arm import STANDARD, Arm, arms, base_losses, check, is_packaged, read_teacher
from ctd.distill.methods.method import Course, Method, Stage
from ctd.distill.methods.registry import METHODS
from ctd.distill.methods.texts import answer_examples, trace_examples
from ctd.distill.methods.token_by_token import Seen

__all__ = [
    "METHODS", "STANDARD", "Arm", "Course", "Method", "Seen", "Stage", "answer_examples", "arms", "base_losses",
    "check", "is_packaged", "read_teacher", "trace_examples",
]  # fmt: skip
