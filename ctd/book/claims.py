"""The claims of arXiv:2606.06840: published number, ours, and a verdict by a rule that stands in the code.

Notes: the claims are the paper's, the rules our definition. A rule sees nothing but the recorded results of one run
with their 95 % intervals; "above 0" means the whole interval. Without the run, or without one of the results, the
verdict is "not run" (`ctd.book.ledger`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ctd.book.results import DIMENSIONS, Row
from ctd.cache import DATA
from ctd.mechanism.phases import Phase

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_RUN = VERDICTS = ("reproduced", "partly", "not reproduced", "not run")
NONE = "-"  # where there is no number
HALF = 0.5  # the middle layer; chance, for AUROC; the share of what a corruption takes that counts as restored
PUBLISHED = json.loads((DATA / "published.json").read_text())


class Number(NamedTuple):
    """A recorded value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Filter:
    """Which result of a run a claim reads: a filter over its rows.

    metrics: what is measured; one of these, where a parameter of the notebook decides.
    dimensions: what else the row says. It says nothing but this, except that it may name the run's own dataset and
        teacher.
    largest: a dimension that is free: of the rows that are left, the one with the largest value there is read.
    """

    metrics: tuple[str, ...]
    dimensions: Mapping[str, Any]
    largest: str = ""

    def read(self, rows: Sequence[Row], parameters: Mapping[str, Any]) -> Row | None:
        """The row, whose interval is over documents; None where the run has none.

        parameters: those of the run.
        """
        own = {name: (None, parameters.get(name)) for name in ("dataset", "teacher")}
        wanted = {name: own.get(name, (self.dimensions.get(name),)) for name in DIMENSIONS if name != self.largest}
        matching = [
            row
            for row in rows
            if row.metric in self.metrics
            and row.interval_over == "documents"
            and all(getattr(row, name) in values for name, values in wanted.items())
        ]
        if self.largest:
            matching = [row for row in matching if getattr(row, self.largest) is not None]
            most = max((getattr(row, self.largest) for row in matching), default=None)
            matching = [row for row in matching if getattr(row, self.largest) == most]
        if len(matching) > 1:
            raise ValueError(
                f"a claim reads one result, and {len(matching)} are {matching[0].label}: record one of them"
            )
        return matching[0] if matching else None


def reads(metrics: str | tuple[str, ...], largest: str = "", **dimensions: Any) -> Filter:
    return Filter((metrics,) if isinstance(metrics, str) else metrics, dimensions, largest)


@dataclass(frozen=True)
class Claim:
    """One claim, and how it is judged.

    id: its name in the ledger.
    statement: what is claimed.
    published: its number, from `data/published.json`.
    chapter: the number of its notebook.
    place: an anchor on that chapter's page.
    reads: the results that the rule sees, by what the ledger calls them; "{largest}" in that text stands for the
        largest value that was found (see `Filter`).
    rule: in words.
    judge: the same, as a function of the results in that order.
    """

    id: str
    statement: str
    published: str
    chapter: str
    place: str
    reads: Mapping[str, Filter]
    rule: str
    judge: Callable[..., str]


# Rules, all our definition; what they say in words stands beside each claim.


def graded(*held: bool) -> str:
    """Reproduced where all held, partly where some did."""
    return REPRODUCED if all(held) else PARTLY if any(held) else NOT_REPRODUCED


def bends(contrast: Number, beyond: Number) -> str:
    return graded(True, contrast.low > 0) if beyond.low > 0 else NOT_REPRODUCED


def bends_and_falls(contrast: Number, beyond: Number, half: Number, end: Number) -> str:
    return graded(True, end.high < half.low) if contrast.low > 0 and beyond.low > 0 else NOT_REPRODUCED


def restored(back: Number, taken: Number) -> str:
    return graded(True, back.value >= HALF * taken.value) if back.low > 0 and taken.low > 0 else NOT_REPRODUCED


def only_the_highest(top_1: Number, top_2: Number, *controls: Number) -> str:
    quiet = sum(not one.low <= 0 <= one.high for one in controls) <= 1
    return graded(True, top_1.low > 0 or top_2.low > 0) if quiet else NOT_REPRODUCED


def dissociated(one_anchor: Number, one_margin: Number, two_anchor: Number, two_margin: Number) -> str:
    apart = one_margin.low <= 0 and two_anchor.low <= 0
    return graded(True, apart) if one_anchor.low > 0 and two_margin.low > 0 else NOT_REPRODUCED


def _curve(metric: str, *at: float) -> str:
    """The paper's teacher at these t."""
    curve = dict(zip(PUBLISHED["t"], PUBLISHED["mimic_iv"][metric]["teacher"], strict=True))
    return f"{metric.capitalize()} " + ", ".join(f"{curve[t]:.2f} at t = {t:g}" for t in at)


