"""An arm of your own beside cot: the worked example of the page "Add your own arm"."""

import math

import torch

from ctd.data import readers
from ctd.distill import pool, tables
from ctd.distill.experiment import Plan
from ctd.distill.methods import METHODS, Arm, Method, Seen
from ctd.distill.prepare import prepare
from ctd.reasoning import teachers
from ctd.retrieval import encoders


def skewed(seen: Seen, share: float = 0.1) -> torch.Tensor:
    """KL of the teacher's distribution from a mixture of both."""
    mixture = torch.logaddexp(seen.teacher_log_p + math.log(share), seen.log_p + math.log1p(-share))
    return (seen.teacher_log_p.exp() * (seen.teacher_log_p - mixture)).sum(-1)


MINE = Method(tokens=skewed, needs=frozenset({"distribution"}), source="my own", known="ours")


def small_experiment(plan):
    """What all arms share: the organism's traces about generated documents."""
    task, index = teachers.with_topics(readers.load("organism"), encoders.load("wordllama"), 0)
    return prepare(teachers.load("organism"), task, index, plan)


def compare(experiment, seeds, folder=None, n_workers=0):
    """Students of both arms, and by how much mine is above cot."""
    arms = [Arm("cot", "cot"), Arm("mine", "skewed"), Arm("mine, 0.3", "skewed", settings=(("share", 0.3),))]
    outcomes = pool.run(experiment, arms, seeds, folder, n_workers)
    return tables.table(outcomes), tables.gains(outcomes, "cot", "token_probability")


if __name__ == "__main__":
    METHODS["skewed"] = MINE
    every_measure, gain = compare(small_experiment(Plan(n_traces=64, n_steps=60, n_test=40)), seeds=[0, 1])
    print(every_measure.to_string(), gain.to_string(), sep="\n\n")
