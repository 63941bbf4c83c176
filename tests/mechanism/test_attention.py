"""What heads are read and patched by, against eager attention, plain runs and scipy; in each supported family."""

import re

import numpy as np
import pytest
import torch
import transformers
from scipy.special import softmax

from ctd.mechanism import attention
from ctd.mechanism.attention import Head, attention_hooks, record
from ctd.mechanism.attention_patches import patch
from ctd.reasoning import architecture

VOCABULARY, TOKENS = 61, 14
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
FAMILIES = {
    "llama": (transformers.LlamaConfig, {}),
    "llama, a key head each": (transformers.LlamaConfig, {"num_key_value_heads": 6}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {}),
    "mistral, sliding": (transformers.MistralConfig, {"sliding_window": 5}),
    "gemma2, capped and sliding": (
        transformers.Gemma2Config,
        {
            "sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "gemma3": (transformers.Gemma3TextConfig, {"sliding_window": 5, "query_pre_attn_scalar": 8}),
    "phi3": (transformers.Phi3Config, {"hidden_size": 48, "head_dim": 8}),
    "olmo2": (transformers.Olmo2Config, {}),
    "granite": (transformers.GraniteConfig, {}),
}


def build_model(family, **changes):
    kind, options = FAMILIES[family]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(kind(**{**COMMON, **options, **changes}))
    for name, weight in model.named_parameters():
        if "proj" in name:
            weight.data *= 6  # patterns far from even
    return model.eval()


@pytest.fixture(params=FAMILIES)
def model(request):
    return build_model(request.param)


@pytest.fixture
def llama():
    return build_model("llama")


def batch(rows=3, padded=True, seed=0):
    """Token ids and mask; the rows padded on the left by 0, 2, 4 ... tokens."""
    ids = torch.randint(2, VOCABULARY, (rows, TOKENS), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    for row in range(rows if padded else 0):
        mask[row, : 2 * row] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def none(model, rows):
    shape = architecture.shape(model)
    return torch.zeros(rows, shape.layers, shape.heads, dtype=torch.bool)


@torch.no_grad()
def eager(model, inputs):
    """Logits and patterns [layer][b, h, q, k] of the library's own eager attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    out = model(**inputs, output_attentions=True)
    model.set_attn_implementation(before)
    return out.logits, out.attentions


@pytest.mark.parametrize("block", [5, 64])
@torch.no_grad()
def test_logits_and_patterns_are_those_of_eager_attention_under_padding(model, block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    inputs = batch()
    logits, patterns = eager(model, inputs)
    with record(model) as seen:
        ours = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[real], logits[real], rtol=1e-4, atol=1e-4)
    for layer, of_layer in enumerate(patterns):
        [recorded] = seen.patterns[layer]
        assert recorded.dtype == torch.float32
        for row in range(len(real)):
            queries = real[row]
            torch.testing.assert_close(recorded[row, :, queries], of_layer[row, :, queries], rtol=1e-4, atol=1e-5)
            assert (recorded[row, :, ~queries] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("block", [3, 64])
def test_patterns_of_some_rows_and_queries_are_those_of_the_whole(model, block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    heads, compared = [4, 0], []

    def compare(attended):
        whole = attention.masked_softmax(attended.scores(heads), attended.visible())
        some = attended.patterns(heads, [2, 0], slice(2, 11))
        torch.testing.assert_close(some, whole[[2, 0]][:, :, 2:11])
        assert (some[0, :, :2] == 0).all()  # padding
        compared.append(attended.layer)

    with attention.attention_hooks(model, compare):
        model(**batch())
    assert compared == list(range(architecture.shape(model).layers))


def test_gradients_of_patterns_are_those_of_softmax_and_finite_where_a_query_sees_nothing():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 3, 5, 4, generator=generator)
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    visible[:, :2] = False  # two tokens of padding, whose queries see nothing
    attended = attention.Attended(0, 0, query, key, key, visible.expand(1, 1, 5, 5), 0.5, None, query.transpose(1, 2))
    weights = torch.randn(1, 3, 5, 5, generator=generator)
    query.requires_grad_()
    [gradient] = torch.autograd.grad((attended.patterns(range(3)) * weights).sum(), query)
    assert (gradient[:, :, :2] == 0).all()
    scores = (query @ key.mT * 0.5)[:, :, 2:].masked_fill(~visible[2:], -torch.inf)
    [expected] = torch.autograd.grad((scores.softmax(-1) * weights[:, :, 2:]).sum(), query)
    torch.testing.assert_close(gradient, expected)


@torch.no_grad()
def test_patterns_at_single_queries_are_those_of_the_whole(model):
    row, query = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([3, 9, 9, 5, 7])  # row 1 has none
    heads, compared = [2, 0], []

    def compare(attended):
        got = attended.patterns_at(heads, row, query)
        torch.testing.assert_close(got, attended.patterns(heads)[row, :, query])
        compared.append(attended.layer)

    with attention.attention_hooks(model, compare):
        model(**batch())
    assert compared == list(range(architecture.shape(model).layers))


def test_nothing_looks_ahead(model):
    ids = batch(1, padded=False)["input_ids"]
    other = ids.clone()
    other[0, 9:] = (ids[0, 9:] + 7) % VOCABULARY
    with record(model) as seen:
        plain, changed = model(input_ids=ids).logits, model(input_ids=other).logits
    torch.testing.assert_close(plain[0, :9], changed[0, :9])
    assert not torch.allclose(plain[0, 9:], changed[0, 9:])
    for layer in seen.patterns.values():
        assert (layer[0].triu(1) == 0).all()


@torch.no_grad()
def test_head_writes_sum_to_what_the_attention_writes(model):
    written = {}
    hooks = [
        module.self_attn.register_forward_hook(lambda _, __, out, layer=layer: written.update({layer: out[0]}))
        for layer, module in enumerate(model.get_decoder().layers)
    ]
    with record(model, patterns=False, outputs=True) as seen:
        model(**batch())
    for hook in hooks:
        hook.remove()
    assert not seen.patterns
    for layer, total in written.items():
        weights = architecture.output_weights(model, layer)
        writes = torch.einsum("bqhc,dhc->bqhd", seen.outputs[layer][0], weights)
        bias = model.get_decoder().layers[layer].self_attn.o_proj.bias
        torch.testing.assert_close(writes.sum(2) + (0 if bias is None else bias), total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("what", ["pattern", "output"])
@torch.no_grad()
def test_patching_a_run_with_itself_changes_nothing(model, what):
    inputs = batch()
    plain = model(**inputs).logits
    with patch(model, ~none(model, 3), [0, 1, 2], what):
        patched = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(patched[real], plain[real], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_patching_every_output_gives_the_attention_output_of_the_source(model):
    ids = batch(2, padded=False)["input_ids"]
    heads = none(model, 2)
    heads[1] = True
    outputs = []
    with patch(model, heads, [0, 0], "output"), record(model, patterns=False, outputs=True) as seen:
        patched = model(input_ids=ids).logits
    for layer in seen.outputs.values():
        outputs.append(layer[0])
        torch.testing.assert_close(layer[0][1], layer[0][0])
    assert not torch.allclose(patched[0], patched[1])  # the tokens' own embeddings are not patched
    assert len(outputs) == architecture.shape(model).layers


@pytest.mark.parametrize("what", ["pattern", "output"])
@torch.no_grad()
def test_bins_side_by_side_are_what_they_are_one_by_one(model, what):
    clean, corrupted = batch(2, padded=False)["input_ids"]
    bins = torch.stack([clean, corrupted, clean, clean, clean])
    heads = none(model, 5)
    heads[2, 0, [0, 3]] = True
    heads[3, 0, [0, 3]] = heads[3, 2, 5] = True
    heads[4] = torch.rand(heads.shape[1:], generator=torch.Generator().manual_seed(1)) < 0.5
    with patch(model, heads, [0, 1, 1, 1, 1], what):
        together = model(input_ids=bins).logits
    for row in range(2, 5):
        with patch(model, heads[[0, 1, row]], [0, 1, 1], what):
            alone = model(input_ids=bins[[0, 1, row]]).logits
        torch.testing.assert_close(together[row], alone[2], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(together[row], together[0], atol=1e-3)
    plain = model(input_ids=bins[:2]).logits
    torch.testing.assert_close(together[:2], plain, rtol=1e-4, atol=1e-4)


def reference(attended, head):
    """A head's causal pattern in numpy, from queries and keys alone, where no row is padded."""
    group = attended.query.shape[1] // attended.key.shape[1]
    scores = attended.query[:, head].numpy() @ attended.key[:, head // group].transpose(-1, -2).numpy()
    scores *= attended.scaling
    return softmax(np.where(np.tril(np.ones(scores.shape[1:])), scores, -np.inf), -1)


@torch.no_grad()
def test_a_patched_pattern_mixes_the_rows_own_values(llama):
    """Against numpy: the source's pattern, the row's values, in the first layer."""
    ids = batch(2, padded=False)["input_ids"]
    heads = none(llama, 2)
    heads[0, 0, 4] = True
    wanted = {}

    def before(attended):
        if attended.layer == 0:
            wanted["new"] = reference(attended, 4)[1] @ attended.value[0, 1].numpy()
            wanted["old"] = attended.output.clone()

    with (
        attention_hooks(llama, before),
        patch(llama, heads, [1, 1]),
        record(llama, patterns=False, outputs=True) as seen,
    ):
        llama(input_ids=ids)
    [output] = seen.outputs[0]
    torch.testing.assert_close(output[0, :, 4], torch.from_numpy(wanted["new"]), rtol=1e-4, atol=1e-5)
    untouched = [0, 1, 2, 3, 5]
    assert torch.equal(output[0][:, untouched], wanted["old"][0][:, untouched])
    assert torch.equal(output[1], wanted["old"][1])


@torch.no_grad()
def test_uniform_and_gaussian_patterns(llama):
    inputs = batch()
    heads = none(llama, 3)
    heads[1, 1, 2] = True
    values, outputs = {}, {}

    def note(attended):
        values[attended.layer] = attended.value

    for name, options in {
        "uniform": {"noise": "uniform"}, "none": {"noise": "gaussian", "sigma": 0.0},
        "some": {"noise": "gaussian", "seed": 3}, "again": {"noise": "gaussian", "seed": 3},
        "other": {"noise": "gaussian", "seed": 4},
    }.items():  # fmt: skip
        with patch(llama, heads, **options), attention_hooks(llama, note), record(llama, outputs=True) as seen:
            llama(**inputs)
        outputs[name] = seen.outputs[1][0][1, :, 2]
        plain = seen.patterns[1][0][1, 2] @ values[1][1, 0]
    real = inputs["attention_mask"][1].bool()
    cumulative = (values[1][1, 0] * real[:, None]).cumsum(0) / real.cumsum(0)[:, None].clamp(min=1)
    torch.testing.assert_close(outputs["uniform"][real], cumulative[real], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs["none"][real], plain[real], rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs["some"], outputs["again"])
    assert not torch.allclose(outputs["some"], outputs["other"])
    assert not torch.allclose(outputs["some"], outputs["none"])


@torch.no_grad()
def test_only_the_queries_asked_for_are_patched(llama):
    ids = batch(2, padded=False)["input_ids"]
    heads = none(llama, 2)
    heads[0, 0] = True
    queries = torch.zeros(2, TOKENS, dtype=torch.bool)
    queries[0, 4:7] = True
    with record(llama, patterns=False, outputs=True) as plain:
        llama(input_ids=ids)
    with patch(llama, heads, [1, 1], queries=queries), record(llama, patterns=False, outputs=True) as patched:
        llama(input_ids=ids)
    changed = (plain.outputs[0][0] != patched.outputs[0][0]).any(-1).any(-1)
    assert changed[0].nonzero()[:, 0].tolist() == [4, 5, 6]
    assert not changed[1].any()


@torch.no_grad()
def test_generate_is_recorded_and_patched_token_by_token(model):
    inputs = batch()
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    plain = model.generate(**inputs, **options)
    with record(model, [Head(1, 2)]) as seen:
        recorded = model.generate(**inputs, **options)
    assert torch.equal(plain, recorded)
    assert [tuple(pattern.shape[:3]) for pattern in seen.patterns[1]] == [(3, 1, TOKENS), *[(3, 1, 1)] * 4]
    for pattern in seen.patterns[1][1:]:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(3, 1, 1))
    heads = none(model, 3)
    heads[0] = True
    with patch(model, heads, noise="uniform"):
        patched = model.generate(**inputs, **options)
    assert torch.equal(patched[1:], plain[1:])
    alone = {name: tensor[:1] for name, tensor in inputs.items()}
    with patch(model, heads[:1], noise="uniform"):
        assert torch.equal(model.generate(**alone, **options), patched[:1])
        ids = inputs["input_ids"][:1]
        for _ in range(5):  # without a cache: the same tokens
            logits = model(input_ids=ids, use_cache=False).logits[:, -1]
            logits[:, COMMON["eos_token_id"]] = -torch.inf  # as min_new_tokens has it
            ids = torch.cat([ids, logits.argmax(-1)[:, None]], 1)
    assert torch.equal(ids, patched[:1])


def test_a_model_is_left_as_it_was(llama):
    before = llama.config._attn_implementation
    with pytest.raises(RuntimeError, match="stopped"), record(llama), patch(llama, ~none(llama, 1), noise="uniform"):
        assert llama.config._attn_implementation == attention.NAME
        raise RuntimeError("stopped")
    assert llama.config._attn_implementation == before
    assert not attention._sites


def test_gradients_flow_through_what_is_recorded(llama):
    llama.requires_grad_(True)
    ids = batch(1, padded=False)["input_ids"]
    with record(llama, [Head(2, 1)]) as seen:
        llama(input_ids=ids)
    seen.patterns[2][0][0, 0, :, 0].sum().backward()
    assert llama.get_decoder().layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0


def test_shape_heads_and_weights(llama):
    assert architecture.shape(llama) == (3, 6, 2, 8, 48)
    assert attention.all_heads(llama)[:7] == [*(Head(0, n) for n in range(6)), Head(1, 0)]
    assert attention.check(llama, [(2, 1), (0, 3), (2, 1)]) == [Head(0, 3), Head(2, 1)]
    weight = llama.get_decoder().layers[1].self_attn.o_proj.weight
    assert torch.equal(architecture.output_weights(llama, 1)[:, 2], weight[:, 16:24])


@pytest.mark.parametrize("head", [(3, 0), (0, 6), (-1, 0), (0, -1)])
def test_a_head_out_of_range_is_refused(head, llama):
    message = f"heads must be below layer 3 and head 6, got layer {head[0]}, head {head[1]}"
    with pytest.raises(ValueError, match=message), record(llama, [head]):
        pass


def test_a_model_without_o_proj_is_refused():
    config = transformers.FalconConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    falcon = transformers.FalconForCausalLM(config)
    with (
        pytest.raises(
            ValueError, match=r"heads of FalconForCausalLM cannot .*: it has no self_attn.o_proj in its layers"
        ),
        record(falcon),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"what": "value"},
            "what must be one of pattern, output and noise one of run, gaussian, uniform, mean, got 'value'",
        ),
        ({"noise": "loud"}, "got 'pattern' and 'loud'"),
        ({"what": "output", "noise": "uniform"}, "noise must be run or mean, got 'uniform'"),
        ({"noise": "mean"}, "noise 'mean' needs the means themselves"),
        ({"source": [0]}, r"source must name a row of the batch (0 to 1) for each row, got [0]"),
        ({"source": [0, 2]}, "got [0, 2]"),
        ({"heads": torch.ones(2, 3, 5)}, "heads must be [rows, 3 layers, 6 heads], got [2, 3, 5]"),
    ],
)
def test_a_patch_that_makes_no_sense_is_refused(options, message, llama):
    arguments = {"heads": ~none(llama, 2), "source": [0, 0], **options}
    with pytest.raises(ValueError, match=re.escape(message)), patch(llama, **arguments):
        pass


