"""What does a training step take beside TRL: on texts (SFTTrainer), and on a teacher's distributions (GKDTrainer)?

Whole steps, optimizer included, of the same student over the same texts, on one thread in float32. GKD is given the
texts and writes none itself (lmbda 0); its divergence is the generalised Jensen-Shannon divergence, as is ours. TRL is
optional: `pip install .[crosscheck]`; without it only our own steps are timed.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from ctd.book import benchmarks
from ctd.distill import students, train
from ctd.distill.examples import Example
from ctd.distill.losses import TokenDistillation
from ctd.distill.settings import Settings
from ctd.distill.token_loss import Loss, token_loss
from ctd.reasoning import models
from ctd.reasoning.models import LanguageModel

BETA = 0.5  # of the divergence
WARM = 1  # steps that are not counted: the first ones allocate
TRAINERS = {"text": "SFTTrainer", "teacher": "GKDTrainer"}  # by what is learned from


def texts(n: int, length: int) -> list[Example]:
    """Random tokens, of which the first quarter is the prompt: what a step costs does not depend on them."""
    ids = torch.randint(300, 4000, (n, length), generator=torch.Generator().manual_seed(0))
    return [Example(row, length // 4) for row in ids.tolist()]


def own_steps(student: Any, loss: Loss, examples: Sequence[Example], rows: int, n: int) -> list[float]:
    """Processor seconds of each of n steps of `ctd.distill.train`."""
    trainer = train.Trainer(student, loss, Settings(batch_tokens=rows * len(examples[0].ids)), None)
    trainer.prepare()
    seconds = []
    with trainer.training():
        for step in range(n):
            began = time.process_time()
            trainer.step(examples, range(step * rows, (step + 1) * rows), step, n)
            seconds.append(time.process_time() - began)
    return seconds


def trl_steps(
    student: Any, teacher: LanguageModel | None, tokenizer: Any, examples: Sequence[Example], rows: int, n: int
) -> list[float]:
    """Processor seconds of each of n steps of TRL's trainer: GKDTrainer with a teacher, else SFTTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.began, self.seconds = 0.0, list[float]()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.process_time() - self.began)

    settings: dict[str, Any] = {
        "per_device_train_batch_size": rows, "max_steps": n, "use_cpu": True, "bf16": False, "max_length": None,
        "save_strategy": "no", "report_to": [], "logging_steps": 10**9, "gradient_checkpointing": False,
        "dataloader_drop_last": True, "adam_beta2": 0.95, "disable_tqdm": True,
    }  # fmt: skip
    clock = Clock()
    common: dict[str, Any] = {"processing_class": tokenizer, "callbacks": [clock]}
    with tempfile.TemporaryDirectory() as folder:
        if teacher is None:
            masks = [{"input_ids": [*text.ids], "completion_mask": _learned(text)} for text in examples]
            SFTTrainer(student, SFTConfig(folder, **settings), train_dataset=Dataset.from_list(masks), **common).train()
        else:
            from trl.experimental.gkd import GKDConfig, GKDTrainer

            rows_of_ids = Dataset.from_list([{"ids": [*text.ids], "learned": _learned(text)} for text in examples])
            gkd = GKDConfig(folder, lmbda=0.0, beta=BETA, **settings)
            GKDTrainer(
                student, copy.deepcopy(teacher.model), gkd, data_collator=_together, train_dataset=rows_of_ids, **common
            ).train()
    return clock.seconds


def _learned(example: Example) -> list[int]:
    return [int(place >= example.n_prompt) for place in range(len(example.ids))]


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids, learned = (torch.tensor([row[name] for row in rows]) for name in ("ids", "learned"))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.where(learned > 0, -100)}


def turn(teacher: LanguageModel, layers: int, rows: int, length: int, n: int) -> Iterator[tuple[str, str, float]]:
    """What is learned from, who teaches, and the median of n steps after those that warm up."""
    examples = texts((n + WARM) * rows, length)
    for kind, trainer in TRAINERS.items():
        loss = token_loss if kind == "text" else TokenDistillation(teacher.model, "jsd", BETA)
        if find_spec("trl"):
            live = None if kind == "text" else teacher
            student = students.shallower(teacher.model, layers)
            yield (
                kind,
                f"TRL {trainer}",
                median(trl_steps(student, live, teacher.tokenizer, examples, rows, n + WARM)[WARM:]),
            )
        student = students.shallower(teacher.model, layers)
        yield kind, f"ctd, {kind}", median(own_steps(student, loss, examples, rows, n + WARM)[WARM:])


def main(
    layers: Annotated[int, typer.Option(min=1, help="of the student")] = 3,
    length: Annotated[int, typer.Option(min=8, help="tokens of a text")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="timed in every turn")] = 3,
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = benchmarks.RUNS,
    out: Annotated[Path, typer.Option(help="folder for training.json")] = benchmarks.FOLDER,
) -> None:
    """Time steps of more and more texts in turns, and keep the rows."""
    torch.set_num_threads(1)
    teacher = models.load("organism", dtype="float32")
    measured: list[benchmarks.Row] = []
    for rows in (2, 8):
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(runs):
            for kind, way, took in turn(teacher, layers, rows, length, steps):
                seconds.setdefault((kind, way), []).append(took)
        for kind, trainer in TRAINERS.items():
            of_kind = {way: took for (name, way), took in seconds.items() if name == kind}
            work = benchmarks.Work("training", "tokens", rows * length)
            peer = f"TRL {trainer}" if find_spec("trl") else f"ctd, {kind}"
            measured += benchmarks.of_turns(work, of_kind, peer)
    benchmarks.keep("training", measured, out)


if __name__ == "__main__":
    typer.run(main)
