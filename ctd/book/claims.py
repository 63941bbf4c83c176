"""The claims of arXiv:2606.06840: the published number, what our numbers would have to show, and what must hold first.

Notes: the claims are the paper's, except where `source` says that they are ours. The rules are our definition. A claim
is a list of numbers, each with the side of a null value on which it should lie, and with a bound: the smallest
difference that would matter, set before the runs that are judged by it (`ctd.book.verdicts`). Preconditions say when a
claim can be tested at all: the instrument has found a known mechanism, there is something to lose, and a floor is left.
"""

from __future__ import annotations

import json
from typing import Any

from ctd.book.claim_rules import Claim, Filter, Part, Precondition, reads
from ctd.cache import DATA
from ctd.mechanism.phases import Phase

NONE = "-"  # where there is no number
HALF = 0.5  # the share of what a corruption takes that counts as restored; the AUROC of chance
ENOUGH = 30  # documents that a text written under intervention must rest on
PUBLISHED = json.loads((DATA / "published.json").read_text("utf-8"))

# The smallest differences that would matter, our definition. They were set by what a reader would act on, not by what
# the runs can see.
SLOPE = 0.1  # of Focus and Confusion, cosines for the whole chain of thought
COSINE = 0.05  # of Focus and Confusion as written
DEPTH = 0.05  # of a model's layers
SHARE = 0.1  # of a near miss, answer forced
NATS = 0.05  # of a readout
AUROC = 0.1
QUALITY = 0.03  # of exact match, by how students are trained
LOSS = 0.05  # of nDCG or PSP, where a phase is taken away
LAS = 0.02
FALSE_ALARMS = 0.01  # of runs in which there is nothing to find
LEVEL = 0.05  # the share of such runs that may find something

SCORES = {Phase.SHORTLIST: "CoarseScore", Phase.REFINE: "RefineScore"}
READOUTS = {Phase.SHORTLIST: "anchor", Phase.REFINE: "margin"}


def _curve(metric: str, *at: float) -> str:
    """The paper's teacher at these t."""
    curve = dict(zip(PUBLISHED["t"], PUBLISHED["mimic_iv"][metric]["teacher"], strict=True))
    return f"{metric.capitalize()} " + ", ".join(f"{curve[t]:.2f} at t = {t:g}" for t in at)


def _las(*arms: str) -> str:
    """The paper's leakage-adjusted simulatability of the full loss, and of these arms."""
    by_dataset = {"MIMIC-IV": PUBLISHED["las"]["mimic_iv"], "WikiSeeAlso": PUBLISHED["las"]["wikiseealso_320k"]}
    against = {name: " and ".join(f"{values[arm]:.2f}" for arm in arms) for name, values in by_dataset.items()}
    pairs = (f"{values['full']:.2f} against {against[name]} ({name})" for name, values in by_dataset.items())
    return f"LAS {'; '.join(pairs)}"


def _moved(way: str, readout: str, heads: str, phase: Phase | None = None, baseline: str | None = None) -> Filter:
    """What patching a set of heads moves, in the largest bin."""
    patched = {"intervention": way, "readout": readout, "heads": heads, "phase": phase, "baseline": baseline}
    return Filter(("patching_effect",), patched, "n_heads")


def _patched(statement: str, metric: str, phase: Phase, way: str, readout: str, falls: bool) -> Claim:
    """A claim about patching a phase's heads, read from the forced readout and from what is written."""
    unit, moved = " %" if metric == "focus" else "", f"{way[:-3]}ed"
    series = PUBLISHED["patching"][f"phase{phase:d}_{way}_{metric}" + ("_percent" if unit else "")]
    before, after = series.get("clean") or series["corrupted"], series["patched"][-1]
    change, done = f"{100 * (after / before - 1):+.0f} %", "lost" if way == "noising" else "restored"
    named, patched = metric.capitalize(), {"phase": phase, "intervention": way, "heads": "top"}
    none_moved, most_moved = Filter((metric,), {**patched, "n_heads": 0}), Filter((metric,), patched, "n_heads")
    return Claim(
        f"{way}-phase-{phase:d}", statement, f"{named} {before:g}{unit} to {after:g}{unit} ({change})",
        "06", "fig-patched",
        {f"{readout} {done}, top {{largest}}": Part(_moved(way, readout, "top", phase), "above", NATS),
         f"{named} as written, top {{largest}} {moved}, less none {moved}":
             Part(most_moved, "below" if falls else "above", COSINE, less=none_moved)},
        {**finds_planted_heads(phase), **finds_planted_effects(way, phase), **something_to_lose(readout),
         f"{named} as written, top {{largest}} {moved}": Precondition(most_moved, n=ENOUGH)},
    )  # fmt: skip


