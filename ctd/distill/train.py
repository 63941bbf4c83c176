"""Teach a model from texts: one training loop, for the teachers and for the students.

Notes: the loss is summed over a batch's target tokens and divided by their number. Batches are a function of the
examples and the seed alone, so a run that was killed goes on where its checkpoint stands and ends with the weights it
would have had. Started by `accelerate launch`, every process takes its share of each batch, and the sum is the same.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from math import ceil, cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from jaxtyping import Float
from torch import Tensor, nn

from ctd import progress
from ctd.cache import digest
from ctd.distill import checkpoint, memory
from ctd.distill.checkpoint import Log
from ctd.distill.early_stopping import ended, looks_since_lowest
from ctd.distill.examples import IGNORED, Batch, Example, batches, check, collate
from ctd.distill.lora import MergedLoRA
from ctd.distill.settings import Settings
from ctd.distill.stateful import parts_of
from ctd.distill.token_loss import Loss, check_head, token_loss


def train(
    model: Any,
    examples: Sequence[Example],
    settings: Settings,
    folder: Path,
    adapters: MergedLoRA | None = None,
    validation: Sequence[Example] = (),
    loss: Loss = token_loss,
    desc: str = "training",
) -> Log:
    """Train a model in place and leave it in eval mode.

    examples: what is learned from.
    folder: gets the log (log.csv) and the checkpoint. A run goes on from a checkpoint of the same examples, settings
        and shapes; model and loss must be those that it was begun with.
    adapters: what is trained; None for every weight that requires a gradient.
    validation: examples whose mean loss is noted now and then.
    loss: summed over a batch's targets. Its parameters are trained too, and its state (see `ctd.distill.stateful`) is
        in the checkpoint. What is random in it depends on seed and step alone.
    desc: what the progress bar says.
    Returns the log, a row a step; the validation loss is NaN in rows without a look.
    Raises ValueError without examples, for one that leaves nothing to learn, for too many steps, for a checkpoint of
    another run, for a model that `token_loss` does not fit, for patience without validation, when loss or gradient is
    no longer a number, for adapters under FSDP, and for what `processes` refuses.
    """
    check(examples)
    if settings.patience and not validation:
        raise ValueError("patience needs validation examples, whose loss it watches: pass some, or set it to 0")
    if loss is token_loss:
        check_head(model, examples[0])
    steps = _planned(examples, settings)
    trainer = Trainer(model, loss, settings, adapters)
    identity = _identity(examples, settings, trainer.trained)
    trainer.prepare()
    log = checkpoint.resume(folder, identity, trainer.trained, trainer.optimizer, loss)
    bar = progress.bar(trainer.writes, desc=desc, unit=" steps", initial=len(log), total=len(steps))
    with trainer.training(), memory.keep_freed(), bar:
        for step in range(len(log), len(steps)):
            if ended(log, settings.patience):
                break
            row = trainer.step(examples, steps[step], step, len(steps))
            last = step + 1 == len(steps)
            looks = len(validation) and (last or (step + 1) % settings.check_every == 0)
            row["validation"] = _mean(trainer.trainee, validation, settings.batch_tokens) if looks else float("nan")
            log.append(row)
            bar.update()
            speed = f"{row['tokens'] / row['seconds']:.0f}"
            bar.set_postfix(loss=f"{row['loss']:.3f}", tokens_a_second=speed)
            if settings.patience and looks_since_lowest(log) == 0:
                checkpoint.save_best(folder, trainer.trained, trainer.writes)
            if last or ended(log, settings.patience) or (step + 1) % settings.save_every == 0:
                checkpoint.save(folder, identity, trainer.trained, trainer.optimizer, log, trainer.writes, loss)
    if settings.patience:
        trainer.take_best(folder)
    trainer.give_back()
    return log


def _planned(examples: Sequence[Example], settings: Settings) -> list[list[int]]:
    """The examples of each step to be taken."""
    steps = batches(examples, settings)
    if settings.n_steps > len(steps):
        raise ValueError(
            f"n_steps must be between 0 (all) and {len(steps)} in {settings.epochs} epochs, got {settings.n_steps}"
        )
    return steps[: settings.n_steps or None]


class Trainer:
    """A model in training with its optimizer, on one process or several.

    model: the caller's, which has the trained weights after `give_back`.
    loss: what is minimised; its parameters are trained too.
    adapters: what is trained instead of the model's weights, or None.
    Raises ValueError for adapters under FSDP, and for what `processes` refuses.
    """

    def __init__(self, model: Any, loss: Loss, settings: Settings, adapters: MergedLoRA | None) -> None:
        self.accelerator = processes()
        if self.accelerator.is_fsdp2 and adapters is not None:
            raise ValueError("adapters are merged into whole weights, which FSDP cuts: launch without --use_fsdp")
        self.model, self.settings, self.adapters = model, settings, adapters
        self.device = next(model.parameters()).device
        # FSDP would leave pieces of the caller's own model.
        self.copy = copy.deepcopy(model) if self.accelerator.is_fsdp2 else model
        of_loss = list(loss.to(self.device).parameters()) if isinstance(loss, nn.Module) else []
        of_model = [p for p in (self.copy if adapters is None else adapters).parameters() if p.requires_grad]
        self.trained: list[Any] = of_model + of_loss
        self.stateful = parts_of(loss)
        self.trainee: nn.Module = Trainee(self.copy, loss, settings.mixed)
        self.optimizer: Any = torch.optim.AdamW(
            self.trained, settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay, fused=True
        )

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress."""
        return bool(self.accelerator.is_main_process)

    def prepare(self) -> None:
        """Spread model and optimizer over the processes."""
        self.trainee, self.optimizer = self.accelerator.prepare(self.trainee, self.optimizer)
        self.trained = [weight for group in self.optimizer.param_groups for weight in group["params"]]

    @contextmanager
    def training(self) -> Iterator[None]:
        """The model in training mode inside, from its own random numbers on."""
        self.trainee.train()
        self._merge()
        with torch.random.fork_rng():
            yield

    def step(self, examples: Sequence[Example], rows: Sequence[int], number: int, n_steps: int) -> dict[str, float]:
        """Take one step; its row of the log.

        Raises ValueError where loss or gradient is no number, and leaves the weights as they are.
        """
        began = time.perf_counter()
        torch.manual_seed(self.settings.seed + number)
        rate = learning_rate(number, n_steps, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        passes = _passes(examples, rows, self.settings.pass_tokens, self.accelerator.num_processes, self.device)
        passes = [batch._replace(done=number / n_steps) for batch in passes]
        mean = _backward(self.accelerator, self.trainee, passes)
        if self.adapters is not None:
            self.adapters.take_gradients()
        norm = checkpoint.whole(torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip))
        if not torch.isfinite(mean + norm):
            raise ValueError(
                f"the loss of step {number} is {mean.item()}, its gradient's norm {norm.item()}: lower learning_rate, "
                "or use float32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._merge()
        for part in self.stateful:
            noted = part.noted().to(self.device, torch.float32) if self.accelerator.num_processes > 1 else part.noted()
            part.update(self.accelerator.reduce(noted, "sum").tolist(), number / n_steps)
        tokens = sum(batch.ids.numel() for batch in passes if batch.n_targets)
        row = {"step": number, "tokens": tokens, "loss": mean.item(), "rate": rate, "norm": norm.item()}
        return row | {"seconds": time.perf_counter() - began}

    def take_best(self, folder: Path) -> None:
        """Take the weights with the lowest validation loss."""
        self.accelerator.wait_for_everyone()
        checkpoint.take_best(folder, self.trained)
        self._merge()

    def give_back(self) -> None:
        """Leave the trained weights in the caller's model, in eval mode."""
        if self.copy is not self.model:
            whole = [checkpoint.whole(weight) for weight in self.copy.parameters()]
            checkpoint.take(list(self.model.parameters()), whole)
        self.model.eval()

    def _merge(self) -> None:
        if self.adapters is not None:
            self.adapters.merge()


class Trainee(nn.Module):
    """Model and loss as one module, which several processes share. The loss may have parameters to be learned."""

    def __init__(self, model: nn.Module, loss: Loss, mixed: bool = False) -> None:
        super().__init__()
        self.model, self.loss, self.mixed = model, loss, mixed

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        with torch.autocast(batch.ids.device.type, torch.bfloat16) if self.mixed else nullcontext():
            return self.loss(self.model, batch)


def processes() -> Accelerator:
    """The processes that `accelerate launch` started, or this one alone: DDP, FSDP of version 2, or none.

    Raises ValueError for what else cuts weights into pieces.
    """
    accelerator = Accelerator(
        device_placement=False, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
    cut = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    if accelerator.distributed_type in cut and not accelerator.is_fsdp2:
        raise ValueError(
            f"{accelerator.distributed_type.value} cuts weights into pieces that the losses cannot read: launch with "
            "--multi_gpu, or with --use_fsdp --fsdp_version 2"
        )
    return accelerator


def _backward(accelerator: Accelerator, trainee: nn.Module, passes: Sequence[Batch]) -> Float[Tensor, ""]:
    """Add up the gradients of a step, each process those of its passes; the mean loss of a token over all of them."""
    n_targets = sum(batch.n_targets for batch in passes)
    of_process = passes[accelerator.process_index :: accelerator.num_processes]
    total = torch.zeros((), device=passes[0].ids.device)
    for place, batch in enumerate(of_process):
        # The processes' gradients are averaged, so that each must count for as many as they are.
        with nullcontext() if place + 1 == len(of_process) else accelerator.no_sync(trainee):
            mean = trainee(batch) / n_targets
            (mean * accelerator.num_processes).backward()
        total = total + mean.detach()
    return accelerator.reduce(total, "sum") if accelerator.num_processes > 1 else total


def _passes(
    examples: Sequence[Example], rows: Sequence[int], pass_tokens: int, n_processes: int, device: torch.device
) -> list[Batch]:
    """A step's rows in passes of at most `pass_tokens` when padded (or one row alone), as many for every process.

    Where there are too few rows for that, some passes have nothing to learn.
    """
    longest = max(len(examples[row].ids) for row in rows)
    n = ceil(len(rows) / max(1, pass_tokens // longest)) if pass_tokens else 1
    n = ceil(n / n_processes) * n_processes
    passes = [collate(examples, part.tolist(), device) for part in np.array_split(rows, n) if len(part)]
    idle = passes[-1]._replace(targets=torch.full_like(passes[-1].targets, IGNORED))
    return passes + [idle] * (n - len(passes))


@torch.no_grad()
def evaluate(
    model: Any,
    examples: Sequence[Example],
    batch_tokens: int = 4096,
    loss: Loss = token_loss,
    mixed: bool = False,
) -> float:
    """Mean of the loss over the target tokens, in nats.

    examples: what the loss is computed on.
    batch_tokens: tokens of a batch, padding counted.
    mixed: as in `Settings`.
    Raises ValueError without examples, or for a model that `token_loss` does not fit.
    """
    if not examples:
        raise ValueError("there is nothing to evaluate on: no example was given")
    if loss is token_loss:
        check_head(model, examples[0])
    return _mean(Trainee(model, loss, mixed).train(model.training), examples, batch_tokens)


@torch.no_grad()
def _mean(trainee: nn.Module, examples: Sequence[Example], batch_tokens: int) -> float:
    """Mean of the loss over the target tokens, in eval mode."""
    device = next(trainee.parameters()).device
    training = trainee.training
    trainee.eval()
    parts = [collate(examples, rows, device) for rows in batches(examples, Settings(batch_tokens=batch_tokens))]
    total = sum(trainee(batch).item() for batch in parts)
    trainee.train(training)
    return total / max(sum(batch.n_targets for batch in parts), 1)


def learning_rate(step: int, n_steps: int, settings: Settings) -> float:
    """The learning rate of a step."""
    falling = settings.decay * n_steps
    rise = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    fall = min(1.0, (n_steps - step) / falling) if falling else 1.0
    fraction = min(rise, fall if settings.fall == "linear" else (1 - cos(pi * fall)) / 2, 1.0)
    return settings.learning_rate * fraction


def _identity(examples: Sequence[Example], settings: Settings, trained: Sequence[Tensor]) -> str:
    """Digest of what makes a run: a checkpoint of another one is refused."""
    shapes = [list(weight.shape) for weight in trained]
    texts = (
        part
        for e in (*examples, *(e.paired for e in examples if e.paired))
        for part in (
            f"{e.n_prompt}{e.only_read or ''}{e.weights or ''}{e.value or ''}",
            np.array(e.ids, np.int64).tobytes(),
        )
    )
    return digest([json.dumps([asdict(settings), shapes]), *texts])
