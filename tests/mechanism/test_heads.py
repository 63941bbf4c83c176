"""The scores of heads against eager attention, scipy and autograd; and that they do not depend on how they are run."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from ctd.mechanism import attention, attribution, head_scores, heads, other_documents, scores
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import SCORES, Score
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace, Compared
from ctd.reasoning.judgements import Candidate, Judged
from ctd.reasoning.token_spans import Span
from tests.mechanism.test_attention import VOCABULARY, build_model

FAMILIES = ["llama", "llama, a key head each", "qwen3", "gemma2, capped and sliding", "mistral, sliding"]


JUDGED = Judged(
    Span(28, 31), 29,
    Candidate(1, (7, 3), Span(18, 20), (Span(4, 6),)),
    (Candidate(2, (9,), Span(20, 22), ()), Candidate(3, (7, 5), Span(22, 23), (Span(5, 7), Span(9, 10)))),
)  # fmt: skip


def passage(seed=0, n=40, uid="d"):
    """A made passage: a document, a CoT from token 16 on, two comparisons in it and a judgement of one label."""
    ids = np.random.default_rng(seed).integers(2, VOCABULARY, n).tolist()
    first = Compared(Span(26, 30), 1, 2, 7, 9, (27,), (Span(18, 20), Span(23, 24)), (Span(20, 22),))
    second = Compared(Span(31, 34), 3, 4, 11, 5, (32,), (Span(22, 23),), (Span(16, 18),))
    return AnnotatedTrace(
        uid, tuple(ids), Span(2, 15), Span(15, 36), Span(15, 19), 25, (5, 8, 21), (Span(4, 6), Span(9, 10)),
        (first, second), judgements=(JUDGED,),
    )  # fmt: skip


PASSAGES = [passage(seed, n, f"d{seed}") for seed, n in enumerate((40, 44, 38, 47))]
ANCHORS = [(5, 8, 21), (3, 4), (5, 8, 21), (9,)]
APART = [replace(trace, anchors=anchors) for trace, anchors in zip(PASSAGES, ANCHORS, strict=True)]


@pytest.fixture(params=FAMILIES)
def model(request):
    return build_model(request.param)


def through_norm(layer, outputs, written):
    """A head's write behind Gemma 2's norm, by the formula: each token divided by the length of all that is written."""
    if type(layer).__name__ != "Gemma2DecoderLayer":
        return written
    total, norm = layer.self_attn.o_proj(outputs.flatten(1)).detach(), layer.post_attention_layernorm
    length = (total**2).mean(-1, keepdim=True) + norm.eps
    return written / length.sqrt() * (1 + norm.weight.detach())


def oracle(model, trace, direction="unembedding"):
    """Every score of one passage by eager patterns, whole writes, scipy and autograd; [name][layers, heads]."""
    shape = architecture.shape(model)
    ids = torch.tensor([trace.ids])
    residual, norm_input, attended = {}, [], {}

    def keep_residual(layer):
        return lambda _, args, __: residual.update({layer: args[0][0]})

    def keep_final(_, args):
        args[0].retain_grad()
        norm_input.append(args[0])

    decoder = model.get_decoder()
    hooks = [decoder.norm.register_forward_pre_hook(keep_final)]
    hooks += [
        layer.register_forward_pre_hook(keep_residual(n), with_kwargs=True) for n, layer in enumerate(decoder.layers)
    ]
    model.set_attn_implementation("eager")
    patterns = model(input_ids=ids, output_attentions=True).attentions
    model.set_attn_implementation("sdpa" if shape and "gemma2" not in model.config.model_type else "eager")
    with attention.attention_hooks(model, lambda seen: attended.update({seen.layer: seen})):
        hidden = decoder(input_ids=ids).last_hidden_state[0]
    for hook in hooks:
        hook.remove()
    weight = model.get_output_embeddings().weight
    early = slice(trace.cot.start, trace.boundary)
    expected = {
        name: np.zeros((shape.layers, shape.heads)) for name, score in scores.SCORES.items() if not score.by_effect
    }
    del expected[scores.CONTRASTED], expected[scores.CONTRASTED_MASS]  # of one document there are no others
    gradients = {}
    for pair in trace.comparisons:
        for query in range(*pair.queries):
            margin = hidden[query] @ (weight[pair.gold_token] - weight[pair.near_token])
            (whole,) = torch.autograd.grad(margin, norm_input[-1], retain_graph=True)
            gradients[query] = whole[0, query]
    judged_gradients = {}
    for query in range(*JUDGED.queries):
        margin = hidden[query] @ (weight[7] + weight[3] - weight[9] - weight[5]) / 2
        (whole,) = torch.autograd.grad(margin, norm_input[-1], retain_graph=True)
        judged_gradients[query] = whole[0, query]
    for layer in range(shape.layers):
        matrix = decoder.layers[layer].self_attn.o_proj.weight.detach()
        if direction == "unembedding":
            anchor = weight[list(trace.anchors)].mean(0).detach()
        else:
            places = [place for span in trace.anchor_mentions for place in range(*span)]
            anchor = residual[layer][places].mean(0).detach()
        for head in range(shape.heads):
            part = slice(head * shape.head_size, (head + 1) * shape.head_size)
            written = attended[layer].output[0, :, head].detach() @ matrix[:, part].T
            written = through_norm(decoder.layers[layer], attended[layer].output[0].detach(), written).double()
            rows = patterns[layer][0, head].detach()
            peaks = scipy.stats.kurtosis(rows[early, slice(*trace.document)].numpy(), axis=1)
            peaks = np.nan_to_num(peaks)  # where the window has left the document behind, all are alike
            cosines = torch.cosine_similarity(written, anchor.double(), dim=-1)[early].numpy()
            expected[scores.KURTOSIS][layer, head] = peaks.mean()
            expected[scores.WRITE_COSINE][layer, head] = cosines.mean()
            expected[scores.COARSE][layer, head] = (peaks * cosines).mean()
            expected[scores.ON_DOCUMENT][layer, head] = rows[early, slice(*trace.document)].sum(-1).mean()
            group = shape.heads // shape.key_heads
            query, key = attended[layer].query[0, head].detach(), attended[layer].key[0, head // group].detach()
            preference, gain, mass = [], [], []
            for pair in trace.comparisons:
                means = [
                    torch.stack([key[place] for span in spans for place in range(*span)]).mean(0)
                    for spans in (pair.gold_mentions, pair.near_mentions)
                ]
                for at in range(*pair.queries):
                    gold, near = (torch.cosine_similarity(query[at], mean, dim=0).item() for mean in means)
                    preference.append(gold - near)
                    gain.append((written[at] @ gradients[at].double()).item())
                    mass.append(sum(rows[at, slice(*span)].sum().item() for span in pair.gold_mentions))
            late = rows[slice(*JUDGED.queries)].double()
            listed, elsewhere = late[:, 18:20].sum(1), (late[:, 20:22].sum(1) + late[:, 22]) / 2
            expected[scores.VERDICT][layer, head] = (listed - elsewhere).mean()
            words, others = late[:, 4:6].sum(1), (late[:, 5:7].sum(1) + late[:, 9]) / 2
            expected[scores.ON_EVIDENCE][layer, head] = (words - others).mean()
            gains = [(written[at] @ gradient.double()).item() for at, gradient in judged_gradients.items()]
            expected[scores.JUDGED_GAIN][layer, head] = np.mean(gains)
            expected[scores.PREFERENCE][layer, head] = np.mean(preference)
            expected[scores.GAIN][layer, head] = np.mean(gain)
            expected[scores.REFINE][layer, head] = np.mean(np.multiply(preference, gain))
            expected[scores.ON_GOLD][layer, head] = np.mean(mass)
    return expected


@pytest.mark.parametrize("direction", ["unembedding", "mentions"])
def test_scores_are_those_of_eager_patterns_whole_writes_and_autograd(model, direction):
    scored = heads.score(model, PASSAGES[:1], direction)
    for name, expected in oracle(model, PASSAGES[0], direction).items():
        np.testing.assert_allclose(scored.values[name][0, 0], expected, rtol=2e-3, atol=2e-4, err_msg=name)


def test_scores_do_not_depend_on_batches_padding_or_order(model):
    alone = [heads.score(model, [trace]) for trace in PASSAGES]
    for options in ({}, {"batch_tokens": 100}, {"padding": "left"}, {"batch_tokens": 1}):
        for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
            together = heads.score(model, [PASSAGES[row] for row in order], **options)
            assert together.uids == tuple(f"d{row}" for row in order)
            for name, values in together.values.items():
                for place, row in enumerate(order):
                    np.testing.assert_allclose(values[place], alone[row].values[name][0], rtol=2e-3, atol=2e-4)


def test_bfloat16_gives_about_the_same_scores(llama):
    exact = heads.score(llama, APART)
    rough = heads.score(llama.bfloat16(), APART)
    for name, values in exact.values.items():
        correlation = np.corrcoef(values[:, 0].ravel(), rough.values[name][:, 0].ravel())[0, 1]
        assert correlation > 0.98, name


def test_the_stages_follow_the_cot_and_the_phase_is_their_whole(llama):
    late = replace(PASSAGES[0], boundary=PASSAGES[0].cot.end)
    scored = heads.score(llama, [late])
    sizes = [end - start for start, end in late.stages(heads.STAGES)]
    assert sum(sizes) == late.cot.end - late.cot.start
    assert max(sizes) - min(sizes) <= 1
    for name in scored.names(Phase.SHORTLIST):
        values = scored.values[name][0]
        np.testing.assert_allclose(np.average(values[1:], axis=0, weights=sizes), values[0], rtol=1e-6, atol=1e-8)
    has_query = [
        any(start <= query < end for query in (*range(26, 30), *range(31, 34))) for start, end in late.stages()
    ]
    refine = scored.values[scores.REFINE][0]
    assert [not np.isnan(stage).any() for stage in refine[1:]] == has_query
    assert np.isnan(refine[1]).all()


def test_a_document_without_comparisons_has_no_refine_score_and_is_left_out_of_its_mean(llama):
    plain = replace(PASSAGES[1], comparisons=())
    scored = heads.score(llama, [PASSAGES[0], plain])
    assert np.isnan(scored.values[scores.REFINE][1]).all()
    mean = scored.mean(scores.REFINE)
    np.testing.assert_allclose(mean.estimate, scored.values[scores.REFINE][0, 0])
    assert not np.isnan(scored.values[scores.COARSE][1]).any()


def test_under_the_next_candidate_a_verdict_score_looks_at_that_one(llama):
    twin = other_documents.twins(PASSAGES[:1])[0].judgements[0]
    assert [candidate.label for candidate in (twin.own, *twin.others)] == [2, 3, 1]
    assert twin.queries == JUDGED.queries
    assert twin.choices == [(0, 9, 7), (0, 9, 7)]
    own, other = (heads.score(llama, [replace(PASSAGES[0], judgements=(each,))]) for each in (JUDGED, twin))
    last = heads.score(llama, [replace(PASSAGES[0], judgements=(twin.of_another(),))])
    total = sum(scored.raw(scores.VERDICT)[0, 0] for scored in (own, other, last))
    np.testing.assert_allclose(total, 0, atol=1e-6)  # each candidate once for itself, and half against it twice
    assert np.abs(own.raw(scores.VERDICT)[0, 0]).max() > 1e-3


def test_a_document_that_judges_no_label_has_no_verdict_score(llama):
    scored = heads.score(llama, [PASSAGES[0], replace(PASSAGES[1], judgements=())])
    assert np.isnan(scored.values[scores.VERDICT][1]).all()
    assert scored.n_documents(scores.VERDICT) == 1
    assert scored.n_documents(scores.REFINE) == 2


def test_what_cannot_be_scored_is_refused(llama):
    with pytest.raises(ValueError, match="there is nothing to score heads on"):
        heads.score(llama, [])
    with pytest.raises(ValueError, match="direction must be one of unembedding, mentions, got 'up'"):
        heads.score(llama, PASSAGES, "up")
    with pytest.raises(ValueError, match="document 'd0' never mentions its anchor"):
        heads.score(llama, [replace(PASSAGES[0], anchor_mentions=())], "mentions")
    with pytest.raises(ValueError, match="document 'long' has 70 tokens with its trace, the model's context is 64"):
        heads.score(llama, [passage(0, 70, "long")])


def test_the_course_is_the_mean_of_a_group_stage_by_stage(llama):
    scored = heads.score(llama, PASSAGES)
    groups = {"two": [Head(0, 1), Head(2, 3)], "all": attention.all_heads(llama)}
    course = scored.course(scores.COARSE, groups)
    assert list(course["stage"]) == [1, 2, 3, 4, 5] * 2
    values = scored.values[scores.COARSE][:, 3]
    expected = (values[:, 0, 1] + values[:, 2, 3]).mean() / 2
    assert course.iloc[2]["value"] == pytest.approx(expected)
    late = scored.course(scores.REFINE, groups)
    assert set(late["stage"]) == {3, 4, 5}
    by_stage = ~np.isnan(scored.values[scores.REFINE]).any((2, 3))
    assert late["n"].tolist() == by_stage.sum(0)[[3, 4, 5] * 2].tolist()


@torch.no_grad()
def test_words_are_shaded_by_the_attention_on_their_tokens(llama):
    trace = PASSAGES[0]

    class Letters:
        """Token n is a letter; every third begins a word."""

        def decode(self, ids):
            (token,) = ids
            return (" " if token % 3 == 0 else "") + chr(97 + token % 26)

    words, weights = heads.word_weights(llama, trace, Head(1, 4), trace.early, trace.document, Letters())
    text = "".join(Letters().decode([token]) for token in trace.ids[slice(*trace.document)])
    assert words == text.split()
    with attention.record(llama, [Head(1, 4)]) as seen:
        llama(input_ids=torch.tensor([trace.ids]))
    row = seen.patterns[1][0][0, 0, slice(*trace.early)].mean(0)
    assert sum(weights) == pytest.approx(row[slice(*trace.document)].sum().item(), rel=1e-4)
    first = len(words[0])
    assert weights[0] == pytest.approx(row[trace.document.start : trace.document.start + first].sum().item(), rel=1e-4)


def with_anchors(model, trace, anchors):
    """Its write cosine and its CoarseScore by other anchors."""
    scored = heads.score(model, [replace(trace, anchors=anchors)])
    return scored.raw(scores.WRITE_COSINE), scored.raw(scores.COARSE)


def test_a_contrasted_score_is_coarse_score_less_its_mean_over_the_anchors_of_others(llama):
    scored = heads.score(llama, APART)
    for row, trace in enumerate(APART):
        others = [anchors for anchors in ANCHORS if anchors != trace.anchors]
        mean = np.mean([with_anchors(llama, trace, anchors)[1][0] for anchors in others], axis=0)
        expected = with_anchors(llama, trace, trace.anchors)[1][0] - mean
        np.testing.assert_allclose(scored.raw(scores.CONTRASTED)[row], expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(scored.raw(scores.CONTRASTED), scored.raw(scores.COARSE), atol=1e-3)
    alike = heads.score(llama, PASSAGES)
    assert np.isnan(alike.raw(scores.CONTRASTED)).all(), "all have the same anchors"
    assert scores.CONTRASTED not in alike.names(Phase.SHORTLIST)
    assert scores.CONTRASTED in scored.names(Phase.SHORTLIST)


def test_the_contrasted_score_with_mass_weighs_every_query_by_its_mass(llama, monkeypatch):
    monkeypatch.setitem(
        scores.SCORES, "by hand",
        Score(Phase.SHORTLIST, lambda x: x.on_document.sum(-1).T * SCORES[scores.CONTRASTED].measure(x), ""),
    )  # fmt: skip
    scored = heads.score(llama, APART)
    np.testing.assert_allclose(scored.raw(scores.CONTRASTED_MASS), scored.raw("by hand"), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_under_another_s_anchors_and_labels_a_score_is_that_of_a_trace_with_these(llama, padding):
    scored = heads.score(llama, APART, with_others=True, padding=padding)
    twins = other_documents.twins(APART)
    assert [twin.anchors for twin in twins] == [(3, 4), (5, 8, 21), (9,), (5, 8, 21)]
    for name in (scores.COARSE, scores.WRITE_COSINE, scores.KURTOSIS, scores.VERDICT, scores.JUDGED_GAIN):
        alone = np.stack([heads.score(llama, [twin]).raw(name)[0, 0] for twin in twins])
        np.testing.assert_allclose(scored.others[name], alone, rtol=1e-3, atol=1e-4)
    assert scored.specificity(scores.KURTOSIS).scalar == pytest.approx((1.0, 1.0, 1.0))
    value, low, high = scored.specificity(scores.COARSE).scalar
    unchanged, other = (
        values.mean(0).ravel() for values in (scored.raw(scores.COARSE)[:, 0], scored.others[scores.COARSE])
    )
    assert value == pytest.approx(scipy.stats.spearmanr(unchanged, other).statistic)
    assert low <= high < 1
    assert heads.score(llama, APART).others == {}


def test_labels_of_another_document_change_the_margin_and_not_what_is_looked_at(llama):
    pairs = tuple(pair._replace(gold=6, near=7, gold_token=13, near_token=17) for pair in PASSAGES[1].comparisons)
    two = [PASSAGES[0], replace(APART[1], comparisons=pairs)]
    scored = heads.score(llama, two, with_others=True)
    np.testing.assert_allclose(scored.others[scores.PREFERENCE], scored.raw(scores.PREFERENCE)[:, 0])
    assert not np.allclose(scored.others[scores.GAIN], scored.raw(scores.GAIN)[:, 0])
    swapped = tuple(pair._replace(gold_token=13, near_token=17) for pair in two[0].comparisons)
    alone = heads.score(llama, [replace(two[0], comparisons=swapped)])
    np.testing.assert_allclose(scored.others[scores.GAIN][0], alone.raw(scores.GAIN)[0, 0], rtol=1e-3, atol=1e-5)


def test_an_effect_is_that_of_the_attribution_and_only_some_documents_have_it(llama):
    scored = heads.score(llama, PASSAGES, n_effects=2)
    assert scored.n_documents(scores.ANCHOR_EFFECT) == 2
    assert np.isnan(scored.raw(scores.MARGIN_EFFECT)[2:]).all()
    whole = replace(PASSAGES[0], boundary=PASSAGES[0].cot.end)
    effect = heads.score(llama, [whole], n_effects=1).raw(scores.ANCHOR_EFFECT)[0, 0] * len(range(*whole.cot))
    by_query = attribution.by_query(llama, whole)["anchor"]
    np.testing.assert_allclose(effect, by_query[:, slice(*whole.cot)].sum(1), rtol=1e-3, atol=1e-6)
    assert scores.ANCHOR_EFFECT not in heads.score(llama, PASSAGES).values
    assert all(parameter.requires_grad for parameter in llama.parameters())


def test_a_trace_without_readouts_has_no_effects(llama):
    bare = replace(PASSAGES[0], topics=PASSAGES[0].topics._replace(end=PASSAGES[0].topics.start), comparisons=())
    effects = attribution.by_query(llama, bare)
    assert set(effects) == {"anchor", "margin"}
    for values in effects.values():
        assert values.shape == attribution.by_query(llama, PASSAGES[0])["anchor"].shape
        assert np.isnan(values).all()


def test_heads_at_random_lie_about_the_middle():
    value, low, high = head_scores.random_depth(30, 9, 20).scalar
    assert value == pytest.approx(0.5)
    assert (low, high) == pytest.approx((0.37, 0.63), abs=0.02)
    assert head_scores.random_depth(4, 9, 36).scalar == pytest.approx((0.5, 0.5, 0.5))
