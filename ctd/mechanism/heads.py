"""What each attention head does in each phase, scored on annotated traces.

Notes: every score (`ctd.mechanism.scores`) is taken from one forward pass over document and trace, teacher-forced.
Patterns are built layer by layer and never held at once. n queries, h heads, k keys, d dimensions of the residual
stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ctd import hardware, progress, workers
from ctd.mechanism import attention, attribution, other_documents, scores
from ctd.mechanism.attention import Attended, Head
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import SCORES, LayerReading, Score
from ctd.mechanism.untestable import NotTestable
from ctd.mechanism.writes import Writes, gradient_along, margin_gradient
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
    contrasts: the contrasted direction of each document's anchors (see `other_documents`).
    """

    model: Any
    writes: Writes
    direction: Direction
    padding: Side
    names: tuple[str, ...]
    others: dict[str, Score]
    contrasts: dict[tuple[int, ...], Tensor]


class _Piece(NamedTuple):
    """One document's trace, and what of it is measured beside the scores.

    trace: of the document.
    twin: the same under another document's anchors and labels, if it is scored too.
    effects: whether the heads' effects are measured.
    """

    trace: AnnotatedTrace
    twin: AnnotatedTrace | None
    effects: bool


def score(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    direction: Direction = "unembedding",
    batch_tokens: int = 2048,
    padding: Side = "right",
    n_effects: int = 0,
    with_others: bool = False,
    desc: str | None = "scoring heads",
) -> HeadScores:
    """Score every head on every trace by every registered score.

    traces: documents with their traces; the result keeps their order.
    direction: where a document's anchor direction comes from: "unembedding", the mean row of its anchors' tokens, or
        "mentions", the mean residual stream, where the layer reads it, at the document's words for its anchors.
    batch_tokens: tokens of a padded batch; a longer trace goes alone. What all layers read of a batch is held at once:
        360 MiB for SmolLM2 in float32.
    padding: the side on which shorter traces are padded.
    n_effects: how many traces, from the first, get a backward pass for the scores by effect; 0 leaves these scores out.
    with_others: whether each trace is also scored under another document's anchors and labels, for
        `HeadScores.specificity`. Ignored for "mentions": a document does not mention another's anchors.
    desc: label of the progress bar; None for none.
    Raises ValueError without traces, for a trace longer than the model's context, one without mentions of its anchor
    where those give the direction, or a model without `o_proj`.
    """
    _check(model, traces, direction)
    shared, pieces = _prepared(model, traces, direction, padding, n_effects, with_others)
    batch_rows = list(batches([len(trace.ids) for trace in traces], 0, batch_tokens))
    with progress.bar(desc is not None, total=len(traces), desc=desc, unit=" documents") as bar:
        scored = workers.run(
            _score_batch,
            [[pieces[row] for row in rows] for rows in batch_rows],
            shared,
            workers=int(hardware.on_accelerator(model)),
            seconds=hardware.seconds_to_read(model, sum(len(trace.ids) for trace in traces)) / len(batch_rows),
            bar=bar,
            size=len,
        )
        by_row = dict(zip(chain(*batch_rows), chain(*scored), strict=True))
    rows = [by_row[row] for row in range(len(traces))]
    swapped = [name for name in rows[0][1] if not (SCORES | shared.others)[name].by_effect]
    return HeadScores(
        tuple(trace.uid for trace in traces),
        {name: np.stack([own[name] for own, _ in rows]) for name in shared.names},
        {name: np.stack([other[name][0] for _, other in rows]) for name in swapped},
    )


def _prepared(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    direction: Direction,
    padding: Side = "right",
    n_effects: int = 0,
    with_others: bool = False,
) -> tuple[_Shared, list[_Piece]]:
    """What all batches share, and what is measured of each trace."""
    others = {name: score for name, score in SCORES.items() if score.measure.__module__ != scores.__name__}
    names = tuple(name for name, score in SCORES.items() if n_effects or not score.by_effect)
    contrasts = other_documents.contrasts(model, traces)
    shared = _Shared(model, Writes(model), direction, padding, names, others, contrasts)
    swapped = other_documents.twins(traces) if with_others and direction == "unembedding" else [None] * len(traces)
    pieces = zip(traces, swapped, strict=True)
    return shared, [_Piece(trace, twin, row < n_effects) for row, (trace, twin) in enumerate(pieces)]


def _check(model: Any, traces: Sequence[AnnotatedTrace], direction: Direction) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    if not traces:
        raise NotTestable("there is nothing to score heads on: no trace was given")
    context = architecture.context(model)
    for trace in traces:
        if context and len(trace.ids) > context:
            raise ValueError(
                f"document {trace.uid!r} has {len(trace.ids)} tokens with its trace, the model's context is {context}: "
                "leave it out"
            )
        if direction == "mentions" and not trace.anchor_mentions:
            raise ValueError(f"document {trace.uid!r} never mentions its anchor: leave it out, or use 'unembedding'")


