"""Exchanged patterns: no-ops, single runs as oracles, controls, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.mechanism import attention, attention_patches, corruptions, head_bins, patch_effects, patching, readouts
from ctd.mechanism.attention import Head
from ctd.mechanism.head_bins import RANDOM
from ctd.mechanism.patching import Intervention
from ctd.mechanism.phases import Phase
from ctd.mechanism.readouts import ANCHOR, MARGIN
from ctd.reasoning.token_spans import Span
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES, passage

MANY = [passage(seed, 40, f"d{seed}") for seed in range(40)]


@pytest.fixture
def llama():
    return build_model("llama")


def of_the_trace(passage, rows):
    """Which queries are patched."""
    return torch.arange(len(passage.ids)).expand(rows, -1) >= passage.cot.start


@torch.no_grad()
def test_readouts_are_those_of_whole_logits(llama):
    trace = PASSAGES[0]
    ids = torch.tensor([trace.ids])
    whole = llama(input_ids=ids).logits[0].double()
    values = readouts.read_out(whole[readouts.queries_read(trace)], trace)
    logs = whole.log_softmax(-1)
    expected = np.mean([logs[query, trace.ids[query + 1]].item() for query in range(15, 19)])
    assert values[ANCHOR].item() == pytest.approx(expected, rel=1e-4)
    assert values[MARGIN].item() == pytest.approx(
        ((whole[27, 7] - whole[27, 9] + whole[32, 11] - whole[32, 5]) / 2).item()
    )
    mute = replace(trace, topics=Span(15, 15), comparisons=())
    assert all(value.isnan() for value in readouts.read_out(whole[:0], mute).values())


@pytest.mark.parametrize("way", ["noising", "denoising"])
@pytest.mark.parametrize("what", ["pattern", "output"])
@torch.no_grad()
def test_effects_are_those_of_single_runs(llama, way, what):
    documents, _ = corruptions.pairs(PASSAGES)
    selected = {("top", 2): [Head(0, 1), Head(2, 5)], ("top", 3): [Head(0, 1), Head(2, 5), Head(1, 0)]}
    effects = patching.effects(llama, documents, selected, Intervention(way, what))
    small = patching.effects(llama, documents, selected, Intervention(way, what), rows=3)
    for readout in (ANCHOR, MARGIN):
        np.testing.assert_allclose(effects.values[readout], small.values[readout], rtol=1e-4, atol=1e-5)
    for row, (clean, corrupted) in enumerate(documents):
        runs = [clean, corrupted]
        for column, run in enumerate(runs):
            logits = llama(input_ids=torch.tensor([run.ids])).logits[0]
            expected = readouts.read_out(logits[readouts.queries_read(clean)], clean)
            assert effects.values[ANCHOR][row, column] == pytest.approx(expected[ANCHOR].item(), rel=1e-4)
        into, source = (0, 1) if way == "noising" else (1, 0)
        for column, heads in enumerate(selected.values(), start=2):
            mask = torch.zeros(2, 3, 6, dtype=torch.bool)
            for head in heads:
                mask[into, head.layer, head.head] = True
            with attention_patches.patch(llama, mask, [source, source], what, queries=of_the_trace(clean, 2)):
                logits = llama(input_ids=torch.tensor([run.ids for run in runs])).logits[into]
            expected = readouts.read_out(logits[readouts.queries_read(clean)], clean)
            for readout in (ANCHOR, MARGIN):
                assert effects.values[readout][row, column] == pytest.approx(
                    expected[readout].item(), rel=1e-3, abs=1e-4
                )


@pytest.mark.parametrize("way", ["noising", "denoising"])
@torch.no_grad()
def test_texts_under_an_intervention_are_those_of_a_step_by_step_run(llama, way):
    """Each next token by a whole forward pass over all rows, patched, without a cache or `generate`."""
    documents, _ = corruptions.pairs([replace(trace, ids=trace.ids[:20]) for trace in PASSAGES])
    selected = {("top", 4): [Head(0, 1), Head(2, 5), Head(1, 0), Head(1, 3)], ("top", 1): [Head(0, 1)]}
    how = Intervention(way)
    written = patching.generated(llama, documents, selected, WordTokens(), how, max_tokens=6)
    assert written == patching.generated(llama, documents, selected, WordTokens(), how, max_tokens=6, rows=3)
    assert any(texts[2] != texts[0] for texts in written)
    for (clean, corrupted), texts in zip(documents, written, strict=True):
        into, source = (clean, 1) if way == "noising" else (corrupted, 0)
        ids = torch.tensor([trace.ids[:16] for trace in (clean, corrupted, into, into)])
        heads = torch.zeros(4, 3, 6, dtype=torch.bool)
        for row, chosen in enumerate(selected.values(), start=2):
            for head in chosen:
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
    same = [(trace, trace) for trace in PASSAGES]
    effects = patching.effects(llama, same, {("top", 18): attention.all_heads(llama)})
    for values in effects.values.values():
        np.testing.assert_allclose(values[:, 2], values[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(effects.moved(ANCHOR, ("top", 18)), 0.0, atol=1e-5)


@pytest.mark.parametrize("phase", [None, *Phase])
@pytest.mark.parametrize(("what", "noise"), [("pattern", "uniform"), ("pattern", "mean"), ("output", "mean")])
@torch.no_grad()
def test_what_is_put_in_is_what_eager_attention_would_give(llama, phase, what, noise):
    """Every patched output is set by hand, at the queries of the phase alone, from eager patterns and values."""
    documents, _ = corruptions.pairs(PASSAGES)
    heads = [Head(0, 1), Head(2, 5)]
    effects = patching.effects(llama, documents, {("top", 2): heads}, Intervention("noising", what, noise, phase))
    means = [by_hand(llama, clean) for clean, _ in documents]
    for row, (clean, _) in enumerate(documents):
        start, end = {None: (15, 99), Phase.SHORTLIST: (15, 25), Phase.REFINE: (25, 99)}[phase]
        others = [mean for place, mean in enumerate(means) if place != row]

        def put_in(attended, clean=clean, start=start, end=end, others=others):
            for head in (head.head for head in heads if head.layer == attended.layer):
                values = attended.value[0, head // 3]
                for query in range(start, min(end, len(clean.ids))):
                    late = int(query >= 25)
                    if what == "output":
                        new = torch.stack([mean["outputs"][late][attended.layer, head] for mean in others]).mean(0)
                    elif noise == "uniform":
                        new = values[: query + 1].mean(0)
                    else:
                        masses = torch.stack([mean["masses"][late][attended.layer, head] for mean in others]).mean(0)
                        regions = [[0], range(1, 16), range(16, query), [query]]
                        pattern = torch.zeros(query + 1)
                        for mass, region in zip(masses, regions, strict=True):
                            places = [place for place in region if place != query or region == [query]]
                            pattern[places] += mass / max(len(places), 1)
                        new = (pattern / pattern.sum()) @ values[: query + 1]
                    attended.output[0, query, head] = new

        with attention.attention_hooks(llama, put_in, {head.layer for head in heads}):
            logits = llama(input_ids=torch.tensor([clean.ids])).logits[0]
        expected = readouts.read_out(logits[readouts.queries_read(clean)], clean)
        for readout in (ANCHOR, MARGIN):
            assert effects.values[readout][row, 2] == pytest.approx(expected[readout].item(), rel=1e-3, abs=1e-4)
    for readout in (ANCHOR, MARGIN):
        moved = np.abs(effects.moved(readout, ("top", 2))).max()
        assert moved == 0 if (phase, readout) == (Phase.REFINE, ANCHOR) else moved > 1e-3


def by_hand(model, clean):
    """Mean outputs and mean masses of every head in each phase, from the library's own eager attention."""
    model.set_attn_implementation("eager")
    patterns = model(input_ids=torch.tensor([clean.ids]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    means = {"outputs": [], "masses": []}
    with attention.record(model, patterns=False, outputs=True) as seen:
        model(input_ids=torch.tensor([clean.ids]))
    for queries in (range(15, 25), range(25, len(clean.ids))):
        means["outputs"].append(torch.stack([seen.outputs[n][0][0, [*queries]].mean(0) for n in range(3)]))
        by_query = []
        for query in queries:
            row = torch.stack([pattern[0, :, query] for pattern in patterns])
            elsewhere = row.clone()
            elsewhere[..., query] = 0
            parts = [elsewhere[..., 0], elsewhere[..., 1:16].sum(-1), elsewhere[..., 16:].sum(-1), row[..., query]]
            by_query.append(torch.stack(parts, -1))
        means["masses"].append(torch.stack(by_query).mean(0))
    return means


@pytest.mark.parametrize("phase", [None, *Phase])
@torch.no_grad()
def test_readouts_may_be_read_one_at_a_time(llama, phase):
    documents, _ = corruptions.pairs(PASSAGES)
    how, selected = Intervention(phase=phase), {("top", 2): [Head(0, 1), Head(2, 5)]}
    both = patching.effects(llama, documents, selected, how)
    for name in (ANCHOR, MARGIN):
        alone = patching.effects(llama, documents, selected, how, [name])
        assert [*alone.values] == [name]
        np.testing.assert_allclose(alone.values[name], both.values[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["noising", "denoising"])
@torch.no_grad()
def test_each_phases_heads_are_patched_at_the_lines_of_their_phase(llama, way):
    documents, _ = corruptions.pairs(PASSAGES)
    heads = {"Phase 1": [Head(0, 1), Head(2, 5)], "Phase 2": [Head(1, 0), Head(0, 3)]}
    selected = {(f"{phase}, top", 2): some for phase, some in heads.items()}
    together = patching.phase_effects(llama, documents, selected, Intervention(way))
    assert together.keys == tuple(selected)
    for phase in Phase:
        key = (f"{phase}, top", 2)
        alone = patching.effects(llama, documents, {key: selected[key]}, Intervention(way, phase=phase))
        for readout in (ANCHOR, MARGIN):
            np.testing.assert_allclose(together.moved(readout, key), alone.moved(readout, key), rtol=1e-3, atol=1e-5)
    everywhere = patching.phase_effects(llama, documents, selected, Intervention(way), limited=False)
    same = patching.effects(llama, documents, selected, Intervention(way))
    np.testing.assert_array_equal(everywhere.values[MARGIN], same.values[MARGIN])
    assert (together.moved(ANCHOR, ("Phase 2, top", 2)) == 0).all()
    documents = [(replace(a, ids=a.ids[:30]), replace(b, ids=b.ids[:30])) for a, b in documents]
    written = patching.phase_generated(llama, documents, selected, WordTokens(), Intervention(way), max_tokens=9)
    for column, phase in enumerate(Phase, start=2):
        selection = {(f"{phase}, top", 2): heads[str(phase)]}
        how = Intervention(way, phase=phase)
        alone = patching.generated(llama, documents, selection, WordTokens(), how, max_tokens=9)
        assert [texts[column] for texts in written] == [texts[2] for texts in alone]


def test_an_effect_is_held_against_the_random_sets():
    keys = (("top", 2), *((f"random {n}", 2) for n in range(4)), ("random 0", 3))
    values = np.array([[1.0, 0.0, 0.2, 0.9, 0.8, 0.7, 0.2, 0.0]] * 3)
    against = patch_effects.Effects("noising", keys, {ANCHOR: values}).against_random(ANCHOR, ("top", 2), RANDOM)
    assert against.effect == pytest.approx(0.8)
    assert against.random.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.8])
    assert against.percentile == pytest.approx(87.5)
    assert against.bound == pytest.approx(0.8)
    assert not against.passes
    assert patch_effects.AgainstRandom(0.9, against.random).passes
    assert not patch_effects.AgainstRandom(-0.1, -against.random).passes


def test_effects_are_in_the_units_of_the_readout():
    values = np.array([[1.0, 0.0, 0.5, 0.9, 0.7], [3.0, 1.0, 2.0, 2.9, 2.7]])
    keys = (("top", 3), ("random 1", 3), ("random 2", 3))
    noised = patch_effects.Effects("noising", keys, {ANCHOR: values})
    denoised = patch_effects.Effects("denoising", keys, {ANCHOR: values})
    assert noised.table()["value"].tolist() == pytest.approx([0.75, 0.2])
    assert denoised.table()["value"].tolist() == pytest.approx([0.75, 1.3])
    assert noised.between(ANCHOR).estimate == pytest.approx(1.5)
    with pytest.raises(ValueError, match=r"got \('top', 4\)"):
        noised.moved(ANCHOR, ("top", 4))


def test_documents_without_a_readout_are_left_out():
    values = np.array([[1.0, 0.0, 0.5], [np.nan] * 3, [3.0, 1.0, 2.0]])
    effects = patch_effects.Effects("noising", (("top", 3),), {MARGIN: values})
    assert effects.moved(MARGIN, ("top", 3)).tolist() == [0.5, 1.0]
    assert effects.between(MARGIN).estimate == pytest.approx(1.5)
    assert effects.table()["n"].tolist() == [2]


def test_the_dissociation_is_what_each_phase_loses_beyond_the_control():
    keys = (("Phase 1, top", 3), ("Phase 2, top", 3))
    keys += (("random, Phase 1 1", 3), ("random, Phase 1 2", 3), ("random, Phase 2 1", 3))
    values = np.array([[1.0, 0.0, 0.2, 0.85, 0.9, 0.8, 0.85]] * 4)
    square = patch_effects.dissociation(patch_effects.Effects("noising", keys, {ANCHOR: values}), tuple(Phase), 3)
    assert square["value"].tolist() == pytest.approx([0.65, 0.0])
    assert square["noised"].tolist() == ["Phase 1", "Phase 2"]
    assert square["n"].tolist() == [4, 4]


def test_the_written_table_starts_at_the_run_that_is_not_patched_and_holds_the_published_values():
    keys = (("Phase 1, top", 1), ("Phase 1, top", 6), ("Phase 2, top", 1), ("Phase 2, top", 6))
    keys += tuple((f"random, {phase} 1", size) for phase in Phase for size in (1, 6))
    values = np.array([[0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.2, 0.2, 0.4, 0.3]] * 3 + [[np.nan] * 10])
    published = {
        way: patch_effects.Effects(way, keys, {"focus": values, "confusion": values})
        for way in ("noising", "denoising")
    }
    table = patch_effects.written_table(published, 36)
    lines = table.groupby(["panel", "line"], sort=False)["value"].apply(list).to_dict()
    assert lines["focus, Phase 1, noising", "heads of the phase"] == pytest.approx([0.9, 0.8, 0.7])
    assert lines["confusion, Phase 2, denoising", "heads of the phase"] == pytest.approx([0.1, 0.6, 0.5])
    assert lines["confusion, Phase 2, noising", "random heads"] == pytest.approx([0.9, 0.4, 0.3])
    assert lines["focus, Phase 1, noising", "published"] == pytest.approx([0.85, 0.60, 0.53, 0.39, 0.31, 0.25])
    assert table.groupby("line")["n"].unique().apply(list).to_dict() == {
        "heads of the phase": [3], "published": [0], "random heads": [3],
    }  # fmt: skip
    assert table[table["line"] == "heads of the phase"]["share"].tolist()[:3] == pytest.approx([0, 1 / 36, 6 / 36])


def test_bins_are_the_papers_fractions_and_larger_ones_if_asked():
    assert head_bins.bins(5120) == [3, 8, 16, 40, 100]
    assert head_bins.bins(10240) == [6, 16, 32, 80, 200]
    assert head_bins.bins(270) == [1, 2, 5]
    assert head_bins.bins(36) == [1]
    assert head_bins.bins(270, 1 / 3) == [1, 3, 9, 29, 90]
    assert head_bins.bins(36, 1 / 3) == [1, 2, 3, 6, 12]
    assert head_bins.bins(10, 0.3) == [1, 2, 3]
    with pytest.raises(ValueError, match="must hold a share of heads from 0.01953, the paper's, to 1, got 0"):
        head_bins.bins(9, 0)


def test_selections_are_cumulative_from_either_end_and_random_ones_like_the_top():
    heads = [Head(layer, number) for layer in range(5) for number in range(4)]
    rankings = {Phase.SHORTLIST: heads, Phase.REFINE: heads[::-1]}
    chosen = head_bins.selections(rankings, [2, 5], n_random=7, seed=1, n_smaller=3)
    assert chosen["Phase 1, top", 2] == chosen["Phase 2, lowest", 2] == heads[:2]
    assert chosen["Phase 1, top", 5] == heads[:5]
    assert chosen["Phase 1, lowest", 5] == heads[:14:-1]
    for phase, ranking in rankings.items():
        for size, n in ((2, 1), (5, 7)):
            sets = [chosen[head_bins.random_kind(phase, number), size] for number in range(1, n + 1)]
            assert len({tuple(sorted(drawn)) for drawn in sets}) == n
            assert all(len(set(drawn)) == size and not set(drawn) & set(ranking[:size]) for drawn in sets)
    same = head_bins.selections(rankings, [2, 5], n_random=7, seed=1, n_smaller=3)
    assert chosen == same
    with pytest.raises(ValueError, match=re.escape("bins must be between 1 and 20 heads, got [2, 21]")):
        head_bins.selections(rankings, [2, 21])


def test_random_sets_have_the_layers_of_the_heads_and_of_their_neighbours_where_these_are_too_few():
    heads = [Head(layer, number) for layer in range(6) for number in range(6)]
    known = [Head(2, 1), Head(2, 4)]
    others = [head for head in heads if head not in known]
    few = head_bins.matched(known, others, 6, np.random.default_rng(0))
    assert sorted(few) == [[Head(2, a), Head(2, b)] for a, b in ((0, 2), (0, 3), (0, 5), (2, 3), (2, 5), (3, 5))]
    more = head_bins.matched(known, others, 40, np.random.default_rng(0))
    assert sorted(more[:6]) == sorted(few)
    assert len({tuple(drawn) for drawn in more}) == 40
    assert all(1 <= head.layer <= 3 for drawn in more for head in drawn)
    spread = head_bins.matched([Head(0, 0), Head(5, 3)], others, 20, np.random.default_rng(0))
    assert all([head.layer for head in drawn] == [0, 5] for drawn in spread)
    assert len(head_bins.matched([Head(0, 0)], [Head(0, 1), Head(5, 2)], 50, np.random.default_rng(0))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"how": Intervention(what="output", noise="uniform")},
            "an output is replaced by another run's or a mean: noise must be run or mean, got 'uniform'",
        ),
        ({"how": Intervention(noise="mean")}, "mean ablation takes its means from other documents: two are needed"),
        ({"documents": []}, "there is nothing to patch: no document was given"),
        (
            {"documents": [(PASSAGES[0], PASSAGES[1])]},
            "clean and corrupted run of 'd0' must be equally long, got 40 and 44 tokens",
        ),
        ({"selected": {("top", 1): [Head(9, 9)]}}, "heads must be below layer 3 and head 6, got layer 9, head 9"),
    ],
)
def test_what_cannot_be_patched_is_refused(options, message, llama):
    arguments = {"documents": [(PASSAGES[0], PASSAGES[0])], "selected": {("top", 1): [Head(0, 0)]}, **options}
    with pytest.raises(ValueError, match=message):
        patching.effects(llama, **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "loud"}, "way must be one of noising, denoising, got 'loud'"),
        ({"way": "denoising", "noise": "uniform"}, "denoising puts the clean run back: noise must be 'run'"),
    ],
)
def test_an_intervention_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Intervention(**options)


def test_what_float32_cannot_tell_from_nothing_moves_nothing_and_ties():
    """A patch that changes nothing leaves rounding, which another processor leaves otherwise."""
    rounding = np.random.default_rng(0).normal(0, 5e-7, (4, 22))
    keys = (("top", 2), *((f"{RANDOM} {number}", 2) for number in range(19)))
    effects = patch_effects.Effects("noising", keys, {ANCHOR: 3 + rounding})
    against = effects.against_random(ANCHOR, ("top", 2), RANDOM)
    assert (against.effect, against.bound, against.percentile, against.passes) == (0, 0, 50, False)
