"""What a step of each way of teaching costs beside a step on the text alone.

The same student and the same batches throughout; steps of the ways in turn, medians are compared. "live" runs the
teacher in every step; the other ways use what was computed of it once. It also prints how many of the tokens are
padding, and how far the gradients of stored and live states are apart. `training.py` has the steps of TRL's trainers.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctd.data import readers
from ctd.distill import memory, methods, students, train
from ctd.distill.examples import Example, batches, collate
from ctd.distill.experiment import Experiment, Plan
from ctd.distill.methods import Arm
from ctd.distill.prepare import prepare
from ctd.distill.settings import Settings
from ctd.reasoning import teachers
from ctd.retrieval import encoders

WAYS = ("cot", "mechanistic", "fkl", "fkl live", "rkl", "rkl live")


def main(
    teacher: Annotated[str, typer.Option(help="a teacher's name, folder or id")] = "organism",
    dataset: Annotated[str, typer.Option(help="its task")] = "organism",
    layers: Annotated[int, typer.Option(min=1, help="of the student")] = 3,
    batch_tokens: Annotated[int, typer.Option(min=64, help="tokens of a step")] = 2048,
    traces: Annotated[int, typer.Option(min=2, help="traces to draw batches from")] = 64,
    heads: Annotated[int, typer.Option(min=1, help="of each phase that are taught")] = 4,
    topic_depth: Annotated[int, typer.Option(min=0, help="level of the tree whose nodes are topics")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="passes over the batches; medians are compared")] = 5,
) -> None:
    """Time one step of each way in turn, again and again, and print the ratio of its median to a step on the text."""
    torch.set_num_threads(1)
    task, index = teachers.with_topics(readers.load(dataset), encoders.load("wordllama"), 0)
    plan = Plan(
        layers=layers, n_traces=traces, batch_tokens=batch_tokens, n_heads=heads, n_test=2, topic_depth=topic_depth
    )
    experiment = prepare(teachers.load(teacher), task, index, plan)
    examples = methods.trace_examples(experiment)
    steps = batches(examples, Settings(batch_tokens=batch_tokens))
    with memory.keep_freed():
        seconds = timed({name: taught(experiment, name) for name in WAYS}, examples, steps, runs)
    show(f"{teacher}, {layers} layers, {batch_tokens} tokens a step", seconds, "cot")
    padded = sum(collate(examples, rows).ids.numel() for rows in steps)
    Console().print(f"padding: {1 - sum(len(example.ids) for example in examples) / padded:.1%} of the tokens")
    for name in ("fkl", "rkl"):
        live, stored = (gradient(taught(experiment, way), examples, steps[0]) for way in (f"{name} live", name))
        Console().print(f"gradient of {name}: {(stored - live).norm() / live.norm():.1e} from that of a live teacher")


def taught(experiment: Experiment, way: str) -> train.Trainee:
    """A new student with the loss of a way of teaching."""
    name, _, live = way.partition(" ")
    student = students.shallower(experiment.language_model.model, experiment.plan.layers).train()
    loss = Arm(name, name).loss(replace(experiment, live=bool(live)), student)
    return train.Trainee(student, loss, experiment.mixed)


def timed(
    trainees: dict[str, train.Trainee], examples: Sequence[Example], steps: Sequence[list[int]], runs: int
) -> dict[str, list[float]]:
    """Seconds a token of every step of each way, in turn; those of the first pass over the batches are left out."""
    seconds: dict[str, list[float]] = {name: [] for name in trainees}
    for run in track(range(runs + 1), description="timing"):
        for rows in steps:
            batch = collate(examples, rows)
            for name, trainee in trainees.items():
                began = time.perf_counter()
                trainee(batch).backward()
                trainee.zero_grad()
                if run:
                    seconds[name].append((time.perf_counter() - began) / batch.ids.numel())
    return seconds


def gradient(trainee: train.Trainee, examples: Sequence[Example], rows: list[int]) -> torch.Tensor:
    """The gradient of a batch, all weights in a row."""
    trainee(collate(examples, rows)).backward()
    return torch.cat([weight.grad.flatten() for weight in trainee.model.parameters() if weight.grad is not None])


def show(title: str, seconds: dict[str, list[float]], base: str) -> None:
    """A table of medians, and of their ratio to the base's."""
    table = Table("way", "tokens/s", f"time, against {base}", title=title)
    plain = statistics.median(seconds[base])
    for name, took in seconds.items():
        median = statistics.median(took)
        table.add_row(name, f"{1 / median:,.0f}", f"{median / plain:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
