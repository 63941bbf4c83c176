"""Token-level relationship graph: how similar the states of a text's labels and decisions are to each other."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ctd.distill.losses import kl
from ctd.distill.methods.hidden_states import HiddenStates, Text
from ctd.distill.methods.method import Course
from ctd.distill.token_loss import Loss
from ctd.reasoning.annotate import AnnotatedTrace


def trg(
    course: Course, weight: float = 1.0, edges: float = 1.0, neighbours: float = 1.0, temperature: float = 0.1
) -> Loss:
    """Cross-entropy, and how similar the states of labels and decisions are to each other in teacher and student.

    Adapted from images: tokens of the reasoning take the place of patches (ours). Its contrast over a memory of other
    images is left out.

    weight: of the graph.
    edges: what squared differences of cosines count in it.
    neighbours: what the KL of each token's similarities to the others counts.
    temperature: of these similarities.
    Raises ValueError for a temperature that is not above 0.

    Source: arXiv:2306.12442, by its abstract.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    term = partial(relations, edges=edges, neighbours=neighbours, temperature=temperature)
    return HiddenStates(course, term, weight)


def relations(text: Text, edges: float = 1.0, neighbours: float = 1.0, temperature: float = 0.1) -> Float[Tensor, ""]:
    """The difference between two graphs of cosines, whose nodes are the same queries; 0 for fewer than two nodes."""
    nodes = nodes_of(text.trace)
    if len(nodes) < 2:
        return text.student.sum() * 0
    student, teacher = cosines(text.student[nodes]), cosines(text.teacher_at(nodes))
    similar = [(cosine / temperature).softmax(-1) for cosine in (teacher, student)]
    return edges * ((teacher - student) ** 2).mean() + neighbours * kl(*similar)


def cosines(states: Float[Tensor, "k e"]) -> Float[Tensor, "k k"]:
    """The cosine of every pair of states."""
    directions = normalize(states, dim=-1)
    return directions @ directions.T


def nodes_of(trace: AnnotatedTrace) -> list[int]:
    """The last token of each label that is named in the reasoning, and the queries that decide a comparison."""
    named = (mention for pair in trace.comparisons for mention in (*pair.gold_mentions, *pair.near_mentions))
    mentions = [*trace.shortlist, *named]
    decided = [query for pair in trace.comparisons for query in pair.decided]
    return sorted({query for query in [*(end - 1 for _, end in mentions), *decided] if query in range(*trace.cot)})
