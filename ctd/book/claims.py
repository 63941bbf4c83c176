"""The claims of arXiv:2606.06840: published number, ours, and a verdict by a rule that stands in the code.

Notes: the claims are the paper's, the rules our definition. A rule sees nothing but the recorded results of one run
with their 95 % intervals; "above 0" is said of a whole interval. Without the run, or without one of the results, the
verdict is "not run". Runs of a chapter that are kept with the book (`ctd.book.published_runs`) are judged by the same
rule, in rows of their own. In a result's name `{dataset}` and `{teacher}` stand for those of the run, a final `*` for
the largest number that ends such names: the largest bin of heads, whatever was found there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from ctd.book import published_runs, runs
from ctd.book.compare import say
from ctd.book.results import RESULTS
from ctd.book.runs import RunFolder
from ctd.cache import DATA, ROOT

STEM = "13_claims"
REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_RUN = VERDICTS = ("reproduced", "partly", "not reproduced", "not run")
COLUMNS = ("claim", "rule", "published", "ours", "verdict", "data, teacher", "chapter")
NONE = "-"
HALF = 0.5  # the middle layer; chance, for AUROC; the share of what a corruption takes that counts as restored
PUBLISHED = json.loads((DATA / "published.json").read_text())


class Number(NamedTuple):
    """A recorded value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """One claim, and how it is judged.

    published: its number, from `data/published.json`. chapter: the number of its notebook, place: an anchor on that
    page. reads: names of recorded results, by what the ledger calls them. rule: in words; judge: the same, as a
    function of the results in that order.
    """

    id: str
    statement: str
    published: str
    chapter: str
    place: str
    reads: Mapping[str, str]
    rule: str
    judge: Callable[..., str]


@dataclass(frozen=True)
class Row:
    """A claim with its verdict. stem: the notebook whose run was read, "" for none. ours: its numbers in words.

    kept: the name of a run that is kept with the book, "" for the reader's own; made: how that was made.
    """

    claim: Claim
    verdict: str
    stem: str = ""
    data: str = NONE
    ours: tuple[str, ...] = (NONE,)
    kept: str = ""
    made: str = ""

    @property
    def key(self) -> str:
        """The name under which its verdict is recorded."""
        return "/".join(["verdict", self.claim.id, *filter(None, [self.kept])])

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, by `COLUMNS`."""
        of = self.claim
        where = f"data/results/{self.kept} ({self.made})" if self.kept else self.stem or of.chapter
        return of.statement, of.rule, of.published, "; ".join(self.ours), self.verdict, self.data, where

    @property
    def html(self) -> str:
        """The row in HTML, its rule beneath it, with a link to its chapter for a page beside that.

        That of a run kept with the book is one to follow the reader's own, without claim, published number and rule.
        """
        claim, rule, published, _, verdict, data, where = (escape(cell, quote=False) for cell in self.cells)
        ours = "<br>".join(escape(number, quote=False) for number in self.ours)
        if self.kept:
            return (
                f'<tr><td colspan="2"><em>the same, by the kept run {escape(self.kept)}:</em> '
                f"{escape(self.made, quote=False)}</td>"
                f"<td>{ours}</td><td><strong>{verdict}</strong></td>"
                f'<td><a href="{self.stem}.html#{self.claim.place}">{self.claim.chapter}</a>: {data}</td></tr>'
            )
        if self.stem:
            where = f'<a href="{self.stem}.html#{self.claim.place}">{self.claim.chapter}</a>: {data}'
        cells = (claim, published, ours, f"<strong>{verdict}</strong>", where)
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        return f'<tr>{row}</tr>\n<tr><td colspan="{len(cells)}"><em>Rule:</em> {rule}.</td></tr>'


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


def _patched(statement: str, metric: str, phase: int, way: str, readout: str, falls: bool) -> Claim:
    """A claim about patching a phase's heads, read from the forced readout and from what is written."""
    unit, side, moved = " %" if metric == "focus" else "", "below" if falls else "above", f"{way[:-3]}ed"
    series = PUBLISHED["patching"][f"phase{phase}_{way}_{metric}" + ("_percent" if unit else "")]
    before, after = series.get("clean") or series["corrupted"], series["patched"][-1]
    change, done = f"{100 * (after / before - 1):+.0f} %", "lost" if way == "noising" else "restored"
    panel, named = f"{metric}, Phase {phase}, {way}/heads of the phase", metric.capitalize()

    def judge(forced: Number, start: Number, end: Number) -> str:
        return graded(forced.low > 0, end.high < start.low if falls else end.low > start.high)

    return Claim(
        f"{way}-phase-{phase}", statement, f"{named} {before:g}{unit} to {after:g}{unit} ({change})",
        "06", "fig-patched",
        {f"{readout} {done}, top *": f"{way}/{readout}/Phase {phase}, top/*",
         f"{named}, none {moved}": f"{panel}/0.0000", f"{named}, share * {moved}": f"{panel}/*"},
        f"in the largest bin what is {done} of the {readout} is above 0, and {named} as written {side} {named} with no "
        f"head {moved}, the intervals apart; partly: one of the two",
        judge,
    )  # fmt: skip


