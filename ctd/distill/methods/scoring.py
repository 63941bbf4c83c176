"""What a model as it stands makes of texts: the log-probability of each token that is learned.

Notes: n targets of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctd.distill.examples import IGNORED, Batch, Example, batches, collate
from ctd.distill.methods.token_by_token import each_target
from ctd.distill.settings import Settings
from ctd.distill.token_loss import last_hidden
from ctd.reasoning.token_spans import tokenize
from ctd.reasoning.traces import OPEN, Trace

AT_ONCE = 4096  # tokens that go through a model at once


def batch_log_p(model: Any, batch: Batch) -> Float[Tensor, " all"]:
    """The log-probability of each of a batch's targets, text after text."""
    learned = batch.targets != IGNORED
    target = batch.targets[learned][:, None]
    return each_target(
        model, last_hidden(model, batch, learned), lambda log_p, places: log_p.gather(1, target[places])[:, 0]
    )


@torch.no_grad()
def target_log_p(model: Any, texts: Sequence[Example]) -> list[Float[Tensor, " n"]]:
    """The log-probability of each target of every text."""
    device = next(model.parameters()).device
    values: dict[int, Tensor] = {}
    for rows in batches(texts, Settings(batch_tokens=AT_ONCE)):
        batch = collate(texts, rows, device)
        counts = (batch.targets != IGNORED).sum(1).tolist()
        values |= dict(zip(rows, batch_log_p(model, batch).split(counts), strict=True))
    return [values[row] for row in range(len(texts))]


def lines_of(trace: Trace, tokenizer: Any) -> Int[Tensor, " n"]:
    """The number of the line of each target of a `sample_example`; the end token belongs to the last line."""
    text = trace.text[len(OPEN) :]
    starts = [start for start, _ in tokenize(text, tokenizer).offsets]
    return torch.tensor([text.count("\n", 0, start) for start in (*starts, len(text) - 1)])


def line_means(values: Float[Tensor, " n"], lines: Int[Tensor, " n"]) -> Float[Tensor, " lines"]:
    """The mean of each line's values."""
    return values.new_zeros(int(lines.max()) + 1).index_add(0, lines.to(values.device), values) / lines.bincount().to(
        values
    )
