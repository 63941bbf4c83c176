"""Students: smaller models that read and write the teacher's tokens, and which of their heads stand for its heads.

Notes: a student of fewer layers takes over the teacher's, evenly spaced, with embeddings and final norm; a narrower one
begins with random weights. Teacher and student must share their tokens, for every loss compares them token by token.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedTokenizerBase

from ctd.mechanism import attention
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import architecture, models


def shallower(teacher: Any, layers: int) -> Any:
    """A copy of the teacher with fewer layers, evenly spaced, the first and the last among them; float32.

    layers: how many it keeps.
    Raises ValueError for more layers than the teacher has, or none.
    """
    n = len(teacher.get_decoder().layers)
    if not 1 <= layers <= n:
        raise ValueError(f"layers must be between 1 and {n} (the teacher's), got {layers}")
    config = copy.deepcopy(teacher.config)
    copied = sources(teacher, layers)
    config.num_hidden_layers = layers
    for name, value in vars(teacher.config).items():  # kinds of layers, layers without rotation, ...
        if isinstance(value, list) and len(value) == n and name != "architectures":
            setattr(config, name, [value[layer] for layer in copied])
    student = type(teacher)(config).float()
    decoder, original = student.get_decoder(), teacher.get_decoder()
    with torch.no_grad():
        for layer, source in zip(decoder.layers, copied, strict=True):
            layer.load_state_dict(original.layers[source].state_dict())
        architecture.final_norm(student).load_state_dict(architecture.final_norm(teacher).state_dict())
        decoder.embed_tokens.load_state_dict(original.embed_tokens.state_dict())
        student.get_output_embeddings().load_state_dict(teacher.get_output_embeddings().state_dict())
    return student.eval()


def narrower(teacher: Any, layers: int, heads: int, seed: int = 0) -> Any:
    """A model of the teacher's family with random weights; float32.

    layers: how many layers it has.
    heads: heads of each layer, of the teacher's head size; their product is the width.
    seed: draws the weights.
    Raises ValueError for a number below 1.
    """
    if layers < 1 or heads < 1:
        raise ValueError(f"layers and heads must be at least 1, got {layers} and {heads}")
    shape, config = architecture.shape(teacher), copy.deepcopy(teacher.config)
    config.num_hidden_layers, config.num_attention_heads = layers, heads
    config.num_key_value_heads = max(1, heads * shape.key_heads // shape.heads)
    config.intermediate_size = round(config.intermediate_size * heads / shape.heads)
    config.hidden_size, config.head_dim = heads * shape.head_size, shape.head_size
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1] * layers
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(teacher)(config).float().eval()


def load(name: str, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Any model as a student; float32.

    name: folder or Hugging Face id, as `models.load` takes it.
    tokenizer: the teacher's.
    Raises ValueError where the two do not share every token, and what `models.load` raises.
    """
    student = models.load(name, dtype="float32")
    same_tokens(tokenizer, student.tokenizer, name)
    return student.model


def same_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, name: str) -> None:
    """Raises ValueError where two tokenizers differ in a token or its number."""
    vocabulary, original = student.get_vocab(), teacher.get_vocab()
    if vocabulary != original:
        shared = len(vocabulary.items() & original.items())
        raise ValueError(
            f"student {name!r} has another tokenizer than its teacher ({shared:,} of {len(original):,} tokens are "
            "shared): traces are compared token by token, so take a student of the same family"
        )


def by_depth(teacher: Any, student: Any, heads: Sequence[Head]) -> list[Head]:
    """For each of the teacher's heads, the student's head of the same number in the layer of the same relative depth.

    Where that is taken or does not exist, the next free head of the layer, then of the layers around it. A student
    shaped like its teacher gets the same heads.
    heads: the teacher's.
    Returns the student's heads, in the same order.
    Raises ValueError for more heads than the student has, one that the teacher has not, or one that is named twice.
    """
    shape, original = architecture.shape(student), architecture.shape(teacher)
    if len(heads) > shape.layers * shape.heads:
        raise ValueError(f"{len(heads)} heads cannot be matched, the student has {shape.layers * shape.heads}")
    taken: list[Head] = []
    for layer, number in _once(teacher, heads):
        home = round(layer / max(original.layers - 1, 1) * (shape.layers - 1))
        free = [
            Head(near, (number + shift) % shape.heads)
            for near in np.argsort(np.abs(np.arange(shape.layers) - home), kind="stable").tolist()
            for shift in range(shape.heads)
        ]
        taken.append(next(head for head in free if head not in taken))
    return taken


def apart(teacher: Any, student: Any, heads: Mapping[Phase, Sequence[Head]]) -> dict[Phase, list[Head]]:
    """For each of the teacher's heads of both phases, a student's head that stands for no other.

    The heads keep the order of their layers and come as near to their relative depth as they can (least squares), while
    no layer of the student gets more of them than the fullest layer of the teacher has, or than an even spread over all
    layers gives. In its layer a head keeps its number where that is free. A student shaped like its teacher gets the
    same heads, but for one that the teacher uses in both phases.
    heads: the teacher's, by phase.
    Returns the student's heads, in the same order.
    Raises ValueError as `by_depth` does.
    """
    shape, original = architecture.shape(student), architecture.shape(teacher)
    named = [(phase, head) for phase in heads for head in _once(teacher, heads[phase])]
    if len(named) > shape.layers * shape.heads:
        raise ValueError(f"{len(named)} heads cannot be matched, the student has {shape.layers * shape.heads}")
    layers = np.array([head.layer for _, head in named])
    most = min(max(np.bincount(layers).max(), -(-len(named) // shape.layers)), shape.heads)
    places = np.repeat(np.arange(shape.layers), most)
    depth = layers / max(original.layers - 1, 1) * (shape.layers - 1)
    columns = linear_sum_assignment((depth[:, None] - places) ** 2)[1]
    wanted = [
        Head(int(places[column]), head.head % shape.heads) for column, (_, head) in zip(columns, named, strict=True)
    ]
    first = [wanted.index(head) == row for row, head in enumerate(wanted)]
    taken = set(wanted)
    chosen: dict[Phase, list[Head]] = {phase: [] for phase in heads}
    for (phase, _), head, is_first in zip(named, wanted, first, strict=True):
        numbers = ((head.head + shift) % shape.heads for shift in range(shape.heads))
        free = (Head(head.layer, number) for number in numbers)
        chosen[phase].append(head if is_first else next(other for other in free if other not in taken))
        taken.add(chosen[phase][-1])
    return chosen


def sources(teacher: Any, layers: int) -> list[int]:
    """The teacher's layers that a student of fewer layers is made of, in order."""
    n = len(teacher.get_decoder().layers)
    return np.linspace(0, n - 1, layers).round().astype(int).tolist() if layers > 1 else [n - 1]


def _once(model: Any, heads: Sequence[Head]) -> list[Head]:
    """The heads as given."""
    if len(attention.check(model, heads)) < len(heads):
        raise ValueError(f"every head may be named once, got {list(heads)}")
    return list(heads)


def by_score(rankings: Mapping[Phase, Sequence[Head]], k: int) -> dict[Phase, list[Head]]:
    """The k highest heads of each phase.

    rankings: all heads of a model, by phase, the highest first.
    k: how many to take. Heads of teacher and student are matched by rank.
    Raises ValueError for a ranking of fewer heads.
    """
    for phase, ranking in rankings.items():
        if not 1 <= k <= len(ranking):
            raise ValueError(f"k must be between 1 and {len(ranking)} (heads of the student, {phase}), got {k}")
    return {phase: list(ranking[:k]) for phase, ranking in rankings.items()}