@torch.no_grad()
def test_runs_of_unequal_length_are_refused_with_both_lengths(llama):
    message = "row 1 has 12 tokens and its source, row 0, 14"
    heads = ~none(llama, 3)
    with pytest.raises(ValueError, match=message), patch(llama, heads, [0, 0, 0]):
        llama(**batch())
    with (
        pytest.raises(ValueError, match="the batch must have the 3 rows of heads, got 2"),
        patch(llama, heads, [0] * 3),
    ):
        llama(**batch(2))


@torch.no_grad()
def test_layers_without_attention_are_not_counted():
    """As in hybrids: patching a layer's heads changes what the model says, by the number that its shape gives it."""
    config = transformers.JambaConfig(
        **COMMON | {"num_hidden_layers": 4}, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=8,
        expert_layer_offset=7, num_experts=2, mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False,
    )  # fmt: skip
    torch.manual_seed(0)
    jamba = transformers.JambaForCausalLM(config).eval()
    assert architecture.shape(jamba)[:2] == (2, 6)
    inputs = batch(2, padded=False)
    inputs["input_ids"][1] = inputs["input_ids"][1].flip(0)
    plain = jamba(**inputs).logits
    with record(jamba) as seen:
        jamba(**inputs)
    assert sorted(seen.patterns) == [0, 1]
    for layer in range(2):
        heads = none(jamba, 2)
        heads[0, layer] = True
        with patch(jamba, heads, [1, 1], "output"):
            assert not torch.allclose(jamba(**inputs).logits[0], plain[0], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "mistral, sliding", "gemma3"])
