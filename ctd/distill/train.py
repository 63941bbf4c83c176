"""Teach a model from texts: one training loop, for the teachers and for the students.

Notes: the loss is the cross-entropy of the target tokens, summed over a batch and divided by their number. Batches
are a function of the examples and the seed alone, so a run that was killed goes on where its checkpoint stands and
ends with the weights it would have had. Started by `accelerate launch`, every process takes its share of each batch,
and the sum is the same. b examples of a batch, s tokens, n targets, d dimensions, v words.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from math import ceil, cos, isnan, pi
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from tqdm.auto import tqdm

from ctd.cache import digest
from ctd.distill import checkpoint
from ctd.distill.lora import MergedLoRA
from ctd.reasoning import architecture

IGNORED = -100  # what cross_entropy leaves out
LOGITS_AT_ONCE = 256  # rows of the output layer: more do not stay in the processor's cache


class Example(NamedTuple):
    """Token ids of prompt and target in a row; the first `n_prompt` are given, the others are to be learned.

    only_read: spans of the target (first token, one past the last) that are read and not learned either.
    The first token is never learned: nothing stands before it.
    """

    ids: Sequence[int]
    n_prompt: int
    only_read: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Settings:
    """How to train: AdamW, betas 0.9 and 0.95.

    batch_tokens: tokens of one step, padding counted. learning_rate: the highest; it rises over the first
    `warmup_steps`, stays, and falls to zero over the last `decay` of the steps, in a line or as a cosine (`fall`).
    clip: norm of the gradient. shuffle: examples come in the order given, but for a shuffle within so many (1: as
    given). save_every, check_every: steps between checkpoints, and between looks at the validation examples.
    pass_tokens: of a batch, how many go through the model at once (gradient accumulation); 0 for all of them.
    patience: looks in a row without a lower validation loss after which training ends, and the weights of the lowest
    are taken; 0 never. mixed: bfloat16 where it loses little (autocast), weights stay as they are.
    Raises ValueError for a number out of range.
    """

    batch_tokens: int = 4096
    pass_tokens: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    decay: float = 0.3
    fall: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    epochs: int = 1
    shuffle: int = 512
    seed: int = 0
    save_every: int = 50
    check_every: int = 100
    patience: int = 0
    mixed: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "epochs", "shuffle", "save_every", "check_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("pass_tokens", "warmup_steps", "weight_decay", "seed", "patience"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {self.decay}")
        if self.fall not in ("linear", "cosine"):
            raise ValueError(f"fall must be linear or cosine, got {self.fall!r}")


class Batch(NamedTuple):
    """Examples side by side, padded on the right: nothing looks to the right, so no mask is needed.

    ids: padding is 0. targets: what should follow each token, -100 where nothing is learned.
    rows: which examples they are, in the order of `ids`. done: of the training's steps, the fraction taken before.
    """

    ids: Int[Tensor, "b s"]
    targets: Int[Tensor, "b s"]
    rows: tuple[int, ...]
    done: float = 0.0

    @property
    def n_targets(self) -> int:
        """How many tokens are learned."""
        return int((self.targets != IGNORED).sum())


Loss = Callable[[nn.Module, Batch], Tensor]  # summed over the batch's targets


def batches(examples: Sequence[Example], settings: Settings) -> list[list[int]]:
    """The examples of each step: about equally long, `batch_tokens` at most when padded (or one example alone)."""
    rng = np.random.default_rng(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        order = np.arange(len(examples))
        for start in range(0, len(order), settings.shuffle):
            rng.shuffle(order[start : start + settings.shuffle])
            window = sorted(order[start : start + settings.shuffle].tolist(), key=lambda row: len(examples[row].ids))
            groups: list[list[int]] = [[]]
            for row in window:
                if groups[-1] and (len(groups[-1]) + 1) * len(examples[row].ids) > settings.batch_tokens:
                    groups.append([])
                groups[-1].append(row)
            steps += [groups[place] for place in rng.permutation(len(groups))]
    return steps


def collate(examples: Sequence[Example], rows: Sequence[int], device: torch.device | str = "cpu") -> Batch:
    """The batch of some examples, as long as the longest of them."""
    longest = max(len(examples[row].ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    targets = np.full((len(rows), longest), IGNORED, np.int64)
    for place, row in enumerate(rows):
        tokens, n_prompt, only_read = examples[row]
        ids[place, : len(tokens)] = tokens
        first = max(n_prompt, 1)
        targets[place, first - 1 : len(tokens) - 1] = tokens[first:]
        for start, end in only_read:
            targets[place, start - 1 : end - 1] = IGNORED
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device), tuple(rows))


def token_loss(model: Any, batch: Batch) -> Tensor:
    """Summed cross-entropy of a batch's targets (nats), output layer by pieces to keep memory small.

    For models whose logits are the last hidden state times one matrix; `train` and `evaluate` refuse others.
    """
    hidden = model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    wanted = batch.targets != IGNORED
    weight = model.get_output_embeddings().weight
    weight = weight if torch.is_grad_enabled() else weight.detach()
    return _Head.apply(hidden[wanted], batch.targets[wanted], weight)


class _Head(torch.autograd.Function):
    """Output layer and cross-entropy, some rows at a time; the gradient is computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Float[Tensor, "n d"], targets: Int[Tensor, " n"], weight: Float[Tensor, "v d"]
    ) -> Float[Tensor, ""]:
        of_hidden, _, of_weight = ctx.needs_input_grad
        exact = torch.promote_types(weight.dtype, torch.float32)
        total, grads = hidden.new_zeros((), dtype=exact), []
        grad_weight = torch.zeros_like(weight, dtype=exact) if of_weight else None
        for rows, wanted in zip(hidden.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE), strict=True):
            log_p = (rows @ weight.T).to(exact).log_softmax(-1)
            total -= log_p.gather(1, wanted[:, None]).sum()
            if of_hidden or of_weight:
                p = log_p.exp_()
                p.scatter_add_(1, wanted[:, None], p.new_full((len(wanted), 1), -1.0))
            if of_hidden:
                grads.append(p.to(weight.dtype) @ weight)
            if grad_weight is not None:
                grad_weight += p.T @ rows.to(exact)
        ctx.grads = torch.cat(grads) if grads else None
        ctx.grad_weight = grad_weight.to(weight.dtype) if grad_weight is not None else None
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (by,) = upstream
        hidden, weight = (None if grad is None else (grad * by).to(grad.dtype) for grad in (ctx.grads, ctx.grad_weight))
        return hidden, None, weight


