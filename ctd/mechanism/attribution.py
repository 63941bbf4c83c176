"""Gradient times activation: what a readout would lose, to first order, with a head silent at a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ctd.mechanism import attention, readouts
from ctd.mechanism.attention import Attended
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """No parameter keeps a gradient meanwhile: the graph then holds only what heads' outputs need."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def by_query(model: Any, trace: AnnotatedTrace) -> dict[str, Float[np.ndarray, "layers n h"]]:
    """The derivative of each readout with respect to a factor (at 1) on each head's output at each token of a trace.

    NaN where the trace has no such readout.
    """
    shape, read_at = architecture.shape(model), readouts.queries_read(trace)
    if not read_at:
        nothing = np.full((shape.layers, len(trace.ids), shape.heads), np.nan, np.float32)
        return dict.fromkeys(readouts.READOUTS, nothing)
    gates = torch.ones(shape.layers, len(trace.ids), shape.heads, device=model.device, requires_grad=True)

    def gate(attended: Attended) -> None:
        attended.output = attended.output * gates[attended.layer, :, :, None].to(attended.output.dtype)

    ids = torch.tensor([trace.ids], device=model.device)
    queries = torch.tensor(read_at, device=model.device)
    with torch.enable_grad(), attention.attention_hooks(model, gate):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=queries).logits[0]
        read = readouts.read_out(logits, trace)
    values = {}
    for name in readouts.READOUTS:
        gradient = torch.full(gates.shape, torch.nan)
        if read[name].requires_grad:
            (gradient,) = torch.autograd.grad(read[name], gates, retain_graph=True)
        values[name] = gradient.float().cpu().numpy()
    return values