def _las(*arms: str) -> str:
    """The paper's leakage-adjusted simulatability of the full loss, and of these arms."""
    of = {"MIMIC-IV": PUBLISHED["las"]["mimic_iv"], "WikiSeeAlso": PUBLISHED["las"]["wikiseealso_320k"]}
    against = {name: " and ".join(f"{one[arm]:.2f}" for arm in arms) for name, one in of.items()}
    return "LAS " + "; ".join(f"{one['full']:.2f} against {against[name]} ({name})" for name, one in of.items())


def _moved(way: str, readout: str, heads: str, phase: Phase | None = None, baseline: str | None = None) -> Filter:
    """What patching a set of heads moves, in the largest bin."""
    patched = {"intervention": way, "readout": readout, "heads": heads, "phase": phase, "baseline": baseline}
    return Filter(("patching_effect",), patched, "n_heads")


def _patched(statement: str, metric: str, phase: int, way: str, readout: str, falls: bool) -> Claim:
    """A claim about patching a phase's heads, read from the forced readout and from what is written."""
    unit, side, moved = " %" if metric == "focus" else "", "below" if falls else "above", f"{way[:-3]}ed"
    series = PUBLISHED["patching"][f"phase{phase}_{way}_{metric}" + ("_percent" if unit else "")]
    before, after = series.get("clean") or series["corrupted"], series["patched"][-1]
    change, done = f"{100 * (after / before - 1):+.0f} %", "lost" if way == "noising" else "restored"
    named, patched = metric.capitalize(), {"phase": Phase(phase), "intervention": way, "heads": "top"}
    none_moved, most_moved = Filter((metric,), {**patched, "n_heads": 0}), Filter((metric,), patched, "n_heads")

    def judge(forced: Number, start: Number, end: Number) -> str:
        return graded(forced.low > 0, end.high < start.low if falls else end.low > start.high)

    return Claim(
        f"{way}-phase-{phase}", statement, f"{named} {before:g}{unit} to {after:g}{unit} ({change})",
        "06", "fig-patched",
        {f"{readout} {done}, top {{largest}}": _moved(way, readout, "top", Phase(phase)),
         f"{named}, none {moved}": none_moved, f"{named}, top {{largest}} {moved}": most_moved},
        f"in the largest bin what is {done} of the {readout} is above 0, and {named} as written {side} {named} with no "
        f"head {moved}, the intervals apart; partly: one of the two",
        judge,
    )  # fmt: skip


