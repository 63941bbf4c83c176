"""The heads of a teacher as the page shows them: their attention on words, the scores' guesses, and the planted ones.

Notes: attention is read from one forward pass over prompt and trace. h heads, q queries, k tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from ctd import text
from ctd.book.explorer import packing, silenced
from ctd.book.explorer.collection import Loaded
from ctd.mechanism import attention, planted_heads, scores
from ctd.mechanism import heads as scoring
from ctd.mechanism.attention import Head
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.phases import Phase
from ctd.reasoning import annotate, architecture, prompts
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.traces import Trace

GUESSES = 2  # of a score, where nobody knows how many heads there are to find
HIDDEN = "\N{MIDDLE DOT}"  # in place of the words of a document that is not shown whole


@dataclass(frozen=True, eq=False)
class HeadView:
    """What the page shows of heads.

    facts: heads, scores, planted heads, and which documents there are.
    documents: by the document's number, tokens and texts as plain values, and attention in four bits.
    """

    facts: dict[str, Any]
    documents: dict[int, tuple[dict[str, Any], dict[str, bytes]]]


def of_collection(loaded: Loaded) -> HeadView | str:
    """The heads of the collection's teacher, or why there are none to show."""
    settings, teacher = loaded.settings, loaded.teacher
    if teacher is None:
        return "No model reasons about these documents."
    if not settings.n_with_heads:
        return "The heads of this model were not recorded."
    language_model = teacher.language_model
    assert isinstance(language_model, LanguageModel)
    try:
        architecture.shape(language_model.model)
    except ValueError as error:
        return f"The heads of this model cannot be read: {error}."
    annotated = dict(annotated_traces(loaded, language_model))
    if not annotated:
        return "No trace of this model can be annotated: none has both reasoning and a topic."
    scored = scoring.score(language_model.model, list(annotated.values()))
    planted = planted_in(settings.teacher)
    shown = chosen(scored, attention.all_heads(language_model.model), settings.n_heads, planted)
    rows = list(annotated)[: settings.n_with_heads]
    sets = [*([head] for head in shown), *planted.values()]
    documents = {}
    for place, row in enumerate(rows):
        whole = None if loaded.may_show_whole else len(text.excerpt(loaded.documents[row]))
        value, raw = of_document(language_model, loaded.predictions[row].trace, annotated[row], shown, whole)
        if place < settings.n_silenced:
            value["texts"] = silenced.write(language_model, annotated[row], [[], *sets], settings.max_tokens)
        documents[row] = value, {"attention": raw}
    facts = {
        "heads": shown,
        "scores": guesses(scored, shown, planted),
        "planted": {f"{phase:d}": [shown.index(head) for head in heads] for phase, heads in planted.items()},
        "documents": rows,
        "n_scored": len(annotated),
    }
    return HeadView(facts, documents)


def annotated_traces(loaded: Loaded, language_model: LanguageModel) -> Iterator[tuple[int, AnnotatedTrace]]:
    """The number of each document whose trace can be annotated, and the annotated trace."""
    topics = loaded.task.topics("test", loaded.topic_depth, loaded.settings.n_topics)
    longest = architecture.context(language_model.model)
    for row, (prediction, anchors) in enumerate(zip(loaded.predictions, topics, strict=True)):
        annotated, _ = annotate.annotate_traces(
            [prediction.trace], [prediction.ranking], [anchors], loaded.space, language_model.tokenizer, longest
        )
        yield from ((row, trace) for trace in annotated)


def planted_in(teacher: str) -> dict[Phase, list[Head]]:
    """The heads that were planted in a model; empty for any other model."""
    try:
        return planted_heads.planted_heads(teacher)
    except (FileNotFoundError, ValueError, OSError):
        return {}


def chosen(
    scored: HeadScores, everything: Sequence[Head], most: int, planted: Mapping[Phase, Sequence[Head]]
) -> list[Head]:
    """The heads that are shown: all of a small model, else the planted ones and the scores' highest in turn."""
    if len(everything) <= most:
        return list(everything)
    rankings = [scored.ranking(name) for phase in Phase for name in scored.names(phase)]
    in_turn = [head for place in zip_longest(*rankings) for head in place if head is not None]
    wanted = [*(head for heads in planted.values() for head in heads), *in_turn]
    return sorted(list(dict.fromkeys(wanted))[:most])


def guesses(scored: HeadScores, shown: Sequence[Head], planted: Mapping[Phase, Sequence[Head]]) -> list[dict[str, Any]]:
    """Each score with its mean for every head that is shown, and the heads that it would name."""
    rows = []
    for name in [name for phase in Phase for name in scored.names(phase)]:
        score = scores.SCORES[name]
        n_guesses = len(planted.get(score.phase, ())) or GUESSES
        layers, numbers = np.array(shown).T
        means = np.nanmean(scored.raw(name)[:, 0], axis=0)[layers, numbers]
        best = np.argsort(-means, kind="stable")[:n_guesses].tolist()
        rows.append(
            {
                "name": name, "phase": int(score.phase), "meaning": score.meaning,
                "values": [float(f"{mean:.4g}") for mean in means], "guess": best,
            }
        )  # fmt: skip
    return rows


@torch.no_grad()
def of_document(
    language_model: LanguageModel, trace: Trace, annotated: AnnotatedTrace, shown: Sequence[Head], whole: int | None
) -> tuple[dict[str, Any], bytes]:
    """The tokens of a document with its trace, and the attention of some heads from each token of the trace.

    shown: the heads.
    whole: characters of the document that may be shown; None for all.
    """
    model: Any = language_model.model
    with attention.record(model, shown) as seen:
        model.get_decoder()(input_ids=torch.tensor([annotated.ids], device=model.device), use_cache=False)
    rows = slice(annotated.cot.start, len(annotated.ids) - 1)
    patterns = torch.stack([seen.patterns[layer][0][0, seen.heads[layer].index(head), rows] for layer, head in shown])
    value = {
        "tokens": _tokens(language_model, trace, annotated, whole),
        "document": annotated.document,
        "first": rows.start,
        "ends": _ends(trace, annotated),
    }
    return value, packing.to_four_bits(patterns.float().cpu().numpy())


def _tokens(language_model: LanguageModel, trace: Trace, annotated: AnnotatedTrace, whole: int | None) -> list[str]:
    """The tokens as text; those of a document beyond what may be shown are hidden."""
    tokenizer: Any = language_model.tokenizer
    tokens = [tokenizer.decode([token]) for token in annotated.ids]
    if whole is None or trace.tokens is None:
        return tokens
    start = prompts.document_span(trace.prompt, trace.document).start
    for place in range(*annotated.document):
        if trace.tokens.offsets[place][1] > start + whole:
            tokens[place] = HIDDEN
    return tokens


def _ends(trace: Trace, annotated: AnnotatedTrace) -> list[float]:
    """For each query, t at the end of the token that it predicts; above 1 in the answer."""
    assert trace.tokens is not None, "a model's own trace has its tokens"
    before = len(trace.prompt or prompts.plain(trace.document)) + trace.cot_span.start
    ends = [end for _, end in trace.tokens.offsets[annotated.cot.start + 1 : len(annotated.ids)]]
    return [round((end - before) / len(trace.cot), 4) for end in ends]
