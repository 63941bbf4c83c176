"""What a step of each way of teaching costs beside a step on the text alone, and that beside a step of TRL's trainer.

The same student and the same batches throughout; steps of the ways in turn, medians are compared. TRL is an optional
package: `pip install .[crosscheck]`.
"""

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctd.data import readers
from ctd.distill import methods, students, train
from ctd.distill.examples import Example, batches, collate
from ctd.distill.experiment import Plan, prepare
from ctd.distill.methods import METHODS, Arm
from ctd.distill.settings import Settings
from ctd.reasoning import teachers
from ctd.retrieval import encoders


def main(
    teacher: Annotated[str, typer.Option(help="a teacher's name, folder or id")] = "organism",
    dataset: Annotated[str, typer.Option(help="its task")] = "organism",
    layers: Annotated[int, typer.Option(min=1, help="of the student")] = 3,
    batch_tokens: Annotated[int, typer.Option(min=64, help="tokens of a step")] = 2048,
    traces: Annotated[int, typer.Option(min=2, help="traces to draw batches from")] = 64,
    heads: Annotated[int, typer.Option(min=1, help="of each phase that are taught")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="passes over the batches; medians are compared")] = 5,
) -> None:
    """Time one step of each way in turn, again and again, and print the ratio of its median to a step on the text."""
    torch.set_num_threads(1)
    task, index = teachers.with_topics(readers.load(dataset), encoders.load("wordllama"), 0)
    plan = Plan(layers=layers, n_traces=traces, batch_tokens=batch_tokens, n_heads=heads)
    experiment = prepare(teachers.load(teacher), task, index, plan)
    language_model, mixed = experiment.language_model, experiment.mixed
    examples = methods.trace_examples(experiment)
    steps = batches(examples, Settings(batch_tokens=batch_tokens))
    prepared = {}
    for name in ("cot", "mechanistic", "fkl"):
        student = students.shallower(language_model.model, layers).train()
        prepared[name] = train.Trainee(student, METHODS[name].loss(experiment, Arm(name, name), student), mixed)
    seconds: dict[str, list[float]] = {name: [] for name in prepared}
    for run in track(range(runs + 1), description="timing"):
        for rows in steps:
            batch = collate(examples, rows)
            for name, taught in prepared.items():
                began = time.perf_counter()
                taught(batch).backward()
                taught.zero_grad()
                if run:
                    seconds[name].append((time.perf_counter() - began) / batch.ids.numel())
    show(f"{teacher}, {layers} layers, {batch_tokens} tokens a step", seconds, "cot")
    if importlib.util.find_spec("trl"):
        beside_trl(language_model, examples, layers, batch_tokens, runs * len(steps), mixed)
    else:
        Console().print("TRL is not installed (pip install .[crosscheck]): not compared with its trainer")


def beside_trl(
    language_model: Any, examples: Sequence[Example], layers: int, batch_tokens: int, n: int, mixed: bool
) -> None:
    """Whole steps, optimizer included, of `distill.train` and of SFTTrainer, on texts cut to one length."""
    length = sorted(len(one.ids) for one in examples)[len(examples) // 4]
    cut = [one._replace(ids=one.ids[:length]) for one in examples if length <= len(one.ids)]
    cut = [one for one in cut if one.n_prompt < length - 1]
    rows = min(batch_tokens // length, len(cut))
    seconds: dict[str, list[float]] = {"SFTTrainer": [], "ctd.distill.train": []}
    for _ in range(2):  # in turn; the first steps of each warm up
        for name, step in (("SFTTrainer", trl_steps), ("ctd.distill.train", own_steps)):
            student = students.shallower(language_model.model, layers)
            seconds[name] += [
                one / (rows * length) for one in step(student, language_model.tokenizer, cut, rows, n, mixed)[3:]
            ]
    show(f"beside TRL: {rows} texts of {length} tokens a step", seconds, "SFTTrainer")


def own_steps(student: Any, _: Any, examples: Sequence[Example], rows: int, n: int, mixed: bool) -> list[float]:
    """Seconds of each of n steps of `distill.train`."""
    tokens = rows * len(examples[0].ids)
    settings = Settings(batch_tokens=tokens, mixed=mixed, epochs=n, n_steps=n, save_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        log = train.train(student, examples, settings, Path(folder))
    return [row["seconds"] for row in log if row["tokens"] == tokens]


def trl_steps(student: Any, tokenizer: Any, examples: Sequence[Example], rows: int, n: int, mixed: bool) -> list[float]:
    """Seconds of each of n steps of TRL's SFTTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.began, self.seconds = 0.0, list[float]()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    told = [
        {"input_ids": list(one.ids), "completion_mask": [int(at >= one.n_prompt) for at in range(len(one.ids))]}
        for one in examples
    ]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        asked = SFTConfig(
            folder, per_device_train_batch_size=rows, max_steps=n, bf16=mixed, use_cpu=True, max_length=None,
            save_strategy="no", report_to=[], logging_steps=10**9, gradient_checkpointing=False,
            dataloader_drop_last=True, adam_beta2=0.95,
        )  # fmt: skip
        SFTTrainer(
            student, asked, train_dataset=Dataset.from_list(told), processing_class=tokenizer, callbacks=[clock]
        ).train()
    return clock.seconds


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
