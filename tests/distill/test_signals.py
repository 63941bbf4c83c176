"""What is read of a phase's heads, against eager attention and whole writes; and that nothing but the heads matters."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from ctd.distill import signals, trace_signals
from ctd.mechanism import attention
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import FAMILIES, PASSAGES, through_norm

CHOSEN = {Phase.SHORTLIST: [Head(1, 2), Head(0, 1)], Phase.REFINE: [Head(0, 0), Head(1, 1)]}


def read(model, passages, chosen=CHOSEN, length=0):
    """The signals of some passages in one batch."""
    longest = max(length, *(len(trace.ids) for trace in passages))
    ids = torch.zeros(len(passages), longest, dtype=torch.int64)
    for row, trace in enumerate(passages):
        ids[row, : len(trace.ids)] = torch.tensor(trace.ids)
    where = signals.places(passages, longest)
    with signals.reading(model, where, chosen) as reading:
        model.get_decoder()(input_ids=ids, use_cache=False)
    return reading.signals(), where


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_one_passage_is_read_as_eager_attention_has_it(family):
    model, trace = build_model(family), PASSAGES[0]
    got, where = read(model, [trace])
    with attention.record(model, outputs=True) as seen:  # of all heads
        model.get_decoder()(input_ids=torch.tensor([trace.ids]), use_cache=False)

    def pattern(head):
        return seen.patterns[head.layer][0][0, seen.heads[head.layer].index(head.head)]

    def write(head):
        layer, outputs = model.get_decoder().layers[head.layer], seen.outputs[head.layer][0][0]
        matrix = layer.self_attn.o_proj.weight.unflatten(1, outputs.shape[1:])[:, head.head]
        return through_norm(layer, outputs, outputs[:, head.head] @ matrix.T)

    early = slice(trace.cot.start, trace.boundary)
    rows = torch.stack([pattern(head) for head in CHOSEN[Phase.SHORTLIST]]).mean(0)[early, slice(*trace.document)]
    torch.testing.assert_close(
        got.attention[:, slice(*trace.document)], rows / rows.sum(-1, keepdim=True).clamp(min=1e-12)
    )
    seen_at_all = rows.sum(-1) > 0  # a sliding window may have left the document behind
    torch.testing.assert_close(got.attention.sum(-1), seen_at_all.float())
    writes = torch.stack([write(head)[early] for head in CHOSEN[Phase.SHORTLIST]])
    torch.testing.assert_close(got.write1, writes.sum(0), rtol=1e-4, atol=1e-5)
    flat = torch.nn.functional.normalize(writes.flatten(1), dim=1)
    torch.testing.assert_close(got.gram1[0], flat @ flat.T, rtol=1e-4, atol=1e-5)

    second = torch.stack([pattern(head) for head in CHOSEN[Phase.REFINE]]).mean(0)
    start = 0
    for pair in trace.comparisons:
        gold, near = (
            sum(second[slice(*pair.queries), a:b].sum(-1) for a, b in mentions)
            for mentions in (pair.gold_mentions, pair.near_mentions)
        )
        part = got.split[start : start + len(gold)]
        torch.testing.assert_close(part, torch.stack([gold, near, 1 - gold - near], -1), rtol=1e-4, atol=1e-5)
        start += len(gold)
    assert start == len(got.split) == len(where.row2)


@torch.no_grad()
def test_the_course_along_the_margin_is_the_scores_gain():
    from ctd.mechanism import heads, scores

    model, trace = build_model("llama"), PASSAGES[0]
    got, _ = read(model, [trace])
    gain = heads.score(model, [trace]).values[scores.GAIN][0, 0]
    wanted = sum(gain[head.layer, head.head] for head in CHOSEN[Phase.REFINE])
    assert got.along.mean().item() == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_neither_batch_nor_padding_matters():
    model = build_model("llama")
    together, where = read(model, PASSAGES, length=60)
    for row, trace in enumerate(PASSAGES):
        alone, _ = read(model, [trace])
        early, late = where.row1 == row, where.row2 == row
        torch.testing.assert_close(together.attention[early, : len(trace.ids)], alone.attention, rtol=1e-4, atol=1e-5)
        for name, rows in (("write1", early), ("split", late), ("along", late)):
            torch.testing.assert_close(getattr(together, name)[rows], getattr(alone, name), rtol=1e-4, atol=1e-5)
        for name in ("gram1", "gram2"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_heads_stand_in_the_order_chosen():
    model = build_model("llama")
    turned = {phase: chosen[::-1] for phase, chosen in CHOSEN.items()}
    straight, reversed_ = read(model, PASSAGES)[0], read(model, PASSAGES, turned)[0]
    torch.testing.assert_close(straight.write1, reversed_.write1)
    torch.testing.assert_close(straight.gram1, reversed_.gram1.flip(1, 2))


def test_kept_signals_come_back_as_they_were_read():
    model = build_model("llama")
    stored = trace_signals.read(model, PASSAGES, CHOSEN, rows=3)
    back = trace_signals.together(stored, PASSAGES, 60)
    with torch.no_grad():
        whole, _ = read(model, PASSAGES, length=60)
    for name in ("attention", "write1"):  # in half precision
        torch.testing.assert_close(getattr(back, name), getattr(whole, name), rtol=2e-3, atol=2e-3)
    for name in ("gram1", "gram2", "split", "along"):
        torch.testing.assert_close(getattr(back, name), getattr(whole, name), rtol=1e-3, atol=1e-4)


def test_stored_signals_are_those_that_were_read_and_are_not_read_again(tmp_path, monkeypatch):
    model = build_model("llama")
    alone = trace_signals.read(model, PASSAGES, CHOSEN)
    stored = trace_signals.stored(model, "weights", PASSAGES, CHOSEN, tmp_path)
    assert len(stored) == len(PASSAGES)
    for actual, expected in zip(stored, alone, strict=True):
        for field in fields(trace_signals.TraceSignals):
            array, same = getattr(actual, field.name), getattr(expected, field.name)
            assert array.dtype == same.dtype
            np.testing.assert_array_equal(array, same)
    assert [len(actual.along) for actual in stored[1:]] == [len(actual.along) for actual in alone[1:]]
    assert len(stored[-1].attention) == len(alone[-1].attention)
    with pytest.raises(IndexError):
        stored[len(PASSAGES)]
    assert stored.nbytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    monkeypatch.setattr(trace_signals, "read", None)
    assert trace_signals.stored(model, "weights", PASSAGES, CHOSEN, tmp_path).path == stored.path
    turned = {phase: chosen[::-1] for phase, chosen in CHOSEN.items()}
    for changed in (("other", PASSAGES, CHOSEN), ("weights", PASSAGES[1:], CHOSEN), ("weights", PASSAGES, turned)):
        with pytest.raises(TypeError):  # each needs a reading of its own
            trace_signals.stored(model, *changed, tmp_path)


def test_live_signals_are_those_that_are_kept():
    model = build_model("llama")
    live = trace_signals.Live(model, PASSAGES, CHOSEN)
    alone = trace_signals.read(model, PASSAGES, CHOSEN, rows=1)
    assert len(live) == len(alone) == len(live[:])
    for actual, expected in zip(live, alone, strict=True):
        for field in fields(trace_signals.TraceSignals):
            np.testing.assert_array_equal(getattr(actual, field.name), getattr(expected, field.name))
            assert not isinstance(getattr(actual, field.name), torch.Tensor)


def test_gradients_reach_the_heads_and_nothing_behind_them():
    model = build_model("llama")
    got, _ = read(model, PASSAGES, {Phase.SHORTLIST: [Head(0, 1)], Phase.REFINE: [Head(0, 2)]})
    (got.attention.square().sum() + got.split.square().sum()).backward()
    touched = [name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert "model.layers.0.self_attn.q_proj.weight" in touched
    assert not [name for name in touched if "layers.1" in name]


def test_bad_input():
    model = build_model("llama")
    where = signals.places(PASSAGES, 60)
    with (
        pytest.raises(ValueError, match="Phase 2 needs at least one head"),
        signals.reading(model, where, {Phase.SHORTLIST: [Head(0, 0)], Phase.REFINE: []}),
    ):
        pass
    with (
        pytest.raises(ValueError, match="heads must be below layer"),
        signals.reading(model, where, {Phase.SHORTLIST: [Head(9, 0)], Phase.REFINE: [Head(0, 0)]}),
    ):
        pass
    with pytest.raises(ValueError, match="'d3' has 47 tokens, more than the 46 of the batch"):
        signals.places(PASSAGES, 46)
    with pytest.raises(ValueError, match="no trace was given"):
        trace_signals.read(model, [], CHOSEN)
    assert np.isfinite(trace_signals.read(model, PASSAGES[:1], CHOSEN)[0].along).all()


@pytest.mark.parametrize("family", ["llama", "llama, a key head each", "mistral, sliding"])
@torch.no_grad()
def test_uniform_rows_are_those_of_heads_that_ask_for_nothing(family):
    model = build_model(family)
    heads = {Phase.SHORTLIST: [Head(1, 2), Head(1, 0)], Phase.REFINE: [Head(1, 1), Head(1, 3)]}  # of the last layer
    level = trace_signals.read(model, PASSAGES, heads, uniform=True)
    model.model.layers[1].self_attn.q_proj.weight.zero_()
    wanted = trace_signals.read(model, PASSAGES, heads)
    for got, want in zip(level, wanted, strict=True):
        for name in ("attention", "write1", "gram1", "split", "gram2"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=2e-3, err_msg=name)
    if family == "llama":
        trace = PASSAGES[0]
        assert np.allclose(level[0].attention, 1 / (trace.document.end - trace.document.start), atol=1e-3)
