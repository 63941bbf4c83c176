"""Does patching find heads that are known, and nothing where there is nothing? Every instrument, on both questions.

Notes: an instrument is a corruption, and what is put in at the queries of the phase whose heads are patched. Positive
control: the planted heads of a model organism against random sets of as many other heads from the same layers or the
next ones. Negative control: the same heads and sets in models of the same architecture with random weights. Our rule:
a patching claim counts only where the same instrument gives the planted heads an effect beyond the 99th percentile of
the random sets, and large enough to matter. The negative control asks for the first alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ctd import hardware, stats, workers
from ctd.mechanism import attention, corruptions, head_bins, patching, phases
from ctd.mechanism.attention import Head
from ctd.mechanism.corruptions import Corruption, Pair
from ctd.mechanism.patch_effects import AgainstRandom, Effects, Way
from ctd.mechanism.patching import Intervention
from ctd.mechanism.phases import Phase
from ctd.mechanism.random_weights import random_model
from ctd.mechanism.readouts import READS
from ctd.reasoning.annotate import AnnotatedTrace

CORRUPTED: dict[Corruption, str] = {
    "anchors": "anchors replaced",
    "sentences": "sentences permuted",
    "document": "document swapped",
    "shortlist": "shortlist permuted",
}
ALONE = {  # what needs no corrupted run
    "uniform rows": Intervention(noise="uniform"),
    "mean rows": Intervention(noise="mean"),
    "mean outputs": Intervention(what="output", noise="mean"),
    "noisy scores": Intervention(noise="gaussian"),
}
PLANTED = "planted"
LOOKS = (0, 4, 20)  # random sets after which a null run looks whether it is decided


class Instrument(NamedTuple):
    """One way of patching.

    name: what is put in, and the corruption where there is one.
    corruption: of the documents.
    how: heads are patched, whatever the phase.
    limited: whether only the queries of the phase are patched.
    """

    name: str
    corruption: Corruption
    how: Intervention
    limited: bool = True

    def of_phase(self, phase: Phase) -> Intervention:
        """How the heads of a phase are patched."""
        return replace(self.how, phase=phase if self.limited else None)


def instrument(corruption: Corruption, how: Intervention, limited: bool = True) -> Instrument:
    """An instrument with its name."""
    if how.noise == "run":
        name = f"{how.what}s exchanged, {CORRUPTED[corruption]}"
    else:
        name = next(name for name, alone in ALONE.items() if (alone.what, alone.noise) == (how.what, how.noise))
    return Instrument(name + ("" if limited else ", all queries"), corruption, how, limited)


DEFAULT = {way: instrument("document", Intervention(way)) for way in get_args(Way)}
"""What chapter 06 uses unless told otherwise: it finds the planted heads of both phases."""
PAPER = [instrument("anchors", Intervention(way), limited=False) for way in ("noising", "denoising")]
INSTRUMENTS = (
    *PAPER,
    *(
        instrument(corruption, Intervention(way, what))
        for way in ("noising", "denoising")
        for what in ("pattern", "output")
        for corruption in CORRUPTED
    ),
    *(instrument("anchors", how) for how in ALONE.values()),
)


class Finding(NamedTuple):
    """What an instrument says of the known heads of a phase.

    instrument: by which they were patched.
    phase: of the heads.
    effects: of the known heads (kind "planted") and of each random set ("random 1" ...) on the phase's readout.
    size: how many heads.
    """

    instrument: Instrument
    phase: Phase
    effects: Effects
    size: int

    @property
    def against(self) -> AgainstRandom:
        """The mean effect beside those of the random sets."""
        return self.effects.against_random(READS[self.phase], (PLANTED, self.size), head_bins.RANDOM)


@dataclass(frozen=True)
class Settings:
    """How a control is done.

    n_documents: that heads are patched on, at most: those that have the phase's readout.
    n_random: random sets.
    seed: draws the sets and the corruptions.
    """

    n_documents: int = 16
    n_random: int = 200
    seed: int = 0


def find(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    known: Mapping[Phase, Sequence[Head]],
    settings: Settings = Settings(),
    instruments: Sequence[Instrument] = INSTRUMENTS,
) -> list[Finding]:
    """What each instrument says of the known heads of each phase.

    traces: of the documents; those that decide no comparison are not used.
    known: heads of each phase; no random set has any of them.
    Raises what `patching.effects` and `corruptions.pairs` raise.
    """
    control = _control(model, traces, known, settings, instruments)
    pieces = [_Piece(instrument, phase, len(known[phase])) for instrument in instruments for phase in known]
    with tqdm(total=len(pieces), desc="instruments", unit=" instruments") as bar:
        return list(workers.run(_find, pieces, control, workers=int(hardware.on_accelerator(model)), bar=bar))


def table(findings: Sequence[Finding], seed: int = 0) -> pd.DataFrame:
    """A row for each finding: instrument, intervention, phase, readout, corruption (what it takes), value, low, high
    (effect of the planted heads with its interval over documents), bound (99th percentile of the random sets),
    percentile, found and n (documents).
    """
    rows = []
    for instrument, phase, effects, size in findings:
        readout = READS[phase]
        moved = effects.moved(readout, (PLANTED, size))
        against = effects.against_random(readout, (PLANTED, size), head_bins.RANDOM)
        rows.append(
            (
                instrument.name, instrument.how.way, phase, readout, effects.between(readout, seed).scalar[0],
                *stats.bootstrap_mean(moved, seed=seed).scalar, against.bound, against.percentile, against.found,
                len(moved),
            )
        )  # fmt: skip
    columns = ["instrument", "intervention", "phase", "readout", "corruption", "value", "low", "high", "bound"]
    return phases.table(rows, [*columns, "percentile", "found", "n"])


def null_runs(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    known: Mapping[Phase, Sequence[Head]],
    n_models: int,
    settings: Settings = Settings(),
    instruments: Sequence[Instrument] = INSTRUMENTS,
) -> pd.DataFrame:
    """Whether each instrument finds something in models with random weights, whose heads do nothing in particular.

    A run patches no more random sets than its verdict takes: it ends once so many reach the effect of the known heads
    that these cannot pass (our definition, after Besag and Clifford 1991; the verdict is that of all sets).

    model: whose architecture is used.
    n_models: how many are drawn.
    traces, known, settings, instruments, errors: as in `find`.
    Returns columns instrument, intervention, phase, model and passes: a row for each run.
    """
    control = _control(model, traces, known, settings, instruments)
    pieces = [_Piece(tool, phase, len(known[phase])) for tool in instruments for phase in known]
    seeds = range(settings.seed, settings.seed + n_models)
    with tqdm(total=n_models, desc="random weights, patching", unit=" models") as bar:
        shared = _Null(control, pieces)
        by_model = list(workers.run(_null, seeds, shared, workers=int(hardware.on_accelerator(model)), bar=bar))
    rows = [
        (tool.name, tool.how.way, phase, seed, passed)
        for seed, passes in zip(seeds, by_model, strict=True)
        for (tool, phase, _), passed in zip(pieces, passes, strict=True)
    ]
    return phases.table(rows, ["instrument", "intervention", "phase", "model", "passes"])


def needed(
    model: Any,
    documents: Sequence[Pair],
    known: Mapping[Phase, Sequence[Head]],
    instrument: Instrument,
    n_random: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """What patching the known heads of each phase moves in both readouts: the double dissociation on known heads.

    documents: that were corrupted as the instrument says.
    n_random: random sets.
    Returns columns phase, readout, value, low, high, bound (99th percentile of the random sets), percentile and n.
    """
    sets, rows = _sets(model, known, Settings(n_random=n_random, seed=seed)), []
    for phase, selected in sets.items():
        effects, key = (
            patching.effects(model, documents, selected, instrument.of_phase(phase)),
            (PLANTED, len(known[phase])),
        )
        for readout in effects.values:
            against, moved = effects.against_random(readout, key, head_bins.RANDOM), effects.moved(readout, key)
            interval = stats.bootstrap_mean(moved, seed=seed).scalar
            rows.append((phase, readout, *interval, against.bound, against.percentile, len(moved)))
    return phases.table(rows, ["phase", "readout", "value", "low", "high", "bound", "percentile", "n"])


def _sets(
    model: Any, known: Mapping[Phase, Sequence[Head]], settings: Settings
) -> dict[Phase, dict[tuple[str, int], list[Head]]]:
    """The known heads of each phase and random sets like them."""
    taken = {head for heads in known.values() for head in heads}
    others = [head for head in attention.all_heads(model) if head not in taken]
    rng, sets = np.random.default_rng(settings.seed), {}
    for phase, heads in known.items():
        drawn = head_bins.matched(heads, others, settings.n_random, rng)
        sets[phase] = {(PLANTED, len(heads)): list(heads)}
        sets[phase] |= {(f"{head_bins.RANDOM} {n + 1}", len(heads)): chosen for n, chosen in enumerate(drawn)}
    return sets


class _Control(NamedTuple):
    """What all runs of a control share: the documents by corruption, and the sets of heads by phase."""

    model: Any
    pairs: dict[Corruption, list[Pair]]
    sets: dict[Phase, dict[tuple[str, int], list[Head]]]


class _Piece(NamedTuple):
    """One instrument on one phase's heads."""

    instrument: Instrument
    phase: Phase
    size: int


