"""Attention heads patched while a model runs: with another run's pattern or output, or with noise.

Notes: b rows of a batch, s tokens, q queries, k keys, h heads of a layer, p pairs of a row and a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ctd.mechanism.attention import Attended, attention_hooks, masked_softmax
from ctd.mechanism.mean_ablation import MeanHeads
from ctd.reasoning.architecture import shape

What = Literal["pattern", "output"]
Noise = Literal["run", "gaussian", "uniform", "mean"]


@contextmanager
def patch(
    model: Any,
    heads: Bool[Tensor, "b layers h"],
    source: Int[Tensor, " b"] | Sequence[int] = (),
    what: What = "pattern",
    noise: Noise | MeanHeads = "run",
    sigma: float = 1.0,
    seed: int = 0,
    queries: Bool[Tensor, "b s"] | None = None,
) -> Iterator[None]:
    """The model with some heads of some rows of its batch patched.

    heads: which ones in each row.
    source: the row of the same batch that each row is patched from, which must be as long and padded alike; only for
        noise "run".
    what: "pattern" mixes the row's own values by the new pattern; "output" takes the source's head output (only with
        noise "run" or "mean").
    noise: what replaces them: "run", what the same head does in the source; "gaussian", the row's own scores with
        noise; "uniform", an even pattern over what each query sees; "mean", what it does on average in other documents,
        given as these means themselves (see `mean_ablation.mean_heads`).
    sigma: of gaussian noise, in standard deviations of the scores over what the query sees.
    seed: draws gaussian noise.
    queries: which positions are patched (None: all); what `generate` adds behind them is.
    Raises ValueError for heads of another model, a source outside the batch, runs of unequal length, or an unknown
    kind.
    """
    sources = _check(model, heads, source, what, noise)
    generator = torch.Generator().manual_seed(seed)

    def put_in(attended: Attended) -> None:
        chosen = heads[:, attended.layer]
        if len(attended.output) != len(chosen):
            raise ValueError(f"the batch must have the {len(chosen)} rows of heads, got {len(attended.output)}")
        row, head = (numbers.to(attended.output.device) for numbers in chosen.nonzero().T)
        source_row = sources.to(row.device)[row]
        _check_length(attended, row, source_row)
        passed = range(attended.first, attended.first + attended.output.shape[1])
        if what == "output" and isinstance(noise, MeanHeads):
            new = noise.output(attended.layer, head, passed).to(attended.output.dtype)
        elif what == "output":
            new = attended.output[source_row, :, head]
        else:
            if isinstance(noise, MeanHeads):
                pattern = noise.pattern(attended.layer, head, passed, attended.visible()[row, 0])
            else:
                pattern = _pattern(attended, source_row, head, noise, sigma, generator)
            values = attended.value[row, attended.key_head(head)]
            new = pattern.to(values.dtype) @ values
        patched = _patched(queries, row, attended)
        output = attended.output.clone()
        output[row, :, head] = torch.where(patched, new, output[row, :, head])
        attended.output = output

    layers = heads.any(0).any(1).nonzero()[:, 0].tolist()
    with attention_hooks(model, put_in, layers):
        yield


def _check(
    model: Any, heads: Tensor, source: Int[Tensor, " b"] | Sequence[int], what: What, noise: Noise | MeanHeads
) -> Int[Tensor, " b"]:
    """The row that each row is patched from."""
    sizes = shape(model)
    if isinstance(noise, MeanHeads):
        noise = "mean"
    elif noise == "mean":
        raise ValueError("noise 'mean' needs the means themselves: give what mean_ablation.mean_heads makes")
    if what not in get_args(What) or noise not in get_args(Noise):
        raise ValueError(
            f"what must be one of {', '.join(get_args(What))} and noise one of {', '.join(get_args(Noise))}, "
            f"got {what!r} and {noise!r}"
        )
    if what == "output" and noise not in ("run", "mean"):
        raise ValueError(f"an output is replaced by another run's or a mean: noise must be run or mean, got {noise!r}")
    if heads.ndim != 3 or heads.shape[1:] != (sizes.layers, sizes.heads):
        raise ValueError(f"heads must be [rows, {sizes.layers} layers, {sizes.heads} heads], got {list(heads.shape)}")
    sources = [int(row) for row in source] if noise == "run" else list(range(len(heads)))
    if len(sources) != len(heads) or not all(0 <= row < len(heads) for row in sources):
        raise ValueError(f"source must name a row of the batch (0 to {len(heads) - 1}) for each row, got {sources}")
    return torch.tensor(sources)


def _check_length(attended: Attended, row: Int[Tensor, " p"], source: Int[Tensor, " p"]) -> None:
    mask = attended.mask
    if mask is None or torch.equal(mask[row], mask[source]):
        return
    pairs = zip(row.tolist(), source.tolist(), strict=True)
    into, origin = next((into, origin) for into, origin in pairs if not torch.equal(mask[into], mask[origin]))
    lengths = [int(mask[number, 0].any(0).sum()) for number in (into, origin)]
    raise ValueError(
        f"runs must be equally long and padded alike to be patched, row {into} has {lengths[0]} tokens and its "
        f"source, row {origin}, {lengths[1]}"
    )


def _pattern(
    attended: Attended,
    row: Int[Tensor, " p"],
    head: Int[Tensor, " p"],
    noise: Noise,
    sigma: float,
    generator: torch.Generator,
) -> Float[Tensor, "p q k"]:
    """What replaces the pattern of a head in a row, for each of p pairs of them."""
    if noise == "run":  # many rows come from one
        pairs, place = torch.stack([row, head]).unique(dim=1, return_inverse=True)
        return masked_softmax(attended.pair_scores(*pairs), attended.visible()[pairs[0], 0])[place]
    visible = attended.visible()[row, 0]
    if noise == "uniform":
        return masked_softmax(torch.zeros(visible.shape, device=visible.device), visible)
    scores = attended.pair_scores(row, head)
    n = visible.sum(-1, keepdim=True).clamp(min=1)
    mean = scores.where(visible, 0.0).sum(-1, keepdim=True) / n
    spread = (((scores - mean) ** 2).where(visible, 0.0).sum(-1, keepdim=True) / n).sqrt()
    drawn = torch.randn(scores.shape, generator=generator).to(scores.device)
    return masked_softmax(scores + sigma * spread * drawn, visible)


def _patched(queries: Bool[Tensor, "b s"] | None, row: Int[Tensor, " p"], attended: Attended) -> Bool[Tensor, "p q 1"]:
    """Which of a pass's queries are patched in each row."""
    n, first = attended.output.shape[1], attended.first
    patched = torch.ones(len(row), n, dtype=torch.bool, device=row.device)
    if queries is not None:
        chosen = queries.to(row.device)[row, first : first + n]
        patched[:, : chosen.shape[1]] = chosen
    return patched[..., None]