CONTROLS = (  # the highest heads, and what is held against them
    "noising/anchor/Phase 1, top", "noising/margin/Phase 2, top", "noising/anchor/random", "noising/margin/random",
    "denoising/anchor/random", "denoising/margin/random", "noising/anchor/Phase 1, lowest",
    "noising/margin/Phase 2, lowest",
)  # fmt: skip
CLAIMS = (
    Claim("focus-rises-early", "Phase 1 shows in the text: Focus rises early, then stays", _curve("focus", 0.0, 0.3),
          "02", "where-one-phase-ends-and-whether-two-show",
          {"contrast": "contrast/focus", "beyond shuffled lines": "contrast above shuffled/focus"},
          "the contrast (slope before t* less slope after) is above 0, and above that of the same lines shuffled; "
          "partly: above the shuffled lines only", bends),
    Claim("confusion-falls-late", "Phase 2 shows in the text: Confusion stays, then falls late",
          _curve("confusion", 0.5, 1.0), "02", "where-one-phase-ends-and-whether-two-show",
          {"contrast": "contrast/confusion", "beyond shuffled lines": "contrast above shuffled/confusion",
           "at t = 0.5": "confusion/0.5/{teacher}", "at the end": "confusion/1.0/{teacher}"},
          "the contrast is above 0, and above that of the same lines shuffled, and Confusion ends below where it was "
          "at t = 0.5, the intervals apart; partly: it bends so and does not fall", bends_and_falls),
    Claim("shortlisting-heads-early", "Shortlisting heads lie in early layers", NONE, "04", "fig-coarse-ranking",
          {"mean depth": "depth of the top/CoarseScore"},
          "the mean depth of the top heads by CoarseScore is below 0.5 (0 the first layer, 1 the last)",
          lambda depth: graded(depth.high < HALF)),
    Claim("refining-heads-late", "Refining heads lie in middle to late layers", NONE, "05", "fig-refine-ranking",
          {"mean depth": "depth of the top/RefineScore", "of shortlisting heads": "depth of the top/CoarseScore"},
          "the mean depth of the top heads by RefineScore is above 0.5, and above that by CoarseScore, the intervals "
          "apart; partly: one of the two", lambda depth, coarse: graded(depth.low > HALF, depth.low > coarse.high)),
    _patched("Noising Phase-1 heads loses the topic", "focus", 1, "noising", "anchor", falls=True),
    # of this number the authors' notes have no array
    Claim("denoising-phase-1", "Restoring Phase-1 heads brings the topic back", "Focus restored up to 85 %",
          "06", "fig-patched",
          {"anchor restored, top *": "denoising/anchor/Phase 1, top/*", "taken by the corruption": "corruption/anchor"},
          "what the largest bin restores of the anchor is above 0 and at least half of what the corruption takes, "
          "itself above 0; partly: above 0 and less than half", restored),
    _patched("Restoring Phase-2 heads keeps near misses out", "confusion", 2, "denoising", "margin", falls=True),
    _patched("Noising Phase-2 heads lets near misses in", "confusion", 2, "noising", "margin", falls=False),
    Claim("controls-do-nothing", "Random and lowest-ranked heads do nothing", NONE, "06", "fig-patched",
          {f"{name} *": f"{name}/*" for name in CONTROLS},
          "in the largest bin at most one of six controls excludes 0 (one in twenty does by chance), and the highest "
          "heads of a phase cost its readout something (above 0); partly: the highest heads do nothing either",
          only_the_highest),
    Claim("double-dissociation", "The phases can be isolated: a double dissociation", NONE, "06", "fig-square",
          {f"Phase {phase} heads, {of}": f"beyond random/Phase {phase}/{of}" for phase in (1, 2) for of in
           ("anchor", "margin")},
          "beyond random heads, noising Phase-1 heads costs the anchor and Phase-2 heads the margin (both above 0), "
          "and neither the other (not above 0); partly: both, and another too", dissociated),
    Claim("complementary", "The phases are complementary", NONE, "08", "fig-shapley",
          {f"{what} Phase {phase}": f"{{dataset}}, {{teacher}}/{what} Phase {phase}" for phase in (1, 2) for what in
           ("Shapley share of", "lost without")},
          "each phase's Shapley share is above 0, and so is what is lost without it; partly: both, of one phase",
          lambda one, lost_1, two, lost_2: graded(min(one.low, lost_1.low) > 0, min(two.low, lost_2.low) > 0)),
    Claim("scores-find-known-heads", "The head scores find heads known by construction (our check, not the paper's)",
          NONE, "07", "what-we-see-who-finds-the-planted-heads",
          {f"AUROC, {name}": f"{phase}/{name}/AUROC" for phase, name in (("phase1", "CoarseScore"), ("phase2",
           "RefineScore"))},
          "each phase's score has an AUROC above 0.5; partly: one of them",
          lambda coarse, refine: graded(coarse.low > HALF, refine.low > HALF)),
    Claim("mechanistic-beats-cot", "Mechanistic distillation beats vanilla CoT distillation in its answers", NONE,
          "10", "what-it-means",
          {f"exact answers, {equal}": f"{equal}/mechanistic - cot/exact" for equal in ("equal steps", "equal time")},
          "the gain in exact answers is above 0 at equal steps and at equal time; partly: at one of the two",
          lambda steps, time: graded(steps.low > 0, time.low > 0)),
    Claim("each-phase-matters", "Supervising each phase matters to the answers (our check: the paper says it of LAS)",
          NONE, "11", "what-it-means",
          {f"exact answers, without Phase {phase}": f"without phase {phase} - full/exact" for phase in (1, 2)},
          "without Phase 1 exact answers fall (below 0), and without Phase 2; partly: without one of the two",
          lambda one, two: graded(one.high < 0, two.high < 0)),
    Claim("las", "Mechanistic distillation gives explanations that foretell the answer better", _las("vanilla_cot"),
          "12", "what-it-means", {"LAS, mechanistic less CoT": "LAS/mechanistic - cot"},
          "the difference in leakage-adjusted simulatability is above 0", lambda gain: graded(gain.low > 0)),
    Claim("las-each-phase", "Supervising each phase makes explanations foretell the answer better",
          _las("without_phase1", "without_phase2"), "12", "what-it-means",
          {f"LAS, without Phase {phase}": f"LAS/without phase {phase} - mechanistic" for phase in (1, 2)},
          "without Phase 1 leakage-adjusted simulatability falls (below 0), and without Phase 2; partly: without one "
          "of the two", lambda one, two: graded(one.high < 0, two.high < 0)),
)  # fmt: skip


