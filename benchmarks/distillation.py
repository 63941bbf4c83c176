"""What a step of each way of teaching costs beside a step on the text alone: the same student, the same batches."""

import statistics
import time
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctd import arms, datasets, distill, encoders, reasoning, students
from ctd.losses import Weights


def main(
    teacher: Annotated[str, typer.Option(help="a teacher's name, folder or id")] = "organism",
    dataset: Annotated[str, typer.Option(help="its task")] = "organism",
    layers: Annotated[int, typer.Option(min=1, help="of the student")] = 3,
    batch_tokens: Annotated[int, typer.Option(min=64, help="tokens of a step")] = 2048,
    traces: Annotated[int, typer.Option(min=2, help="traces to draw batches from")] = 64,
    runs: Annotated[int, typer.Option(min=1, help="passes over the batches; medians are compared")] = 5,
) -> None:
    """Time one step of each way in turn, again and again, and print the ratio of its median to a step on the text."""
    torch.set_num_threads(1)
    task, index = reasoning.with_topics(datasets.load(dataset), encoders.load("wordllama"), 0)
    plan = arms.Plan(layers=layers, n_traces=traces, batch_tokens=batch_tokens)
    of = arms.school(reasoning.load(teacher), task, index, plan)
    ways = [arms.Arm("cot", "cot"), arms.Arm("mechanistic", "mechanistic", Weights()), arms.Arm("fkl", "fkl")]
    examples = of.examples(ways[0])
    batches = distill.batches(examples, distill.Settings(batch_tokens=batch_tokens))
    mixed = encoders.computes_bfloat16("cpu")
    prepared: dict[str, tuple[Any, Any]] = {}
    for way in ways:
        student = students.shallower(of.reasoner.model, layers).train()
        prepared[way.name] = student, distill.Taught(student, arms.loss_of(of, way, student), mixed)
    seconds: dict[str, list[float]] = {name: [] for name in prepared}
    for run in track(range(runs + 1), description="timing"):
        for rows in batches:
            batch = distill.collate(examples, rows)
            for name, (student, loss) in prepared.items():
                began = time.perf_counter()
                loss(student, batch).backward()
                student.zero_grad()
                if run:
                    seconds[name].append((time.perf_counter() - began) / batch.ids.numel())
    table = Table("way", "tokens/s", "ratio to cot", title=f"{teacher}, {layers} layers, {batch_tokens} tokens a step")
    plain = statistics.median(seconds["cot"])
    for name, took in seconds.items():
        median = statistics.median(took)
        table.add_row(name, f"{1 / median:,.0f}", f"{median / plain:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