class _Null(NamedTuple):
    """What all models with random weights share."""

    control: _Control
    pieces: list[_Piece]


def _control(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    known: Mapping[Phase, Sequence[Head]],
    settings: Settings,
    instruments: Sequence[Instrument],
) -> _Control:
    deciding = [trace for trace in traces if any(pair.decided for pair in trace.comparisons)]
    names = dict.fromkeys(instrument.corruption for instrument in instruments)
    pairs = {name: corruptions.pairs(deciding, settings.seed, name)[0][: settings.n_documents] for name in names}
    return _Control(model, pairs, _sets(model, known, settings))


def _find(control: _Control, piece: _Piece) -> Finding:
    return _finding(control, piece, control.model, control.sets[piece.phase])


def _null(shared: _Null, seed: int) -> list[bool]:
    """Whether the known heads pass on a model with random weights, by every instrument."""
    model = random_model(shared.control.model, seed)
    return [_passes(shared.control, piece, model) for piece in shared.pieces]


def _passes(control: _Control, piece: _Piece, model: Any) -> bool:
    """Whether the known heads pass; random sets not yet patched are taken to have no effect."""
    sets = control.sets[piece.phase]
    known, *others = sets
    random = np.full(len(others), -np.inf)
    for first, last in pairwise([0, *(look for look in LOOKS if look < len(others)), len(others)]):
        against = _finding(control, piece, model, {key: sets[key] for key in (known, *others[first:last])}).against
        random[first:last] = against.random
        if not AgainstRandom(against.effect, random).passes:
            return False
    return True


def _finding(control: _Control, piece: _Piece, model: Any, sets: Mapping[tuple[str, int], Sequence[Head]]) -> Finding:
    tool, phase = piece.instrument, piece.phase
    effects = patching.effects(
        model, control.pairs[tool.corruption], sets, tool.of_phase(phase), [READS[phase]], desc=None
    )
    return Finding(tool, phase, effects, piece.size)
