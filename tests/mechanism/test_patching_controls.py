"""The controls of patching: planted heads are found, nothing is on random weights, numbers are those of single runs."""

from dataclasses import replace

import numpy as np
import pytest

from ctd.data.readers.organism import label_space
from ctd.mechanism import corruptions, patching, patching_controls, planted_heads
from ctd.mechanism.attention import Head
from ctd.mechanism.patching import Intervention
from ctd.mechanism.patching_controls import DEFAULT, INSTRUMENTS, PAPER, Settings, instrument
from ctd.mechanism.phases import Phase
from ctd.mechanism.random_weights import random_model
from ctd.mechanism.readouts import ANCHOR, MARGIN, READS
from ctd.reasoning import annotate, models
from ctd.recipes import organism_texts
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_corruptions import WHOLE

KNOWN = {Phase.SHORTLIST: [Head(1, 1), Head(1, 4)], Phase.REFINE: [Head(2, 0), Head(2, 3)]}


@pytest.fixture(scope="module")
def organism():
    return models.load("organism-planted", dtype="float32")


@pytest.fixture(scope="module")
def vignettes(organism):
    space, cases = label_space(), organism_texts.cases("test", 12)
    traces = [organism_texts.trace(case, space, seed=0) for case in cases]
    anchors = [space.anchors(case.labels, 2) for case in cases]
    return annotate.annotate_traces(traces, [case.labels for case in cases], anchors, space, organism.tokenizer)[0]


def test_planted_heads_are_found_on_another_document_and_not_by_the_papers_exchange(organism, vignettes):
    planted = planted_heads.planted_heads()
    findings = patching_controls.find(organism.model, vignettes, planted, Settings(4, 20), [*DEFAULT.values(), *PAPER])
    table = patching_controls.table(findings)
    assert len(table) == 8
    by_default = table["instrument"] == DEFAULT["noising"].name
    assert table[by_default]["found"].all()
    assert (table[by_default]["value"] > table[by_default]["bound"] + 0.05).all()
    assert not table[~by_default & (table["intervention"] == "noising")]["found"].any()
    assert (table["n"] == 4).all()


def test_every_corruption_and_replacement_has_an_instrument_of_its_own_name():
    names = [(used.how.way, used.name) for used in INSTRUMENTS]
    assert len(set(names)) == len(names) == 22
    assert {used.corruption for used in INSTRUMENTS} == set(corruptions.LEFT_OUT)
    assert {(used.how.what, used.how.noise) for used in INSTRUMENTS} == {
        ("pattern", "run"), ("output", "run"), ("pattern", "uniform"), ("pattern", "mean"), ("output", "mean"),
        ("pattern", "gaussian"),
    }  # fmt: skip
    assert PAPER[0].name == "patterns exchanged, anchors replaced, all queries"
    assert all(used.of_phase(Phase.REFINE).phase is None for used in PAPER)
    assert DEFAULT["denoising"].of_phase(Phase.REFINE) == Intervention("denoising", phase=Phase.REFINE)


def test_a_finding_is_that_of_patched_runs_and_random_sets_have_no_known_head():
    model, settings = build_model("llama"), Settings(3, 6, seed=2)
    mute = replace(WHOLE[0], comparisons=())
    used = instrument("sentences", Intervention())
    findings = patching_controls.find(model, [mute, *WHOLE], KNOWN, settings, [used])
    pairs = corruptions.pairs(WHOLE, 2, "sentences")[0][:3]
    for finding, (phase, heads) in zip(findings, KNOWN.items(), strict=True):
        alone = patching.effects(model, pairs, {("planted", 2): heads}, Intervention(phase=phase))
        moved = alone.moved(READS[phase], ("planted", 2))
        np.testing.assert_allclose(finding.effects.moved(READS[phase], ("planted", 2)), moved, rtol=1e-3, atol=1e-5)
        assert finding.against.effect == pytest.approx(moved.mean(), rel=1e-3, abs=1e-5)
        assert len(finding.against.random) == 6
    sets = patching_controls._sets(model, KNOWN, settings)
    known = {head for heads in KNOWN.values() for head in heads}
    for phase, selected in sets.items():
        assert selected.pop(("planted", 2)) == KNOWN[phase]
        assert not any(known & set(heads) for heads in selected.values())
        assert all(head.layer == KNOWN[phase][0].layer for heads in selected.values() for head in heads)


def test_a_null_run_passes_where_it_would_beside_all_sets(monkeypatch):
    """Also where the sets that decide it come in several batches."""
    monkeypatch.setattr(patching_controls, "LOOKS", (0, 2, 5))
    model, settings = build_model("llama"), Settings(3, 8)
    used = [instrument("sentences", Intervention()), instrument("anchors", Intervention(noise="uniform"))]
    runs = patching_controls.null_runs(model, WHOLE, KNOWN, 6, settings, used)
    assert runs["model"].tolist() == [seed for seed in range(6) for _ in range(4)]
    passes = [
        finding.against.passes
        for seed in range(6)
        for finding in patching_controls.find(random_model(model, seed), WHOLE, KNOWN, settings, used)
    ]
    assert runs["passes"].tolist() == passes
    assert 0 < sum(passes) <= 8  # beyond all 8 sets: 1 in 9 is to be expected


def test_a_null_run_ends_with_the_look_that_decides_it(monkeypatch):
    """Half of the runs move the readout the wrong way: these need no random set, and most of the others four."""
    monkeypatch.setenv("CTD_WORKERS", "1")
    patched, effects = [], patching.effects
    monkeypatch.setattr(
        patching, "effects", lambda *args, **options: patched.append(len(args[2]) - 1) or effects(*args, **options)
    )
    used = [instrument("anchors", Intervention(noise="uniform"))]
    runs = patching_controls.null_runs(build_model("llama"), WHOLE, KNOWN, 5, Settings(3, 100), used)
    assert patched.count(0) == len(runs)
    assert 0 < patched.count(4) < len(runs)
    assert sum(patched) < 0.5 * 100 * len(runs)


def test_known_heads_cost_both_readouts_what_single_runs_say():
    model, pairs = build_model("llama"), corruptions.pairs(WHOLE, corruption="document")[0]
    table = patching_controls.needed(model, pairs, KNOWN, DEFAULT["noising"], n_random=5)
    cells = table.set_index(["phase", "readout"])
    assert cells.loc[(Phase.REFINE, ANCHOR), "value"] == 0  # read before Phase 2
    alone = patching.effects(model, pairs, {("top", 2): KNOWN[Phase.SHORTLIST]}, Intervention(phase=Phase.SHORTLIST))
    assert cells.loc[(Phase.SHORTLIST, MARGIN), "value"] == pytest.approx(
        alone.moved(MARGIN, ("top", 2)).mean(), rel=1e-3
    )