def ledger(profile: str, folder: Path | None = None) -> list[Row]:
    """Every claim with its verdict, by the runs `<stem>/<profile>` of a folder (`runs/`), then by those kept.

    A kept run that did not record what a rule reads has no row. Raises ValueError with one line for a run that cannot
    be read, and for two notebooks of one number.
    """
    rows = []
    for claim in CLAIMS:
        rows.append(own(claim, profile, folder or runs.RUNS))
        others = [
            replace(judged(claim, run), kept=run.path.name, made=published_runs.made(run))
            for run in published_runs.of(claim.chapter)
        ]
        rows += [row for row in others if row.verdict != NOT_RUN]
    return rows


def own(claim: Claim, profile: str, folder: Path) -> Row:
    """A claim with its verdict by the run under a profile. Raises ValueError as `ledger` does."""
    found = sorted(folder.glob(f"{claim.chapter}_*/{profile}/{RESULTS}"))
    if len(found) > 1:
        stems = ", ".join(path.parent.parent.name for path in found)
        raise ValueError(f"chapter {claim.chapter} must be one notebook; {folder} has runs of {stems}: remove one")
    return judged(claim, RunFolder(found[0].parent)) if found else Row(claim, NOT_RUN)


def judged(claim: Claim, run: RunFolder) -> Row:
    """A claim with its verdict by one run. Raises ValueError where it cannot be read."""
    try:
        given, results = run.manifest["parameters"], run.results
        numbers, ours = zip(*(_read(called, name, given, results) for called, name in claim.reads.items()), strict=True)
        verdict = NOT_RUN if None in numbers else claim.judge(*numbers)
        data = ", ".join(given[name] for name in ("dataset", "teacher") if name in given)
        return Row(claim, verdict, run.stem, data, ours)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run.path} is not a whole run ({error!r}); run the notebook again with --force") from None


