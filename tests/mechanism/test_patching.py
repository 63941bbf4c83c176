"""Exchanged patterns: no-ops, single runs as oracles, controls, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.mechanism import attention, attention_patches, head_bins, patch_effects, patching, readouts, trials
from ctd.mechanism.attention import Head
from ctd.mechanism.head_bins import RANDOM
from ctd.mechanism.phases import Phase
from ctd.mechanism.readouts import ANCHOR, MARGIN
from ctd.reasoning.token_spans import Span
from tests.mechanism.test_attention import made
from tests.mechanism.test_heads import PASSAGES, passage

MANY = [passage(seed, 40, f"d{seed}") for seed in range(40)]


@pytest.fixture
def llama():
    return made("llama")


def of_the_trace(passage, rows):
    """Which queries are patched."""
    return torch.arange(len(passage.ids)).expand(rows, -1) >= passage.cot.start


def test_corruption_changes_the_anchors_words_alone_token_for_token():
    one, other = PASSAGES[0], PASSAGES[3]
    corrupted = trials.corrupt(one, other)
    assert len(corrupted.ids) == len(one.ids)
    changed = [place for place, pair in enumerate(zip(one.ids, corrupted.ids, strict=True)) if pair[0] != pair[1]]
    assert set(changed) <= {4, 5, 9}
    foreign = [other.ids[4], other.ids[5], other.ids[9]]
    assert [corrupted.ids[place] for place in (4, 5, 9)] == foreign
    short = replace(other, anchor_mentions=(Span(4, 5),))
    assert [trials.corrupt(one, short).ids[place] for place in (4, 5, 9)] == [other.ids[4]] * 3
    with pytest.raises(ValueError, match="document 'd3' never mentions its anchor: there is nothing to corrupt"):
        trials.corrupt(one, replace(other, anchor_mentions=()))


def test_every_document_is_paired_with_another_and_those_without_mentions_are_counted():
    silent = replace(PASSAGES[1], anchor_mentions=())
    made_pairs, left_out = trials.pairs([*PASSAGES, silent])
    assert left_out == 1
    assert [clean.uid for clean, _ in made_pairs] == ["d0", "d1", "d2", "d3"]
    for clean, corrupted in made_pairs:
        assert corrupted.uid == clean.uid
        assert corrupted.ids != clean.ids
    with pytest.raises(ValueError, match="corruption takes words from other documents, got 1 that mention"):
        trials.pairs([PASSAGES[0], silent])


@torch.no_grad()
def test_readouts_are_those_of_whole_logits(llama):
    one = PASSAGES[0]
    ids = torch.tensor([one.ids])
    whole = llama(input_ids=ids).logits[0].double()
    told = readouts.read_out(whole[readouts.queries_read(one)], one)
    logs = whole.log_softmax(-1)
    expected = np.mean([logs[query, one.ids[query + 1]].item() for query in range(15, 19)])
    assert told[ANCHOR].item() == pytest.approx(expected, rel=1e-4)
    assert told[MARGIN].item() == pytest.approx(
        ((whole[27, 7] - whole[27, 9] + whole[32, 11] - whole[32, 5]) / 2).item()
    )
    mute = replace(one, topics=Span(15, 15), comparisons=())
    assert all(value.isnan() for value in readouts.read_out(whole[:0], mute).values())


@pytest.mark.parametrize("way", ["noising", "denoising"])
@pytest.mark.parametrize("what", ["pattern", "output"])
@torch.no_grad()
def test_effects_are_those_of_single_runs(llama, way, what):
    documents, _ = trials.pairs(PASSAGES)
    selected = {("top", 2): [Head(0, 1), Head(2, 5)], ("top", 3): [Head(0, 1), Head(2, 5), Head(1, 0)]}
    found = patching.effects(llama, documents, selected, way, what)
    small = patching.effects(llama, documents, selected, way, what, rows=3)
    for readout in (ANCHOR, MARGIN):
        np.testing.assert_allclose(found.values[readout], small.values[readout], rtol=1e-4, atol=1e-5)
    for row, (clean, corrupted) in enumerate(documents):
        runs = [clean, corrupted]
        for column, one in enumerate(runs):
            logits = llama(input_ids=torch.tensor([one.ids])).logits[0]
            told = readouts.read_out(logits[readouts.queries_read(clean)], clean)
            assert found.values[ANCHOR][row, column] == pytest.approx(told[ANCHOR].item(), rel=1e-4)
        into, source = (0, 1) if way == "noising" else (1, 0)
        for column, heads in enumerate(selected.values(), start=2):
            mask = torch.zeros(2, 3, 6, dtype=torch.bool)
            for head in heads:
                mask[into, head.layer, head.head] = True
            with attention_patches.patch(llama, mask, [source, source], what, queries=of_the_trace(clean, 2)):
                logits = llama(input_ids=torch.tensor([one.ids for one in runs])).logits[into]
            told = readouts.read_out(logits[readouts.queries_read(clean)], clean)
            for readout in (ANCHOR, MARGIN):
                assert found.values[readout][row, column] == pytest.approx(told[readout].item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("way", ["noising", "denoising"])
@torch.no_grad()
def test_texts_under_an_intervention_are_those_of_a_step_by_step_run(llama, way):
    """Each next token by a whole forward pass over all rows, patched, without a cache or `generate`."""
    documents, _ = trials.pairs([replace(one, ids=one.ids[:20]) for one in PASSAGES])
    selected = {("top", 4): [Head(0, 1), Head(2, 5), Head(1, 0), Head(1, 3)], ("top", 1): [Head(0, 1)]}
    written = patching.generated(llama, documents, selected, WordTokens(), way, max_tokens=6)
    assert written == patching.generated(llama, documents, selected, WordTokens(), way, max_tokens=6, rows=3)
    assert any(texts[2] != texts[0] for texts in written)
    for (clean, corrupted), texts in zip(documents, written, strict=True):
        into, source = (clean, 1) if way == "noising" else (corrupted, 0)
        ids = torch.tensor([one.ids[:16] for one in (clean, corrupted, into, into)])
        heads = torch.zeros(4, 3, 6, dtype=torch.bool)
        for row, of in enumerate(selected.values(), start=2):
            for head in of:
                heads[row, head.layer, head.head] = True
        for _ in range(6):
            with attention_patches.patch(llama, heads, [0, 1, source, source], queries=of_the_trace(clean, 4)):
                best = llama(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
            ended = (ids[:, 16:] == WordTokens.eos_token_id).any(1)
            ids = torch.cat([ids, best.where(~ended, WordTokens.pad_token_id)[:, None]], 1)
        assert texts == WordTokens().batch_decode(ids[:, 16:])


class WordTokens:
    """A stand-in for a tokenizer: a token reads as its number."""

    eos_token_id, pad_token_id = 1, 0

    def batch_decode(self, rows, **_):
        return [" ".join(str(token) for token in row if token > 1) for row in rows.tolist()]


@torch.no_grad()
def test_a_run_patched_with_its_own_patterns_is_itself(llama):
    same = [(one, one) for one in PASSAGES]
    found = patching.effects(llama, same, {("top", 18): attention.all_heads(llama)})
    for values in found.values.values():
        np.testing.assert_allclose(values[:, 2], values[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.moved(ANCHOR, ("top", 18)), 0.0, atol=1e-5)


@torch.no_grad()
def test_random_heads_of_a_random_model_restore_nothing_for_sure():
    model = made("llama")
    documents, _ = trials.pairs(MANY)
    selected = head_bins.selections({Phase.SHORTLIST: attention.all_heads(model)}, [1, 2], n_random=5)
    found = patching.effects(model, documents, selected)
    table = found.table()
    assert set(table["heads"]) == {"Phase 1, top", "Phase 1, lowest", RANDOM}
    controls = table[(table["heads"] == RANDOM) & (table["size"] == 1)]
    assert (controls["low"] < 0).all()
    assert (controls["high"] > 0).all()


def test_fractions_are_of_what_the_corruption_does():
    values = np.array([[1.0, 0.0, 0.5, 0.9, 0.7], [3.0, 1.0, 2.0, 2.9, 2.7]])
    keys = (("top", 3), ("random 1", 3), ("random 2", 3))
    noised = patch_effects.Effects("noising", keys, {ANCHOR: values})
    assert noised.fraction(ANCHOR, ("top", 3)).estimate == pytest.approx(0.5)
    assert noised.fraction(ANCHOR, (RANDOM, 3)).estimate == pytest.approx((0.2 + 0.2) / 3)
    denoised = patch_effects.Effects("denoising", keys, {ANCHOR: values})
    assert denoised.fraction(ANCHOR, ("top", 3)).estimate == pytest.approx(1.5 / 3)
    assert noised.table()["value"].tolist() == pytest.approx([0.75, 0.2])
    assert denoised.table()["value"].tolist() == pytest.approx([0.75, 1.3])
    assert noised.between(ANCHOR).estimate == pytest.approx(1.5)
    with pytest.raises(ValueError, match=r"got \('top', 4\)"):
        noised.fraction(ANCHOR, ("top", 4))


def test_documents_without_a_readout_are_left_out():
    values = np.array([[1.0, 0.0, 0.5], [np.nan] * 3, [3.0, 1.0, 2.0]])
    found = patch_effects.Effects("noising", (("top", 3),), {MARGIN: values})
    assert found.moved(MARGIN, ("top", 3)).tolist() == [0.5, 1.0]
    assert found.between(MARGIN).estimate == pytest.approx(1.5)
    assert found.table()["n"].tolist() == [2]


def test_the_dissociation_is_what_each_phase_loses_beyond_the_control():
    keys = (("Phase 1, top", 3), ("Phase 2, top", 3), ("random 1", 3), ("random 2", 3))
    values = np.array([[1.0, 0.0, 0.2, 0.85, 0.9, 0.8]] * 4)
    square = patch_effects.dissociation(patch_effects.Effects("noising", keys, {ANCHOR: values}), tuple(Phase), 3)
    assert square["value"].tolist() == pytest.approx([0.65, 0.0])
    assert square["noised"].tolist() == ["Phase 1", "Phase 2"]
    assert square["n"].tolist() == [4, 4]


def test_the_written_table_starts_at_the_run_that_is_not_patched_and_holds_the_published_values():
    keys = (("Phase 1, top", 1), ("Phase 1, top", 6), ("Phase 2, top", 1), ("Phase 2, top", 6))
    keys += (("random 1", 1), ("random 1", 6))
    values = np.array([[0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]] * 3 + [[np.nan] * 8])
    said = {
        way: patch_effects.Effects(way, keys, {"focus": values, "confusion": values})
        for way in ("noising", "denoising")
    }
    table = patch_effects.written_table(said, 36)
    lines = table.groupby(["panel", "line"], sort=False)["value"].apply(list).to_dict()
    assert lines["focus, Phase 1, noising", "heads of the phase"] == pytest.approx([0.9, 0.8, 0.7])
    assert lines["confusion, Phase 2, denoising", "heads of the phase"] == pytest.approx([0.1, 0.6, 0.5])
    assert lines["confusion, Phase 2, noising", "random heads"] == pytest.approx([0.9, 0.4, 0.3])
    assert lines["focus, Phase 1, noising", "published"] == pytest.approx([0.85, 0.60, 0.53, 0.39, 0.31, 0.25])
    assert table.groupby("line")["n"].unique().apply(list).to_dict() == {
        "heads of the phase": [3], "published": [0], "random heads": [3],
    }  # fmt: skip
    assert table[table["line"] == "heads of the phase"]["share"].tolist()[:3] == pytest.approx([0, 1 / 36, 6 / 36])


def test_bins_are_the_papers_fractions_or_spread_over_a_small_model():
    assert head_bins.bins(5120) == [3, 8, 16, 40, 100]
    assert head_bins.bins(10240) == [6, 16, 32, 80, 200]
    assert head_bins.bins(270) == [1, 3, 9, 29, 90]
    assert head_bins.bins(36) == [1, 2, 3, 6, 12]
    assert head_bins.bins(10) == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="5 bins need at least 10 heads, got 9"):
        head_bins.bins(9)


def test_selections_are_cumulative_from_either_end_and_at_random():
    ranking = [Head(n, 0) for n in range(10)]
    chosen = head_bins.selections({Phase.SHORTLIST: ranking, Phase.REFINE: ranking[::-1]}, [2, 5], n_random=5, seed=1)
    assert chosen["Phase 1, top", 2] == chosen["Phase 2, lowest", 2] == ranking[:2]
    assert chosen["Phase 1, lowest", 5] == chosen["Phase 2, top", 5] == ranking[:4:-1]
    for n in range(1, 6):
        assert chosen[f"random {n}", 5][:2] == chosen[f"random {n}", 2]
    assert len({tuple(chosen[f"random {n}", 5]) for n in range(1, 6)}) == 5
    same = head_bins.selections({Phase.REFINE: ranking[::-1]}, [2, 5], n_random=5, seed=1)
    assert all(chosen[key] == heads for key, heads in same.items())
    with pytest.raises(ValueError, match=re.escape("bins must be between 1 and 10 heads, got [2, 11]")):
        head_bins.selections({Phase.SHORTLIST: ranking}, [2, 11])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "loud"}, "way must be one of noising, denoising, got 'loud'"),
        ({"way": "denoising", "noise": "uniform"}, "denoising puts the clean run back: noise must be 'run'"),
        ({"documents": []}, "there is nothing to patch: no document was given"),
        (
            {"documents": [(PASSAGES[0], PASSAGES[1])]},
            "clean and corrupted run of 'd0' must be equally long, got 40 and 44 tokens",
        ),
        ({"selected": {("top", 1): [Head(9, 9)]}}, "heads must be below layer 3 and head 6, got layer 9, head 9"),
    ],
)
def test_what_cannot_be_patched_is_refused(options, message, llama):
    given = {"documents": [(PASSAGES[0], PASSAGES[0])], "selected": {("top", 1): [Head(0, 0)]}, **options}
    with pytest.raises(ValueError, match=message):
        patching.effects(llama, **given)
