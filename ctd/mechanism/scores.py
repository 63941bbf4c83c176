"""The scores of attention heads, in one registry: the paper's two, the factors of each, simpler ones, and ours.

Notes: CoarseScore and RefineScore are the paper's (arXiv:2606.06840); where it is silent the form is our definition.
CoarseScore ranks heads nearly alike with the anchors of any other document. The contrasted scores are what it has
beyond the mean over other documents' anchors; the effects are what the model itself would lose.
VerdictScore is for texts that judge one label at a time, where RefineScore has nothing to compare (our definition):

    VerdictScore(h) = mean over the queries q of judgements of A_h(q, own) - mean over other candidates c of A_h(q, c),

with A_h(q, c) the attention of head h from q to the tokens that name c in the list of candidates. RefineScore's form,
a preference times a gain, is not kept: under another label both turn negative, and their product stays positive.
To add a score, write a function of a `LayerReading` and register it in `SCORES`. h heads of a layer, n queries of the
CoT, m queries of the comparisons, k keys, d dimensions of the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.mechanism import readouts
from ctd.mechanism.attention import Attended
from ctd.mechanism.phases import Phase
from ctd.mechanism.writes import Writes
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.judgements import Candidate
from ctd.reasoning.token_spans import Span


@dataclass(eq=False)
class LayerReading:
    """What the heads of one layer do along one document's trace, read from a forward pass: all that a score sees.

    trace: the document with its trace, as tokens.
    layer: number of the layer, from 0.
    attended: queries, keys, values and outputs of the whole batch.
    row: which row of the batch is this document.
    shift: tokens of padding before the document.
    writes: the model's output weights.
    anchor: direction of the document's topics in the residual stream.
    gradient: of the margin between gold label and near miss, at each query of the comparisons.
    contrast: the direction of the document's anchors less the mean direction of other documents' anchors, by the
        unembedding; NaN where there are no others.
    judged_gradient: of the margin between a judged label and the other candidates, at each query of the judgements.
    effects: of this layer's heads on each readout, at each token of the trace (`attribution.by_query`); none where they
        were not measured.
    """

    trace: AnnotatedTrace
    layer: int
    attended: Attended
    row: int
    shift: int
    writes: Writes
    anchor: Float[Tensor, " d"]
    gradient: Float[Tensor, "m d"]
    contrast: Float[Tensor, " d"]
    judged_gradient: Float[Tensor, "j d"]
    effects: Mapping[str, Float[Tensor, "n h"]] = field(default_factory=dict)

    def of_another(
        self,
        trace: AnnotatedTrace,
        anchor: Float[Tensor, " d"],
        gradient: Float[Tensor, "m d"],
        contrast: Float[Tensor, " d"],
        judged_gradient: Float[Tensor, "j d"],
    ) -> LayerReading:
        """The same heads on the same text, under another document's anchors and labels."""
        other = replace(
            self, trace=trace, anchor=anchor, gradient=gradient, contrast=contrast, judged_gradient=judged_gradient
        )
        shared = {name: vars(self)[name] for name in OF_THE_TEXT if name in vars(self)}
        vars(other).update(shared)
        return other

    def place(self, span: Span) -> slice:
        """Where a span of the trace's tokens lies in the row, behind its padding."""
        return slice(span.start + self.shift, span.end + self.shift)

    @cached_property
    def pattern(self) -> Float[Tensor, "h n k"]:
        """Attention of each query of the CoT to every token of the row."""
        return self.attended.patterns(range(self.writes.n_heads), [self.row], self.place(self.trace.cot))[0]

    @cached_property
    def on_document(self) -> Float[Tensor, "h n w"]:
        """Attention of each query of the CoT to each token of the document."""
        return self.pattern[:, :, self.place(self.trace.document)]

    @cached_property
    def outputs(self) -> Float[Tensor, "n h c"]:
        """What each head puts out at each query of the CoT, before W_O."""
        return self.attended.output[self.row, self.place(self.trace.cot)]

    @cached_property
    def kurtosis(self) -> Float[Tensor, "n h"]:
        """Excess kurtosis of attention over the document's tokens: large where a head looks at few of them."""
        return kurtosis(self.on_document).T

    @cached_property
    def write_cosine(self) -> Float[Tensor, "n h"]:
        """Cosine of each head's write with the direction of the document's topics."""
        return self.writes.cosines(self.layer, self.outputs, self.anchor)

    @cached_property
    def contrasted_cosine(self) -> Float[Tensor, "n h"]:
        """Cosine of each head's write with the direction of the document's topics, less the mean over others'."""
        return self.writes.cosines(self.layer, self.outputs, self.contrast) * self.contrast.norm()

    @cached_property
    def compared(self) -> list[int]:
        """The queries of the comparisons, counted from the first of the CoT."""
        start = self.trace.cot.start
        return [query - start for pair in self.trace.comparisons for query in range(*pair.queries)]

    def effect(self, readout: str) -> Float[Tensor, "n h"]:
        """What a readout would lose, to first order, with a head silent at each query of the CoT; NaN if unmeasured."""
        if readout not in self.effects:
            return self.outputs.new_full(self.outputs.shape[:2], torch.nan, dtype=torch.float32)
        return self.effects[readout][slice(*self.trace.cot)]

    @cached_property
    def preference(self) -> Float[Tensor, "m h"]:
        """Cosine of the query with the mean key of the gold label's mentions, less that with the near miss's."""
        heads = range(self.writes.n_heads)
        keys = self.attended.key[self.row][self.attended.key_heads(heads)].float()
        parts = []
        for pair in self.trace.comparisons:
            query = self.attended.query[self.row, :, self.place(pair.queries)].float()
            gold, near = (
                torch.nn.functional.cosine_similarity(query, self._mean_key(keys, mentions)[:, None], dim=-1)
                for mentions in (pair.gold_mentions, pair.near_mentions)
            )
            parts.append((gold - near).T)
        return torch.cat(parts)

    @cached_property
    def gain(self) -> Float[Tensor, "m h"]:
        """How far each head's write moves the margin between gold label and near miss, to first order (logits)."""
        return self.writes.along(self.layer, self.outputs[self.compared], self.gradient)

    @cached_property
    def on_gold(self) -> Float[Tensor, "m h"]:
        """Attention to the mentions of the gold label."""
        parts = []
        for pair in self.trace.comparisons:
            start, end = (query - self.trace.cot.start for query in pair.queries)
            mass = [self.pattern[:, start:end, self.place(mention)].sum(-1) for mention in pair.gold_mentions]
            parts.append(torch.stack(mass).sum(0).T)
        return torch.cat(parts)

    @cached_property
    def judged(self) -> list[int]:
        """The queries of the judgements of one label, counted from the first of the CoT."""
        return [query - self.trace.cot.start for at in self.trace.judgements for query in range(*at.queries)]

    @cached_property
    def judged_gain(self) -> Float[Tensor, "j h"]:
        """How far each head's write moves the margin between a judged label and the others, to first order (logits)."""
        return self.writes.along(self.layer, self.outputs[self.judged], self.judged_gradient)

    @cached_property
    def on_judged(self) -> Float[Tensor, "j h"]:
        """Attention to a judged label where the candidates are listed, less the mean over the other candidates."""
        return self._less_others(lambda candidate: (candidate.listed,))

    @cached_property
    def on_evidence(self) -> Float[Tensor, "j h"]:
        """Attention to the document's words for a judged label, less the mean over the other candidates."""
        return self._less_others(lambda candidate: candidate.evidence)

    def _less_others(self, places: Callable[[Candidate], Sequence[Span]]) -> Float[Tensor, "j h"]:
        """Attention to what stands for a judged label, less the mean over what stands for each other candidate."""
        parts = []
        for judged in self.trace.judgements:
            start, end = (query - self.trace.cot.start for query in judged.queries)
            weights = self.pattern.new_zeros(self.pattern.shape[-1])
            share = -1 / len(judged.others)
            for candidate, weight in ((judged.own, 1.0), *((other, share) for other in judged.others)):
                for span in places(candidate):
                    weights[self.place(span)] += weight
            parts.append((self.pattern[:, start:end] @ weights).T)
        return torch.cat(parts)

    def _mean_key(self, keys: Float[Tensor, "h k c"], mentions: Sequence[Span]) -> Float[Tensor, "h c"]:
        return torch.cat([keys[:, self.place(mention)] for mention in mentions], 1).mean(1)