def _random_auroc(phase: Phase) -> Filter:
    """The AUROC of as many heads drawn at random: a few heads rank anywhere, in all documents alike."""
    return reads("auroc", phase=phase, heads="random", over="sets of heads")


def finds_planted_heads(*phases: Phase) -> dict[str, Precondition]:
    """Require that the score which chooses a phase's heads finds the planted ones of a known model."""
    return {
        f"AUROC of {SCORES[phase]} for planted heads, less that of random heads": Precondition(
            reads("auroc", phase=phase, score=SCORES[phase]), above=0, chapter="07", less=_random_auroc(phase)
        )
        for phase in phases
    }


VERDICT = "VerdictScore"  # for texts that judge one label at a time


def finds_verdict_heads() -> dict[str, Precondition]:
    """VerdictScore finds the planted heads of Phase 2 on every organism, and loses them under another label."""
    score: dict[str, Any] = {"phase": Phase.REFINE, "score": VERDICT}
    return {
        f"AUROC of {VERDICT} for planted heads, less that of random heads": Precondition(
            reads("auroc", **score), above=0, chapter="07", less=_random_auroc(Phase.REFINE)
        ),
        f"AUROC of {VERDICT} for planted heads under another label": Precondition(
            reads("auroc", **score, control="another label"), below=HALF, chapter="07"
        ),
        f"whether {VERDICT} finds the planted heads of every organism": Precondition(
            reads("found", **score, heads="planted"), says="yes", chapter="07"
        ),
    }


INSTRUMENT = "patterns exchanged, document swapped"  # that of chapter 06, where nothing else is asked for


def finds_planted_effects(way: str, *phases: Phase) -> dict[str, Precondition]:
    """Require that patching the planted heads of a known model moves more than patching random ones."""
    return {
        f"whether {way} finds the planted heads of {phase}": Precondition(
            reads(
                "found", phase=phase, heads="planted", readout=READOUTS[phase], intervention=way, instrument=INSTRUMENT
            ),
            says="yes",
            chapter="07",
        )
        for phase in phases
    }


def something_to_lose(*readouts: str) -> dict[str, Precondition]:
    """Require that the corruption lowers each readout."""
    return {
        f"what the corruption takes of the {readout}": Precondition(reads("corruption_effect", readout=readout), 0)
        for readout in readouts
    }


def off_the_floor(arm: str, **dimensions: Any) -> dict[str, Precondition]:
    """Require that an arm answers some documents correctly."""
    return {f"exact match of {arm}": Precondition(reads("exact_match", arm=arm, **dimensions), above=QUALITY)}


def orders_explanations() -> dict[str, Precondition]:
    """Require that LAS is higher for the teacher's own explanations than for another document's."""
    return {
        "balanced LAS of the teacher's own explanations less another's": Precondition(
            reads("las_balanced", arm="own explanation", baseline="another explanation"), above=0
        )
    }


