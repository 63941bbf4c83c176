"""What each attention head does in each phase, scored on annotated traces.

Notes: every score (`ctd.mechanism.scores`) is taken from one forward pass over document and trace, teacher-forced.
Patterns are built layer by layer and never held at once. n queries, h heads, k keys, d dimensions of the residual
stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ctd import hardware, workers
from ctd.mechanism import attention, scores
from ctd.mechanism.attention import Attended, Head
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import SCORES, LayerReading, Score
from ctd.mechanism.writes import Writes, margin_gradient
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.generate import batches
from ctd.reasoning.token_spans import Span

Direction = Literal["unembedding", "mentions"]
Side = Literal["right", "left"]
STAGES = 5  # of the CoT


class _Shared(NamedTuple):
    """What all batches share; passed to the processes that score them.

    model: whose heads are scored.
    writes: of the model.
    direction: where the anchor direction comes from.
    padding: the side on which shorter traces are padded.
    names: of the scores.
    others: scores that were registered by another module, which other processes would not know.
    """

    model: Any
    writes: Writes
    direction: Direction
    padding: Side
    names: tuple[str, ...]
    others: dict[str, Score]


def score(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    direction: Direction = "unembedding",
    batch_tokens: int = 2048,
    padding: Side = "right",
    desc: str = "scoring heads",
) -> HeadScores:
    """Score every head on every trace by every registered score.

    traces: documents with their traces; the result keeps their order.
    direction: where a document's anchor direction comes from: "unembedding", the mean row of its anchors' tokens, or
        "mentions", the mean residual stream, where the layer reads it, at the document's words for its anchors.
    batch_tokens: tokens of a padded batch; a longer trace goes alone. What all layers read of a batch is held at once:
        360 MiB for SmolLM2 in float32.
    padding: the side on which shorter traces are padded.
    desc: label of the progress bar.
    Raises ValueError without traces, for a trace longer than the model's context, one without mentions of its anchor
    where those give the direction, or a model without `o_proj`.
    """
    _check(model, traces, direction)
    others = {name: score for name, score in SCORES.items() if score.measure.__module__ != scores.__name__}
    shared = _Shared(model, Writes(model), direction, padding, tuple(SCORES), others)
    batch_rows = list(batches([len(trace.ids) for trace in traces], 0, batch_tokens))
    with tqdm(total=len(traces), desc=desc, unit=" documents") as bar:
        scored = workers.run(
            _score_batch,
            [[traces[row] for row in rows] for rows in batch_rows],
            shared,
            workers=int(hardware.on_accelerator(model)),
            seconds=hardware.seconds_to_read(model, sum(len(trace.ids) for trace in traces)) / len(batch_rows),
            bar=bar,
            size=len,
        )
        by_row = dict(zip(chain(*batch_rows), chain(*scored), strict=True))
    return HeadScores(
        tuple(trace.uid for trace in traces),
        {name: np.stack([by_row[row][name] for row in range(len(traces))]) for name in SCORES},
    )


def _check(model: Any, traces: Sequence[AnnotatedTrace], direction: Direction) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    if not traces:
        raise ValueError("there is nothing to score heads on: no trace was given")
    context = architecture.context(model)
    for trace in traces:
        if context and len(trace.ids) > context:
            raise ValueError(
                f"document {trace.uid!r} has {len(trace.ids)} tokens with its trace, the model's context is {context}: "
                "leave it out"
            )
        if direction == "mentions" and not trace.anchor_mentions:
            raise ValueError(f"document {trace.uid!r} never mentions its anchor: leave it out, or use 'unembedding'")


@torch.no_grad()
def _score_batch(shared: _Shared, batch: Sequence[AnnotatedTrace]) -> list[dict[str, np.ndarray]]:
    model, padding = shared.model, shared.padding
    registered = SCORES | shared.others
    ids = [torch.tensor(trace.ids) for trace in batch]
    padded = pad_sequence(ids, batch_first=True, padding_side=padding).to(model.device)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=padding).to(model.device)
    layers, residual, final = _forward(model, padded, mask, shared.direction)
    scored = []
    for row, trace in enumerate(batch):
        shift = padded.shape[1] - len(trace.ids) if padding == "left" else 0
        anchors = _anchors(model, trace, [stream[row, shift:] for stream in residual], len(layers))
        gradient = _gradient(model, trace, final[row, shift:])
        readings = (
            LayerReading(trace, layer, attended, row, shift, shared.writes, anchors[layer], gradient)
            for layer, attended in enumerate(layers)
        )
        scored.append(_score_trace(trace, readings, {name: registered[name] for name in shared.names}))
    return scored


def _forward(
    model: Any, ids: Tensor, mask: Tensor, direction: Direction
) -> tuple[list[Attended], list[Tensor], Tensor]:
    """What each layer's attention saw, the residual stream that each layer reads (for "mentions"), and the last one."""
    layers: list[Attended] = []
    residual: list[Tensor] = []
    final: list[Tensor] = []
    decoder = model.get_decoder()
    with attention.attention_hooks(model, lambda attended: layers.append(replace(attended))), ExitStack() as hooks:
        norm = architecture.final_norm(model).register_forward_pre_hook(lambda _, args: final.append(args[0]))
        hooks.callback(norm.remove)
        for layer in architecture.layers_with_attention(model) if direction == "mentions" else ():
            hook = layer.register_forward_pre_hook(lambda _, args, __: residual.append(args[0]), with_kwargs=True)
            hooks.callback(hook.remove)
        decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    return layers, residual, final[-1]