OF_THE_TEXT = ("pattern", "on_document", "outputs", "kurtosis", "preference", "on_gold")  # whatever the anchors are


def kurtosis(rows: Float[Tensor, "... k"]) -> Float[Tensor, " ..."]:
    """Excess (Fisher) kurtosis along the last axis, float32; 0 where all values are alike."""
    centred = rows.float() - rows.float().mean(-1, keepdim=True)
    largest = centred.abs().amax(-1, keepdim=True)
    alike = largest <= torch.finfo(torch.float32).tiny
    centred = centred / largest.masked_fill(alike, 1.0)  # fourth powers of tiny attention would be zero
    fourth, second = (centred**4).mean(-1), (centred**2).mean(-1)
    return torch.where(alike[..., 0], 0.0, fourth / second.masked_fill(alike[..., 0], 1.0) ** 2 - 3.0)


@dataclass(frozen=True)
class Score:
    """One score of attention heads.

    phase: the phase whose heads it is to find. It decides where the score is read: at all queries of the CoT for
        Phase 1, at the queries of the comparisons (or judgements of one label) for Phase 2, which are left out where a
        document has none.
    measure: the score of each head at each of these queries.
    meaning: what a large value means, in a few words.
    by_effect: whether it needs a backward pass through the model: only some documents have it.
    one_label: whether it is read at judgements of one label, in place of comparisons.
    factors: the names of the scores behind it, which say more of what it measures.
    """

    phase: Phase
    measure: Callable[[LayerReading], Float[Tensor, "queries h"]]
    meaning: str
    by_effect: bool = False
    one_label: bool = False
    factors: tuple[str, ...] = ()