Scored = dict[str, np.ndarray]


@torch.no_grad()
def _score_batch(shared: _Shared, batch: Sequence[_Piece]) -> list[tuple[Scored, Scored]]:
    """The scores of each document, and those under another document's anchors, if they are asked for."""
    model, padding = shared.model, shared.padding
    ids = [torch.tensor(piece.trace.ids) for piece in batch]
    padded = pad_sequence(ids, batch_first=True, padding_side=padding).to(model.device)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=padding).to(model.device)
    layers, residual, final = _forward(model, padded, mask, shared.direction)
    scored = []
    for row, piece in enumerate(batch):
        shift = padded.shape[1] - len(piece.trace.ids) if padding == "left" else 0
        streams = [stream[row, shift:] for stream in residual]
        readings = _readings(shared, piece, layers, row, shift, streams, final[row, shift:])
        own = _score_trace(shared, piece.trace, readings)
        other: Scored = {}
        if piece.twin is not None:
            swapped = _swapped(shared, piece.twin, readings, final[row, shift:])
            other = _score_trace(shared, piece.twin, swapped)
        scored.append((own, other))
    return scored


def _readings(
    shared: _Shared,
    piece: _Piece,
    layers: Sequence[Attended],
    row: int,
    shift: int,
    residual: Sequence[Tensor],
    final: Tensor,
) -> list[LayerReading]:
    """What each layer's heads do along one trace."""
    model, trace = shared.model, piece.trace
    anchors = _anchors(model, trace, residual, len(layers))
    gradient, contrast = _gradient(model, trace, final), shared.contrasts[trace.anchors]
    judged_gradient = _judged_gradient(model, trace, final)
    with attribution.frozen(model):
        effects: dict[str, np.ndarray] = attribution.by_query(model, trace) if piece.effects else {}
    by_layer = [{name: torch.tensor(values[layer]) for name, values in effects.items()} for layer in range(len(layers))]
    return [
        LayerReading(
            trace,
            layer,
            attended,
            row,
            shift,
            shared.writes,
            anchors[layer],
            gradient,
            contrast,
            judged_gradient,
            by_layer[layer],
        )
        for layer, attended in enumerate(layers)
    ]


def _swapped(
    shared: _Shared, twin: AnnotatedTrace, readings: Sequence[LayerReading], final: Tensor
) -> list[LayerReading]:
    """The same readings under another document's anchors and labels; NaN where there is no other."""
    model, gradient = shared.model, _gradient(shared.model, twin, final)
    nowhere = torch.full_like(readings[0].contrast, torch.nan)
    anchor = _anchors(model, twin, (), 1)[0] if twin.anchors else nowhere
    contrast = shared.contrasts[twin.anchors] if twin.anchors else nowhere
    judged_gradient = _judged_gradient(model, twin, final)
    return [reading.of_another(twin, anchor, gradient, contrast, judged_gradient) for reading in readings]


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


def _judged_gradient(model: Any, trace: AnnotatedTrace, final: Tensor) -> Float[Tensor, "j d"]:
    """Gradient, at each query of the judgements, of the judged label's logit less the others' mean."""
    weight, queries, rows = model.get_output_embeddings().weight, list[int](), list[Tensor]()
    for judged in trace.judgements:
        _, own, others = zip(*judged.choices, strict=True)
        queries += range(*judged.queries)
        rows += [(weight[list(own)] - weight[list(others)]).float().mean(0)] * (len(queries) - len(rows))
    if not rows:
        return final.new_zeros(0, final.shape[1])
    return gradient_along(model, final[torch.tensor(queries)], torch.stack(rows))


def _score_trace(shared: _Shared, trace: AnnotatedTrace, readings: Sequence[LayerReading]) -> Scored:
    """One document's scores, [1 + stages, layers, heads]."""
    registered = {name: (SCORES | shared.others)[name] for name in shared.names}
    stages = trace.stages(STAGES)
    compared = [query for pair in trace.comparisons for query in range(*pair.queries)]
    judged = [query for judgement in trace.judgements for query in range(*judgement.queries)]
    late = [Span(0, len(trace.ids)), *stages]
    places = {
        (Phase.SHORTLIST, False): (np.arange(*trace.cot), [trace.early, *stages]),
        (Phase.REFINE, False): (np.array(compared), late),
        (Phase.REFINE, True): (np.array(judged), late),
    }
    measured: dict[str, list[Tensor]] = {name: [] for name in registered}
    for reading in readings:
        for name, score in registered.items():
            read = len(places[score.phase, score.one_label][0])
            measured[name].append(score.measure(reading) if read else torch.zeros(0, reading.writes.n_heads))
    return {
        name: _by_stage(values, *places[registered[name].phase, registered[name].one_label])
        for name, values in measured.items()
    }


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