CONTROLS = {  # the highest heads, and what is held against them
    f"{way}, {readout}, {f'{phase}, ' if phase else ''}{heads} {{largest}}": _moved(way, readout, heads, phase)
    for way, readout, heads, phase in (
        ("noising", "anchor", "top", Phase.SHORTLIST), ("noising", "margin", "top", Phase.REFINE),
        ("noising", "anchor", "random", None), ("noising", "margin", "random", None),
        ("denoising", "anchor", "random", None), ("denoising", "margin", "random", None),
        ("noising", "anchor", "lowest", Phase.SHORTLIST), ("noising", "margin", "lowest", Phase.REFINE),
    )
}  # fmt: skip
CLAIMS = (
    Claim("focus-rises-early", "Phase 1 shows in the text: Focus rises early, then stays", _curve("focus", 0.0, 0.3),
          "02", "where-one-phase-ends-and-whether-two-show",
          {"contrast": reads("phase_contrast", readout="focus"),
           "beyond shuffled lines": reads("phase_contrast", readout="focus", baseline="lines shuffled")},
          "the contrast (slope before t* less slope after) is above 0, and above that of the same lines shuffled; "
          "partly: above the shuffled lines only", bends),
    Claim("confusion-falls-late", "Phase 2 shows in the text: Confusion stays, then falls late",
          _curve("confusion", 0.5, 1.0), "02", "where-one-phase-ends-and-whether-two-show",
          {"contrast": reads("phase_contrast", readout="confusion"),
           "beyond shuffled lines": reads("phase_contrast", readout="confusion", baseline="lines shuffled"),
           "at t = 0.5": reads("confusion", t=0.5), "at the end": reads("confusion", t=1.0)},
          "the contrast is above 0, and above that of the same lines shuffled, and Confusion ends below where it was "
          "at t = 0.5, the intervals apart; partly: it bends so and does not fall", bends_and_falls),
    Claim("shortlisting-heads-early", "Shortlisting heads lie in early layers", NONE, "04", "fig-coarse-ranking",
          {"mean depth": reads("mean_depth", score="CoarseScore", heads="top")},
          "the mean depth of the top heads by CoarseScore is below 0.5 (0 the first layer, 1 the last)",
          lambda depth: graded(depth.high < HALF)),
    Claim("refining-heads-late", "Refining heads lie in middle to late layers", NONE, "05", "fig-refine-ranking",
          {"mean depth": reads("mean_depth", score="RefineScore", heads="top"),
           "of shortlisting heads": reads("mean_depth", score="CoarseScore", heads="top")},
          "the mean depth of the top heads by RefineScore is above 0.5, and above that by CoarseScore, the intervals "
          "apart; partly: one of the two", lambda depth, coarse: graded(depth.low > HALF, depth.low > coarse.high)),
    _patched("Noising Phase-1 heads loses the topic", "focus", 1, "noising", "anchor", falls=True),
    # of this number the authors' notes have no array
    Claim("denoising-phase-1", "Restoring Phase-1 heads brings the topic back", "Focus restored up to 85 %",
          "06", "fig-patched",
          {"anchor restored, top {largest}": _moved("denoising", "anchor", "top", Phase.SHORTLIST),
           "taken by the corruption": reads("corruption_effect", readout="anchor")},
          "what the largest bin restores of the anchor is above 0 and at least half of what the corruption takes, "
          "itself above 0; partly: above 0 and less than half", restored),
    _patched("Restoring Phase-2 heads keeps near misses out", "confusion", 2, "denoising", "margin", falls=True),
    _patched("Noising Phase-2 heads lets near misses in", "confusion", 2, "noising", "margin", falls=False),
    Claim("controls-do-nothing", "Random and lowest-ranked heads do nothing", NONE, "06", "fig-patched",
          CONTROLS,
          "in the largest bin at most one of six controls excludes 0 (one in twenty does by chance), and the highest "
          "heads of a phase cost its readout something (above 0); partly: the highest heads do nothing either",
          only_the_highest),
    Claim("double-dissociation", "The phases can be isolated: a double dissociation", NONE, "06", "fig-square",
          {f"{phase} heads, {readout}": _moved("noising", readout, "top", phase, baseline="random")
           for phase in Phase for readout in ("anchor", "margin")},
          "beyond random heads, noising Phase-1 heads costs the anchor and Phase-2 heads the margin (both above 0), "
          "and neither the other (not above 0); partly: both, and another too", dissociated),
    Claim("complementary", "The phases are complementary", NONE, "08", "fig-shapley",
          {f"{what} {phase}": reads(("ndcg", "psp"), "k", effect=effect, phase=phase) for phase in Phase
           for what, effect in (("Shapley share of", "shapley_share"), ("lost without", "lost"))},
          "each phase's Shapley share is above 0, and so is what is lost without it; partly: both, of one phase",
          lambda one, lost_1, two, lost_2: graded(min(one.low, lost_1.low) > 0, min(two.low, lost_2.low) > 0)),
    Claim("scores-find-known-heads", "The head scores find heads known by construction (our check, not the paper's)",
          NONE, "07", "what-we-see-who-finds-the-planted-heads",
          {f"AUROC, {name}": reads("auroc", phase=phase, score=name) for phase, name in
           ((Phase.SHORTLIST, "CoarseScore"), (Phase.REFINE, "RefineScore"))},
          "each phase's score has an AUROC above 0.5; partly: one of them",
          lambda coarse, refine: graded(coarse.low > HALF, refine.low > HALF)),
    Claim("mechanistic-beats-cot", "Mechanistic distillation beats vanilla CoT distillation in its answers", NONE,
          "10", "what-it-means",
          {f"exact answers, {equal}": reads("exact_match", arm="mechanistic", baseline="cot", budget=budget) for
           equal, budget in (("equal steps", "equal_steps"), ("equal time", "equal_time"))},
          "the gain in exact answers is above 0 at equal steps and at equal time; partly: at one of the two",
          lambda steps, time: graded(steps.low > 0, time.low > 0)),
    Claim("each-phase-matters", "Supervising each phase matters to the answers (our check: the paper says it of LAS)",
          NONE, "12", "what-it-means",
          {f"exact answers, without {phase}": reads("exact_match", arm=f"without phase {phase:d}", baseline="full") for
           phase in Phase},
          "without Phase 1 exact answers fall (below 0), and without Phase 2; partly: without one of the two",
          lambda one, two: graded(one.high < 0, two.high < 0)),
    Claim("las", "Mechanistic distillation gives explanations that foretell the answer better", _las("vanilla_cot"),
          "13", "what-it-means", {"LAS, mechanistic less CoT": reads("las", arm="mechanistic", baseline="cot")},
          "the difference in leakage-adjusted simulatability is above 0", lambda gain: graded(gain.low > 0)),
    Claim("las-each-phase", "Supervising each phase makes explanations foretell the answer better",
          _las("without_phase1", "without_phase2"), "13", "what-it-means",
          {f"LAS, without {phase}": reads("las", arm=f"without phase {phase:d}", baseline="mechanistic") for phase in
           Phase},
          "without Phase 1 leakage-adjusted simulatability falls (below 0), and without Phase 2; partly: without one "
          "of the two", lambda one, two: graded(one.high < 0, two.high < 0)),
)  # fmt: skip
