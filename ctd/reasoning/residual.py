"""What a layer's attention adds to the residual stream, measured on the layer.

Notes: the layer is run twice on what it reads, once as it is and once with nothing from its attention; everything else
that writes is silent in both. The difference is what the attention adds, whatever stands between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NOT_SILENCED = ("norm", "dropout", "identity")  # in the name of a part, or of its class
ROUNDING = 4.0  # units in the last place of the residual stream that a difference of two runs may be off


@contextmanager
def measuring(
    layers: Sequence[nn.Module],
    attentions: Sequence[nn.Module],
    projections: Sequence[nn.Module],
    added: Callable[[int, Tensor], Tensor],
    nearly: float,
) -> Iterator[list[str]]:
    """Measure every layer in the forward passes inside.

    layers: those of a model, first layer first.
    attentions: the attention module of each.
    projections: the output projection of each attention.
    added: what a layer is said to add, given its number and what its output projection puts out.
    nearly: how far the two may be apart, relative to the largest number.
    Gives the problems found, empty where there is none.
    """
    problems: list[str] = []
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            others = [
                part
                for name, part in layer.named_children()
                if part is not attentions[number] and not _passes_on(name, part)
            ]
            measure = _measure(number, others, projections[number], added, nearly, problems)
            hooks.callback(layer.register_forward_hook(measure, with_kwargs=True).remove)
        yield problems


def _passes_on(name: str, part: nn.Module) -> bool:
    names = f"{name} {type(part).__name__}".lower()
    return any(word in names for word in NOT_SILENCED)


def _measure(
    number: int,
    others: Sequence[nn.Module],
    projection: nn.Module,
    added: Callable[[int, Tensor], Tensor],
    nearly: float,
    problems: list[str],
) -> Any:
    def measure(layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any], _: Any) -> None:
        projected: list[Tensor] = []
        with ExitStack() as hooks:
            for part in others:
                hooks.callback(part.register_forward_hook(_silent).remove)
            with _hooked(projection, lambda _, __, output: projected.append(output)):
                whole = _first(layer.forward(*args, **options))
            with _hooked(projection, _silent):
                without = _first(layer.forward(*args, **options))
        gain = whole.float() - without.float()
        if len(projected) != 1 or gain.shape != projected[0].shape:
            problems.append(f"layer {number}: it keeps its residual stream in another form than its attention writes")
            return
        wanted = added(number, projected[0]).float()
        allowed = nearly * wanted.abs().max() + ROUNDING * _precision(whole.dtype) * whole.float().abs()
        if not ((gain - wanted).abs() <= allowed).all():
            problems.append(
                f"layer {number}: what its attention writes is not what the residual stream gains (a norm, a gate or a "
                "factor stands between)"
            )

    return measure


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _precision(dtype: torch.dtype) -> float:
    """The machine epsilon, that of float32 at best: norms compute in float32 whatever the weights are."""
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _silent(_: nn.Module, __: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (output[0] * 0, *output[1:])
    return output * 0


def _first(output: Any) -> Tensor:
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first