def _anchors(model: Any, trace: AnnotatedTrace, residual: Sequence[Tensor], n_layers: int) -> list[Tensor]:
    """The anchor direction in each layer."""
    if residual:
        places = torch.tensor([place for mention in trace.anchor_mentions for place in range(*mention)])
        return [stream[places.to(stream.device)].float().mean(0) for stream in residual]
    rows = model.get_output_embeddings().weight[list(trace.anchors)].float()
    return [rows.mean(0)] * n_layers


def _gradient(model: Any, trace: AnnotatedTrace, final: Tensor) -> Float[Tensor, "m d"]:
    """Gradient of the margin at each query of the comparisons."""
    compared = [(query, pair) for pair in trace.comparisons for query in range(*pair.queries)]
    if not compared:
        return final.new_zeros(0, final.shape[1])
    gold, near = [pair.gold_token for _, pair in compared], [pair.near_token for _, pair in compared]
    return margin_gradient(model, final[torch.tensor([query for query, _ in compared])], gold, near)


def _score_trace(
    trace: AnnotatedTrace, readings: Iterable[LayerReading], registered: Mapping[str, Score]
) -> dict[str, np.ndarray]:
    """One document's scores, [1 + stages, layers, heads]."""
    stages = trace.stages(STAGES)
    compared = [query for pair in trace.comparisons for query in range(*pair.queries)]
    places = {
        Phase.SHORTLIST: (np.arange(*trace.cot), [trace.early, *stages]),
        Phase.REFINE: (np.array(compared), [Span(0, len(trace.ids)), *stages]),
    }
    measured: dict[str, list[Tensor]] = {name: [] for name in registered}
    for reading in readings:
        for name, score in registered.items():
            read = len(places[score.phase][0])
            measured[name].append(score.measure(reading) if read else torch.zeros(0, reading.writes.n_heads))
    return {name: _by_stage(values, *places[registered[name].phase]) for name, values in measured.items()}


def _by_stage(
    values: Sequence[Float[Tensor, "n h"]], queries: np.ndarray, spans: Sequence[Span]
) -> Float[np.ndarray, "stages layers heads"]:
    """Mean over the queries of each span; NaN where a span has none."""
    whole = torch.stack(list(values)).cpu().double().numpy()
    means = np.full((len(spans), whole.shape[0], whole.shape[2]), np.nan)
    for place, (start, end) in enumerate(spans):
        if (inside := (queries >= start) & (queries < end)).any():
            means[place] = whole[:, inside].mean(1)
    return means


@torch.no_grad()
def word_weights(
    model: Any, trace: AnnotatedTrace, head: Head, queries: Span, tokens: Span, tokenizer: Any
) -> tuple[list[str], list[float]]:
    """The words of some tokens, and how much attention a head pays to each, mean over queries."""
    (checked,) = attention.check(model, [head])
    with attention.record(model, [checked]) as seen:
        model.get_decoder()(input_ids=torch.tensor([trace.ids], device=model.device), use_cache=False)
    row = seen.patterns[checked.layer][0][0, 0, slice(*queries)].mean(0)
    words: list[str] = []
    weights: list[float] = []
    for place in range(*tokens):
        piece = tokenizer.decode([trace.ids[place]])
        if not words or piece[:1].isspace() or words[-1][-1:].isspace():
            words.append("")
            weights.append(0.0)
        words[-1] += piece
        weights[-1] += row[place].item()
    return [word.strip() or "\N{PILCROW SIGN}" for word in words], weights
