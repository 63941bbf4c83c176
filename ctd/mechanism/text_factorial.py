"""Both phases exchanged in the text: what the answer loses when a phase's part of it is another's, wrong, or not there.

Notes: our definition. The first phase of a text is its topics and its shortlist, the second its comparisons. Each is
kept, replaced or left out, and the model goes on writing from there. Unlike a shortlist that is handed over beneath the
model's own topics (`ctd.mechanism.isolation`), another document's first phase leaves nothing of the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.data.task import Task
from ctd.mechanism.factorial import Factorial, Metric, score_documents
from ctd.mechanism.phases import Phase
from ctd.reasoning import predict, rank_answers, traces
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import LabelIndex

First = Literal["own", "another's", "none"]
Second = Literal["free", "own", "swapped", "none"]
FIRST, SECOND = get_args(First), get_args(Second)
LOST = {
    Phase.SHORTLIST: (("own", "free"), ("another's", "free")),
    Phase.REFINE: (("own", "own"), ("own", "none")),
}
COMPARE = "Compare:\n"
CONTROL = "text replaced"  # what rows of results say of all this


@dataclass(frozen=True, eq=False)
class Replaced:
    """What a teacher answered from replaced texts.

    rows: the documents whose own text is in the format, by number; the others have no phases to exchange.
    task: whose test documents.
    predictions: of these documents in each cell, by first and second phase.
    """

    rows: list[int]
    task: Task
    predictions: dict[tuple[str, str], list[Prediction]]

    def factorial(self, propensity: Float[np.ndarray, " labels"], metric: Metric, cutoff: int) -> Factorial:
        """The score of every document in every cell; see `ctd.mechanism.factorial`."""
        gold = self.task.gold("test")[self.rows]
        scored = [
            score_documents(
                rank_answers.rankings(self.predictions[first, second], cutoff, refined=True),
                gold, propensity, metric, cutoff,
            )
            for first in FIRST
            for second in SECOND
        ]  # fmt: skip
        gains = np.stack([above for above, _ in scored], axis=1).reshape(-1, len(FIRST), len(SECOND))
        return Factorial(gains, scored[0][1], FIRST, SECOND)

    def lost(self, factorial: Factorial, seed: int = 0) -> pd.DataFrame:
        """What the answer loses without each phase: a row a phase, with the columns of `Factorial.contrasts`."""
        lost = {str(phase): factorial.cell(*full) - factorial.cell(*without) for phase, (full, without) in LOST.items()}
        return factorial.contrasts(lost, seed)

    def follows_swap(self) -> Float[np.ndarray, " documents"]:
        """The share of a document's decisions that follow the exchange of the labels in its comparisons.

        A decision: of two compared labels, one is answered and the other is not. Documents without one are left out.
        """
        shares = []
        texts, unswapped, swapped = (self.predictions["own", second] for second in ("free", "own", "swapped"))
        for text, before, after in zip(texts, unswapped, swapped, strict=True):
            followed = []
            for comparison in text.trace.comparisons:
                chosen = [label for label in comparison.labels if label in before.ranking]
                if len(chosen) == 1:
                    (other,) = set(comparison.labels) - set(chosen)
                    followed.append(other in after.ranking and chosen[0] not in after.ranking)
            shares += [np.mean(followed)] if followed else []
        return np.array(shares)


def replace_phases(
    teacher: Teacher,
    task: Task,
    index: LabelIndex,
    predictions: Sequence[Prediction],
    n_documents: int,
    max_tokens: int = 512,
    seed: int = 0,
) -> Replaced | None:
    """The teacher goes on from every combination of first and second phase.

    predictions: what it wrote about the task's test documents.
    n_documents: the first so many whose text is in the format.
    max_tokens: what it may write about a document.
    seed: where it samples, draws what it writes.
    Returns None where fewer than two texts are in the format: there is nothing to exchange.
    """
    rows = [row for row, prediction in enumerate(predictions) if in_format(prediction.trace)][:n_documents]
    if len(rows) < 2:
        return None
    own = [predictions[row].trace for row in rows]
    others = [*own[1:], own[0]]
    documents, uids = ([task.documents["test"][column][row] for row in rows] for column in ("text", "uid"))
    cells: dict[tuple[str, str], list[Prediction]] = {("own", "free"): [predictions[row] for row in rows]}
    for first in FIRST:
        for second in SECOND:
            if (first, second) not in cells:
                beginnings = [beginning(*pair, first, second) for pair in zip(own, others, strict=True)]
                request = predict.Request(beginnings=beginnings)
                cells[first, second] = predict.reason(
                    teacher, documents, index, request, uids=uids, max_tokens=max_tokens, seed=seed,
                    desc=f"Phase 1 {first}, Phase 2 {second}",
                )  # fmt: skip
    return Replaced(rows, task, cells)


def in_format(trace: Trace) -> bool:
    """Whether both phases of a text can be told apart, and it compares labels."""
    return not trace.error and trace.shortlist is not None and bool(trace.comparisons)


def beginning(trace: Trace, other: Trace, first: First, second: Second) -> str:
    """A text up to where the model goes on.

    trace: the document's own, in the format.
    other: another document's, in the format.
    first: whose topics and shortlist it has.
    second: its comparisons: "free" leaves them to the model, "swapped" exchanges the two labels of each.
    """
    if first == second == "none":
        return traces.ANSWER
    giver = {"own": trace, "another's": other}.get(first)
    phase_1 = traces.OPEN if giver is None or giver.shortlist is None else giver.text[: giver.shortlist.end + 1]
    if second == "free":
        return phase_1 + COMPARE
    lines = {"own": trace.text, "swapped": _swapped(trace)}.get(second, "")
    compared = "".join(f"{lines[line.start : line.end]}\n" for line in trace.comparisons) if lines else ""
    return f"{phase_1}{COMPARE}{compared}"[:-1] + traces.CLOSE + traces.ANSWER


def _swapped(trace: Trace) -> str:
    """The text with the two labels of each comparison exchanged; every comparison is as long as before."""
    text = trace.text
    for line in trace.comparisons:
        left, right = (mention for mention in trace.mentions if line.start <= mention.start and mention.end <= line.end)
        names = text[left.start : left.end], text[right.start : right.end]
        exchanged = text[line.start : left.start] + names[1] + text[left.end : right.start] + names[0]
        text = text[: line.start] + exchanged + text[right.end :]
    return text