def test_what_is_generated_beyond_a_window_is_patched_in_every_layer(family):
    model = build_model(family)
    missed = set()

    def look(seen):
        if seen.output.shape[1] == 1 and not torch.allclose(seen.output[0], seen.output[1], atol=1e-6):
            missed.add(seen.layer)

    inputs = batch(2, padded=False)
    heads = none(model, 2)
    heads[0] = True
    nothing = torch.zeros(2, TOKENS, dtype=torch.bool)  # no query of the prompt, all that is generated
    with patch(model, heads, [1, 1], "output", queries=nothing), attention_hooks(model, look):
        model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert not missed


@torch.no_grad()
def test_a_pattern_at_a_query_of_a_later_pass_is_the_pattern(llama):
    apart = []

    def look(seen):
        n = seen.query.shape[2]
        at = seen.patterns_at([0, 1], torch.tensor([0, 1]), torch.tensor([n - 1, n - 1]))
        apart.append((at - seen.patterns([0, 1])[:, :, n - 1]).abs().max().item())

    with attention_hooks(llama, look):
        llama.generate(**batch(2, padded=False), max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert len(apart) == 9
    assert max(apart) < 1e-6


@pytest.mark.parametrize("name", ["past_key_values", "cache"])  # in transformers before 5.24, and from then on
def test_a_pass_begins_after_what_the_cache_holds_whatever_the_library_calls_it(llama, name):
    module = id(attention.attention_modules(llama)[0])
    held = transformers.DynamicCache(config=llama.config)
    held.update(torch.zeros(1, 1, 5, 4), torch.zeros(1, 1, 5, 4), 0)
    with attention.attention_hooks(llama, lambda _: None, [0]):
        attention._note_position([module], llama, (), {name: held})
        assert attention._sites[module].first == 5
        attention._note_position([module], llama, (), {name: None})
        assert attention._sites[module].first == 0