COARSE, KURTOSIS, WRITE_COSINE, ON_DOCUMENT = "CoarseScore", "kurtosis", "write cosine", "mass on the document"
CONTRASTED, CONTRASTED_MASS = "contrasted CoarseScore", "contrasted CoarseScore x mass"
ANCHOR_EFFECT, MARGIN_EFFECT = "effect on the anchor", "effect on the margin"
REFINE, PREFERENCE, GAIN, ON_GOLD = "RefineScore", "preference", "gain", "mass on the gold label"
VERDICT, JUDGED_GAIN = "VerdictScore", "gain of the judged label"
ON_EVIDENCE = "mass on the judged label's evidence"

SCORES: dict[str, Score] = {
    # Source: arXiv:2606.06840, and its two factors.
    COARSE: Score(
        Phase.SHORTLIST,
        lambda x: x.kurtosis * x.write_cosine,
        "looks at few words and writes the topics",
        factors=(KURTOSIS, WRITE_COSINE),
    ),
    KURTOSIS: Score(Phase.SHORTLIST, lambda x: x.kurtosis, "looks at few words of the document"),
    WRITE_COSINE: Score(Phase.SHORTLIST, lambda x: x.write_cosine, "writes in the direction of the topics"),
    # Our definition.
    ON_DOCUMENT: Score(Phase.SHORTLIST, lambda x: x.on_document.sum(-1).T, "looks at the document"),
    CONTRASTED: Score(
        Phase.SHORTLIST,
        lambda x: x.kurtosis * x.contrasted_cosine,
        "looks at few words and writes these topics more than others'",
    ),
    CONTRASTED_MASS: Score(
        Phase.SHORTLIST,
        lambda x: x.kurtosis * x.contrasted_cosine * x.on_document.sum(-1).T,
        "looks at few words, and much, and writes these topics more than others'",
    ),
    ANCHOR_EFFECT: Score(
        Phase.SHORTLIST, lambda x: x.effect(readouts.ANCHOR), "makes the topics likelier, whatever the path", True
    ),
    # Source: arXiv:2606.06840, and its two factors.
    REFINE: Score(
        Phase.REFINE,
        lambda x: x.preference * x.gain,
        "prefers the gold label and writes for it",
        factors=(PREFERENCE, GAIN),
    ),
    PREFERENCE: Score(Phase.REFINE, lambda x: x.preference, "asks for the gold label more than for the near miss"),
    GAIN: Score(Phase.REFINE, lambda x: x.gain, "writes for the gold label and against the near miss"),
    # Our definition.
    ON_GOLD: Score(Phase.REFINE, lambda x: x.on_gold, "looks at the gold label"),
    MARGIN_EFFECT: Score(
        Phase.REFINE,
        lambda x: x.effect(readouts.MARGIN)[x.compared],
        "raises the gold label above the near miss, whatever the path",
        True,
    ),
    # Our definition, of judgements of one label.
    VERDICT: Score(
        Phase.REFINE,
        lambda x: x.on_judged,
        "looks at the label that is judged, more than at other candidates",
        one_label=True,
        factors=(JUDGED_GAIN, ON_EVIDENCE),
    ),
    JUDGED_GAIN: Score(
        Phase.REFINE,
        lambda x: x.judged_gain,
        "writes for the label that is judged and against other candidates",
        one_label=True,
    ),
    ON_EVIDENCE: Score(
        Phase.REFINE,
        lambda x: x.on_evidence,
        "looks at the document's words for the label that is judged, more than for other candidates",
        one_label=True,
    ),
}
"""Every score by its name; of each phase, the paper's comes first."""


def names(phase: Phase) -> tuple[str, ...]:
    """The names of a phase's scores, the paper's first."""
    return tuple(name for name, score in SCORES.items() if score.phase == phase)


PAPER = {phase: names(phase)[0] for phase in Phase}
"""The paper's score of each phase."""