RANDOM_DEPTH = reads("mean_depth", heads="random", over="sets of heads")  # as many heads, drawn at random
CONTROLS = {
    f"{way}, {readout}, {f'{phase}, ' if phase else ''}{heads} {{largest}}": Part(
        _moved(way, readout, heads, phase), "at", NATS
    )
    for way, readout, heads, phase in (
        ("noising", "anchor", "random", None), ("noising", "margin", "random", None),
        ("denoising", "anchor", "random", None), ("denoising", "margin", "random", None),
        ("noising", "anchor", "lowest", Phase.SHORTLIST), ("noising", "margin", "lowest", Phase.REFINE),
    )
}  # fmt: skip
HIGHEST = {
    f"noising, {readout}, {phase}, top {{largest}}": Part(_moved("noising", readout, "top", phase), "above", NATS)
    for phase, readout in READOUTS.items()
}
CLAIMS = (
    Claim("focus-rises-early", "Phase 1 shows in the text: Focus rises early, then stays", _curve("focus", 0.0, 0.3),
          "02", "where-one-phase-ends-and-whether-two-show",
          {"slope of Focus before t* less after": Part(reads("phase_contrast", readout="focus"), "above", SLOPE),
           "beyond shuffled lines":
               Part(reads("phase_contrast", readout="focus", baseline="lines shuffled"), "above", SLOPE)}),
    Claim("confusion-falls-late", "Phase 2 shows in the text: Confusion stays, then falls late",
          _curve("confusion", 0.5, 1.0), "02", "where-one-phase-ends-and-whether-two-show",
          {"slope of Confusion before t* less after":
               Part(reads("phase_contrast", readout="confusion"), "above", SLOPE),
           "beyond shuffled lines":
               Part(reads("phase_contrast", readout="confusion", baseline="lines shuffled"), "above", SLOPE),
           "Confusion at the end less at t = 0.5":
               Part(reads("confusion", t=1.0), "below", COSINE, less=reads("confusion", t=0.5))}),
    Claim("near-miss-falls-late", "Phase 2 decides: the near miss drops out after the shortlist", NONE, "02",
          "fig-forced",
          {"share of the near miss, t* less the end": Part(reads("near_miss_fall"), "above", SHARE),
           "beyond shuffled lines": Part(reads("near_miss_fall", baseline="lines shuffled"), "above", SHARE / 2)},
          {"documents asked": Precondition(reads("near_miss_fall"), n=ENOUGH)}, source="ours"),
    Claim("shortlisting-heads-early", "Shortlisting heads lie in early layers", NONE, "04", "fig-coarse-ranking",
          {"mean depth of the top heads (0 the first layer, 1 the last), less that of random heads":
               Part(reads("mean_depth", score="CoarseScore", heads="top"), "below", DEPTH, less=RANDOM_DEPTH)},
          finds_planted_heads(Phase.SHORTLIST)),
    Claim("refining-heads-late", "Refining heads lie in middle to late layers", NONE, "05", "fig-refine-ranking",
          {"mean depth of the top heads (0 the first layer, 1 the last), less that of random heads":
               Part(reads("mean_depth", score="RefineScore", heads="top"), "above", DEPTH, less=RANDOM_DEPTH),
           "less that of shortlisting heads":
               Part(reads("mean_depth", score="RefineScore", heads="top"), "above", DEPTH,
                    less=reads("mean_depth", score="CoarseScore", heads="top"))},
          finds_planted_heads(*Phase)),
    Claim("verdict-heads-late", "Heads that look at the label that is judged lie in middle to late layers", NONE, "05",
          "fig-refine-ranking",
          {"mean depth of the top heads (0 the first layer, 1 the last), less that of random heads":
               Part(reads("mean_depth", score=VERDICT, heads="top"), "above", DEPTH, less=RANDOM_DEPTH)},
          finds_verdict_heads(), source="ours"),
    _patched("Noising Phase-1 heads loses the topic", "focus", Phase.SHORTLIST, "noising", "anchor", falls=True),
    # of this number the authors' notes have no array
    Claim("denoising-phase-1", "Restoring Phase-1 heads brings the topic back", "Focus restored up to 85 %",
          "06", "fig-patched",
          {"anchor restored, top {largest}":
               Part(_moved("denoising", "anchor", "top", Phase.SHORTLIST), "above", NATS),
           "anchor restored, top {largest}, less half of what the corruption takes":
               Part(_moved("denoising", "anchor", "top", Phase.SHORTLIST), "above", NATS,
                    less=reads("corruption_effect", readout="anchor"), share=HALF)},
          {**finds_planted_heads(Phase.SHORTLIST), **finds_planted_effects("denoising", Phase.SHORTLIST),
           **something_to_lose("anchor")}),
    _patched("Restoring Phase-2 heads keeps near misses out", "confusion", Phase.REFINE, "denoising", "margin",
             falls=True),
    _patched("Noising Phase-2 heads lets near misses in", "confusion", Phase.REFINE, "noising", "margin", falls=False),
    Claim("controls-do-nothing", "Random and lowest-ranked heads do nothing", NONE, "06", "fig-patched",
          {**HIGHEST, **CONTROLS},
          {**finds_planted_heads(*Phase), **finds_planted_effects("noising", *Phase),
           **finds_planted_effects("denoising", *Phase), **something_to_lose("anchor", "margin")}),
    Claim("double-dissociation", "The phases can be isolated: a double dissociation", NONE, "06", "fig-square",
          {f"{phase} heads beyond random heads, {readout}":
               Part(_moved("noising", readout, "top", phase, baseline="random"),
                    "above" if READOUTS[phase] == readout else "at", NATS)
           for phase in Phase for readout in ("anchor", "margin")},
          {**finds_planted_heads(*Phase), **finds_planted_effects("noising", *Phase),
           **something_to_lose("anchor", "margin"),
           **{f"planted heads of {phase}, {readout}": Precondition(
                  reads("patching_effect", phase=phase, heads="planted", readout=readout, intervention="noising"),
                  below=NATS, chapter="07")
              for phase, readout in ((Phase.SHORTLIST, "margin"), (Phase.REFINE, "anchor"))}}),
    Claim("complementary", "The phases are complementary", NONE, "08", "fig-texts",
          {f"quality of the answer lost without {phase} in the text":
               Part(reads(("ndcg", "psp"), "k", effect="lost", phase=phase, control="text replaced"), "above", LOSS)
           for phase in Phase},
          {f"documents, {phase}": Precondition(
               reads(("ndcg", "psp"), "k", effect="lost", phase=phase, control="text replaced"), n=ENOUGH)
           for phase in Phase}),
    Claim("scores-find-known-heads", "The head scores find heads known by construction", NONE, "07",
          "what-we-see-who-finds-the-planted-heads",
          {f"AUROC of {name}, less that of random heads":
               Part(reads("auroc", phase=phase, score=name), "above", AUROC, less=_random_auroc(phase))
           for phase, name in SCORES.items()}, source="ours"),
    Claim("nothing-found-in-noise", "Patching and the head scores find nothing in models with random weights", NONE,
          "07", "where-there-is-nothing-to-find",
          {f"share of runs of {kind} on random weights that find something":
               Part(reads("false_positive_share", over="seeds", item=kind), "below", FALSE_ALARMS, LEVEL)
           for kind in ("patching", "scores")}, source="ours"),
    Claim("mechanistic-beats-cot", "Mechanistic distillation beats vanilla CoT distillation in its answers", NONE,
          "10", "what-it-means",
          {f"gain in exact match, {budget.replace('_', ' ')}":
               Part(reads("exact_match", arm="mechanistic", baseline="cot", budget=budget), "above", QUALITY,
                    students=True) for budget in ("equal_steps", "equal_time")},
          off_the_floor("cot", budget="equal_steps")),
    Claim("each-phase-matters", "Supervising each phase matters to the answers (the paper says it of LAS)", NONE,
          "12", "what-it-means",
          {f"exact match without {phase} less with it":
               Part(reads("exact_match", arm=f"without phase {phase:d}", baseline="full"), "below", QUALITY,
                    students=True) for phase in Phase},
          off_the_floor("full"), source="ours"),
    Claim("las", "After mechanistic distillation, explanations predict the answer better", _las("vanilla_cot"),
          "13", "what-it-means",
          {"balanced LAS of mechanistic less CoT":
               Part(reads("las_balanced", arm="mechanistic", baseline="cot"), "above", LAS, students=True)},
          orders_explanations()),
    Claim("las-each-phase", "Supervising each phase makes explanations predict the answer better",
          _las("without_phase1", "without_phase2"), "13", "what-it-means",
          {f"balanced LAS without {phase} less with it":
               Part(reads("las_balanced", arm=f"without phase {phase:d}", baseline="mechanistic"), "below", LAS,
                    students=True)
           for phase in Phase},
          orders_explanations()),
)  # fmt: skip
