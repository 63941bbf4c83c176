"""What is written of a chain of thought up to each t, embedded; and controls: lines shuffled, another document's CoT.

Notes: n documents, g grid points, d dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ctd.mechanism.curve_means import GRID, check_grid, check_lengths
from ctd.mechanism.embed_text import PIECE, embed
from ctd.mechanism.targets import Targets
from ctd.mechanism.trajectories import Trajectories
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning.traces import Trace
from ctd.retrieval.encoders import Encoder

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def prefixes(cot: str, grid: Float[np.ndarray, " g"] = GRID) -> list[str]:
    """What is written at each t: the first t of the CoT's characters, cut back to whole words (between white space).

    At t = 0, and until the first word is whole, that is "". Its vector is undefined, since the document is no part of
    the CoT (our definition; the published curves start at a value).

    Raises ValueError for a grid that does not increase, or leaves [0, 1].
    """
    ends = [0, *(word.end() for word in re.finditer(r"\S+", cot))]
    whole = np.searchsorted(ends, check_grid(grid) * len(cot) + 1e-9, side="right") - 1
    return [cot[: ends[word]] for word in whole]


@dataclass(frozen=True, eq=False)
class PrefixVectors:
    """The embedded prefixes of one CoT per document, before any target is chosen.

    grid: the points t.
    vectors: of length 1; NaN where nothing is written yet, or at all.
    boundary: marked t* of each CoT, NaN without one.
    """

    grid: Float[np.ndarray, " g"]
    vectors: Float[np.ndarray, "n g d"]
    boundary: Float[np.ndarray, " n"]

    def swapped(self, order: Int[np.ndarray, " n"]) -> PrefixVectors:
        """Document i with the CoT of document order[i]; nothing is embedded anew."""
        return replace(self, vectors=self.vectors[order], boundary=self.boundary[order])

    def towards(self, goals: Targets) -> Trajectories:
        """The cosines to the targets of the documents. Raises ValueError for another number of documents."""

        def cosine(target: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n g"]:
            return np.einsum("ngd,nd->ng", self.vectors, target, dtype=np.float64)

        return self.measured(goals, cosine)

    def measured(
        self, goals: Targets, cosine: Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, "n g"]]
    ) -> Trajectories:
        """The trajectories under a measure of closeness to a target. Raises ValueError for another number of documents.

        cosine: given the target of each document, how close each document is to its own at each t.
        """
        check_lengths(traces=len(self.vectors), targets=len(goals.gold))
        return Trajectories(
            self.grid,
            self.boundary,
            focus=cosine(goals.anchor),
            focus_document=cosine(goals.document),
            confusion=cosine(goals.near_miss),
            gold=cosine(goals.gold),
        )


def embed_prefixes(
    traces: Sequence[Trace], encoder: Encoder, grid: Float[np.ndarray, " g"] = GRID, longest: int = PIECE
) -> PrefixVectors:
    """Embed what each trace has written at each t; a trace without a CoT has NaN.

    traces: one per document.
    encoder: embeds the prefixes.
    grid: the points t.
    longest: characters of a piece (see `embed_text.embed`).
    Raises NotTestable where no trace has a CoT, ValueError for a grid that `prefixes` refuses.
    """
    grid = check_grid(grid)
    if not any(trace.cot.strip() for trace in traces):
        raise NotTestable(f"a curve needs a text with a chain of thought, and none of the {len(traces)} has one")
    texts = [text for trace in traces for text in prefixes(trace.cot, grid)]
    vectors = embed(encoder, texts, longest, "embedding CoTs").reshape(len(traces), len(grid), -1)
    boundaries = [np.nan if trace.boundary is None else trace.boundary for trace in traces]
    return PrefixVectors(grid, vectors, np.array(boundaries, np.float64))


def shuffled(trace: Trace, rng: np.random.Generator) -> Trace:
    """A control: the trace with its CoT's lines in random order, or its sentences where it has but one line.

    All marks are dropped, t* with them. Blank lines are lost.
    """
    lines = [line for line in trace.cot.split("\n") if line.strip()]
    units, gap = (lines, "\n") if len(lines) > 1 else (SENTENCE_END.split(trace.cot.strip()), " ")
    mixed = gap.join(units[row] for row in rng.permutation(len(units)))
    return replace(trace, cot=mixed, shortlist=None, comparisons=(), mentions=())


def of_other_documents(traces: Sequence[Trace], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """A control: for each document the row of another document's CoT, for `PrefixVectors.swapped`.

    A uniformly random derangement of the traces that have a CoT: each is used once, none by its own document. The
    others keep their own row.

    Raises NotTestable for fewer than two traces with a CoT.
    """
    order = np.arange(len(traces))
    rows = np.flatnonzero([bool(trace.cot.strip()) for trace in traces])
    if len(rows) < 2:
        raise NotTestable(f"another document's CoT needs at least 2 traces with a CoT, got {len(rows)}")
    drawn = rng.permutation(rows)
    while (drawn == rows).any():
        drawn = rng.permutation(rows)
    order[rows] = drawn
    return order