def _read(
    called: str, name: str, given: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]
) -> tuple[Number | None, str]:
    """A result, None where it has no interval or is not there, and how the ledger says it."""
    for parameter in ("dataset", "teacher"):
        name = name.replace(f"{{{parameter}}}", str(given.get(parameter)))
    if name.endswith("*"):
        ends = [one[len(name) - 1 :] for one in results if re.fullmatch(re.escape(name[:-1]) + r"\d+(\.\d+)?", one)]
        end = max(ends, key=float, default="*")
        called, name = called.replace("*", end), name[:-1] + end
    result = results.get(name)
    if result is None or result["interval"] is None:
        return None, f"{called}: none"
    shown = say({**result, "unit": f"({result['unit']})"})
    return Number(result["value"], *result["interval"]), f"{called}: {shown}"


def table(rows: Sequence[Row]) -> str:
    """The ledger as an HTML table, for a page beside the chapters."""
    heads = '<tr><th>claim</th><th>published</th><th style="width: 45%">ours</th><th>verdict</th><th>chapter</th></tr>'
    return "\n".join(['<table class="dataframe">', heads, *(row.html for row in rows), "</table>"])


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many claims have each verdict, of `VERDICTS`, by the reader's own runs."""
    return {verdict: sum(row.verdict == verdict and not row.kept for row in rows) for verdict in VERDICTS}


def runs_beside(folder: Path) -> Path:
    """The runs among which a run of the ledger lies, `<runs>/13_claims/<profile>`; elsewhere, the repository's."""
    return folder.parent.parent if folder.parent.name == STEM else ROOT / runs.RUNS


def check(profile: str, folder: Path | None = None) -> list[str]:
    """Where the ledger's own run no longer follows from the stored results, a line a claim; [] where all does.

    Compared are the verdicts that it recorded, and the rows, with their numbers, that its page shows.
    Raises FileNotFoundError where the ledger has no run, ValueError as `ledger` does.
    """
    folder = folder or runs.RUNS
    made = runs.find_run(str(folder / STEM / profile))
    now = {row.key: row for row in ledger(profile, folder)}
    said = {name: result["value"] for name, result in made.results.items() if name.startswith("verdict/")}
    outputs = [output for cell in runs.read_notebook(made.notebook).cells for output in cell.get("outputs", ())]
    page = "\n".join(str(shown) for output in outputs for shown in output.get("data", {}).values())
    problems = []
    for name in dict.fromkeys([*now, *said]):
        was, follows = said.get(name, "not recorded"), now[name].verdict if name in now else "no claim of the ledger"
        if was != follows:
            problems.append(f"{name} is {was!r} in {made.name}, and {follows!r} by the stored results")
        elif now[name].html not in page:
            problems.append(f"{name}: the page of {made.name} shows other numbers than the stored results")
    return [f"{problem}; mend: ctd run {STEM} --profile {profile} --force" for problem in problems]
