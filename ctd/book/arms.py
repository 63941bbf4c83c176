"""A paragraph for each arm of the comparison, from the registry of methods and from what came out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ctd.book import report
from ctd.distill import comparison, retrieval_arm
from ctd.distill.methods import METHODS

KNOWN = {
    "code": "its code was read",
    "paper": "the whole paper was read",
    "third party": "known by what others write of it",
    "abstract": "known by its abstract alone",
}
"""How well a source is known: `Method.known`, in words. What is ours has no mark."""
NEEDS = {
    "distribution": "the teacher's distribution over the next token",
    "heads": "what the teacher's heads compute",
    "hidden": "the teacher's hidden states",
    "model": "the teacher in every step",
    "gold": "gold labels",
    "samples": "answers sampled from the teacher",
}
"""`Method.needs`, in words."""
TOLD = ("exact_match", "ndcg@5")
ENDS = ["value", "low", "high"]


def paragraph(name: str, levels: pd.DataFrame, gains: pd.DataFrame) -> str:
    """What an arm changes, where it is from, how well that is known, and what came out, as Markdown.

    name: of the arm.
    levels: as `comparison.levels` makes them.
    gains: as `comparison.gains` makes them.
    """
    of_arm = levels[levels["arm"] == name].set_index("measure")
    reached = "; ".join(_words(measure, *of_arm.loc[measure, ENDS]) for measure in TOLD)
    less = gains[(gains["name"] == name) & gains["measure"].isin(TOLD)]
    differences = [
        f"{_words(row['measure'], *(row[end] for end in ENDS))} against {row['against']} (Holm: p {row['p_holm']:.2g})"
        for row in less.to_dict("records")
    ]
    came_out = f"Reached: {reached}." + (f" Gain: {'; '.join(differences)}." if differences else "")
    return f"**{name}.** {_what(name)} {came_out}"


def better(gains: pd.DataFrame, measure: str, level: float = 0.05) -> Sequence[str]:
    """The arms whose gain over cot in a measure is above 0 after Holm's correction."""
    sure = (gains["against"] == comparison.BASELINE) & (gains["measure"] == measure) & (gains["p_holm"] < level)
    return list(gains[sure & (gains["value"] > 0)]["name"])


def _what(name: str) -> str:
    if name == comparison.RETRIEVAL:
        mark = KNOWN[retrieval_arm.KNOWN]
        return (
            f"{retrieval_arm.SUMMARY}. It reads gold labels instead of traces. Source: {retrieval_arm.SOURCE}, for the "
            f"classifiers ({mark}); the sum is ours."
        )
    if name.endswith(comparison.ADDED):
        base = name.removesuffix(comparison.ADDED)
        return f"The loss of {base}, with what the teacher's heads of both phases compute added to it."
    method = METHODS[name]
    needed = ", ".join(words for need, words in NEEDS.items() if need in method.needs)
    needs = f" Beside the traces it needs {needed}." if needed else ""
    mark = f" ({KNOWN[method.known]})" if method.known in KNOWN else ""
    return f"{method.summary}.{needs} Source: {method.source}{mark}."


def _words(measure: str, value: float, low: float, high: float) -> str:
    return f"{measure.replace('_', ' ')} {report.estimate(value, low, high)}"