class Taught(nn.Module):
    """Model and loss as one module: what several processes share. Parameters of the loss are learned along."""

    def __init__(self, model: nn.Module, loss: Loss, mixed: bool = False) -> None:
        super().__init__()
        self.model, self.loss, self.mixed = model, loss, mixed

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        with torch.autocast(batch.ids.device.type, torch.bfloat16) if self.mixed else nullcontext():
            return self.loss(self.model, batch)


def train(
    model: Any,
    examples: Sequence[Example],
    settings: Settings,
    folder: Path,
    adapters: MergedLoRA | None = None,
    validation: Sequence[Example] = (),
    loss: Loss = token_loss,
    n_steps: int = 0,
    desc: str = "training",
) -> list[dict[str, float]]:
    """Train in place; returns the log, a row each step, which `folder`/log.csv keeps. Leaves the model in eval mode.

    adapters: what is trained; None for every weight that requires a gradient. validation: examples whose mean loss
    the log notes now and then (NaN in the other rows). loss: summed over a batch's targets; the parameters of one that
    has some are trained along; its random numbers (dropout) depend on seed and step alone. n_steps: steps to take of
    those of all epochs; 0 takes all. folder: for log and checkpoint; a checkpoint of the same examples, settings and
    shapes there is gone on from, of others refused. Model and loss must be those it was begun with.
    Raises ValueError without examples, for one that leaves nothing to learn, for a checkpoint of another run, for a
    model that `token_loss` does not fit, for patience without validation, when loss or gradient is no longer a number,
    for adapters under FSDP, and under what `processes` refuses.
    """
    _check_examples(examples)
    if settings.patience and not validation:
        raise ValueError("patience needs validation examples, whose loss it watches: pass some, or set it to 0")
    if loss is token_loss:
        _check_head(model, examples[0])
    steps = batches(examples, settings)
    if not 0 <= n_steps <= len(steps):
        raise ValueError(f"n_steps must be between 0 (all) and {len(steps)} in {settings.epochs} epochs, got {n_steps}")
    steps = steps[: n_steps or None]
    accelerator = processes()
    if accelerator.is_fsdp2 and adapters is not None:
        raise ValueError("adapters are merged into whole weights, which FSDP cuts: launch without --use_fsdp")
    device = next(model.parameters()).device
    shared = copy.deepcopy(model) if accelerator.is_fsdp2 else model  # FSDP would leave pieces of the caller's own
    learned_along = list(loss.to(device).parameters()) if isinstance(loss, nn.Module) else []
    trained = [p for p in (shared if adapters is None else adapters).parameters() if p.requires_grad] + learned_along
    optimizer = torch.optim.AdamW(
        trained, settings.learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    identity = _identity(examples, settings, trained, len(steps))
    taught, optimizer = accelerator.prepare(Taught(shared, loss, settings.mixed), optimizer)
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    log = checkpoint.resume(folder, identity, trained, optimizer)
    taught.train()
    if adapters is not None:
        adapters.merge()
    first, main = len(log), accelerator.is_main_process
    hidden: dict[str, Any] = {} if main else {"disable": True}  # disable=False would overrule TQDM_DISABLE
    progress = tqdm(desc=desc, unit=" steps", initial=first, total=len(steps), **hidden)
    with progress, torch.random.fork_rng():
        for step in range(first, len(steps)):
            if _ended(log, settings.patience):
                break
            began = time.perf_counter()
            torch.manual_seed(settings.seed + step)
            rate = settings.learning_rate * _schedule(step, len(steps), settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            passes = _passes(examples, steps[step], settings.pass_tokens, accelerator.num_processes, device)
            passes = [batch._replace(done=step / len(steps)) for batch in passes]
            mean, norm = _step(accelerator, taught, optimizer, trained, passes, settings.clip, adapters, step)
            tokens = sum(batch.ids.numel() for batch in passes if batch.n_targets)
            row = {"step": step, "tokens": tokens, "loss": mean, "rate": rate, "norm": norm}
            row["seconds"] = time.perf_counter() - began
            last = step + 1 == len(steps)
            checked = len(validation) and (last or (step + 1) % settings.check_every == 0)
            row["validation"] = _mean(taught, validation, settings.batch_tokens) if checked else float("nan")
            log.append(row)
            if settings.patience and _since_lowest(log) == 0:
                checkpoint.save_best(folder, trained, main)
            progress.update()
            progress.set_postfix(loss=f"{row['loss']:.3f}", tokens_a_second=f"{row['tokens'] / row['seconds']:.0f}")
            last = last or _ended(log, settings.patience)
            if last or (step + 1) % settings.save_every == 0:
                checkpoint.save(folder, identity, trained, optimizer, log, main)
    if settings.patience:
        accelerator.wait_for_everyone()
        checkpoint.take_best(folder, trained)
        if adapters is not None:
            adapters.merge()
    if shared is not model:
        checkpoint.take(list(model.parameters()), [checkpoint.whole(weight) for weight in shared.parameters()])
    model.eval()
    return log


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


def _step(
    accelerator: Accelerator,
    taught: nn.Module,
    optimizer: Any,
    trained: Sequence[Tensor],
    passes: Sequence[Batch],
    clip: float,
    adapters: MergedLoRA | None,
    number: int,
) -> tuple[float, float]:
    """Take one step; the mean loss of a token (nats) and the gradient's norm before it was clipped.

    Raises ValueError where one of them is no number, and leaves the weights as they are.
    """
    mean = _backward(accelerator, taught, passes)
    if adapters is not None:
        adapters.take_gradients()
    norm = checkpoint.whole(torch.nn.utils.clip_grad_norm_(trained, clip))
    if not torch.isfinite(mean + norm):
        raise ValueError(
            f"the loss of step {number} is {mean.item()}, its gradient's norm {norm.item()}: lower learning_rate, or "
            "use float32"
        )
    optimizer.step()
    optimizer.zero_grad()
    if adapters is not None:
        adapters.merge()
    return mean.item(), norm.item()


def _backward(accelerator: Accelerator, taught: nn.Module, passes: Sequence[Batch]) -> Float[Tensor, ""]:
    """Add up the gradients of a step, each process those of its passes; the mean loss of a token over all of them."""
    n_targets = sum(batch.n_targets for batch in passes)
    mine = passes[accelerator.process_index :: accelerator.num_processes]
    total = torch.zeros((), device=passes[0].ids.device)
    for place, batch in enumerate(mine):
        # The processes' gradients are averaged, so that each must count for as many as they are.
        with nullcontext() if place + 1 == len(mine) else accelerator.no_sync(taught):
            mean = taught(batch) / n_targets
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


def _check_examples(examples: Sequence[Example]) -> None:
    """Refuse examples that teach nothing, or whose spans lie astray."""
    if not examples:
        raise ValueError("there is nothing to learn from: no example was given")
    for number, (ids, n_prompt, only_read) in enumerate(examples):
        if (given := max(n_prompt, 1)) >= len(ids):
            raise ValueError(
                f"example {number} leaves nothing to learn: the first {given} of {len(ids)} tokens are given"
            )
        if astray := [span for span in only_read if not given <= span[0] < span[1] < len(ids)]:
            raise ValueError(
                f"example {number}: what is only read must lie in the target (tokens {given} to {len(ids) - 2}: the "
                f"last one is learned), got {astray[0][0]}..{astray[0][1] - 1}"
            )


@torch.no_grad()
def evaluate(
    model: Any,
    examples: Sequence[Example],
    batch_tokens: int = 4096,
    loss: Loss = token_loss,
    mixed: bool = False,
) -> float:
    """Mean of the loss over the target tokens, in nats.

    Raises ValueError without examples, or for a model that `token_loss` does not fit.
    """
    if not examples:
        raise ValueError("there is nothing to evaluate on: no example was given")
    if loss is token_loss:
        _check_head(model, examples[0])
    return _mean(Taught(model, loss, mixed).train(model.training), examples, batch_tokens)


@torch.no_grad()
def _mean(taught: nn.Module, examples: Sequence[Example], batch_tokens: int) -> float:
    """Mean of the loss over the target tokens, in eval mode."""
    device = next(taught.parameters()).device
    training = taught.training
    taught.eval()
    parts = [collate(examples, rows, device) for rows in batches(examples, Settings(batch_tokens=batch_tokens))]
    total = sum(taught(batch).item() for batch in parts)
    taught.train(training)
    return total / max(sum(batch.n_targets for batch in parts), 1)


def _since_lowest(log: Sequence[dict[str, float]]) -> int | None:
    """How many looks at the validation examples ago their loss was lowest; None where the last row has no look."""
    looks = [row["validation"] for row in log if not isnan(row["validation"])]
    return None if not log or isnan(log[-1]["validation"]) else len(looks) - 1 - looks.index(min(looks))


def _ended(log: Sequence[dict[str, float]], patience: int) -> bool:
    return bool(patience) and (_since_lowest(log) or 0) >= patience


def _schedule(step: int, n_steps: int, settings: Settings) -> float:
    """The fraction of the highest learning rate at a step."""
    falling = settings.decay * n_steps
    rise = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    fall = min(1.0, (n_steps - step) / falling) if falling else 1.0
    return min(rise, fall if settings.fall == "linear" else (1 - cos(pi * fall)) / 2, 1.0)


def _check_head(model: Any, example: Example) -> None:
    """Refuse a model that `token_loss` does not fit."""
    architecture.check_logits(model, collate([example], [0], next(model.parameters()).device).ids[:, :8])


def _identity(examples: Sequence[Example], settings: Settings, trained: Sequence[Tensor], n_steps: int) -> str:
    shapes = [list(weight.shape) for weight in trained]
    texts = (
        part
        for ids, n_prompt, only_read in examples
        for part in (f"{n_prompt}{only_read or ''}", np.array(ids, np.int64).tobytes())
    )
    return digest([json.dumps([asdict(settings), shapes, n_steps]), *texts])
