"""Buffers with room hold what the library's own cache holds; models with windows keep the library's."""

import pytest
import torch
import transformers
from transformers import DynamicCache

from ctd.reasoning import roomy_cache
from ctd.reasoning.generate import generate
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling
from tests.reasoning.test_generate import PROMPTS, alone, byte_level, tiny

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 96, "bos_token_id": None,
    "attn_implementation": "sdpa",
}  # fmt: skip
WINDOWS = {
    "every layer": (transformers.MistralConfig, transformers.MistralForCausalLM, {"sliding_window": 4}),
    "every other layer": (
        transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM,
        {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}  # fmt: skip


@pytest.fixture
def model():
    return tiny(byte_level()).model


@torch.inference_mode()
def logits(model, cache, padding, n=12, leaves=None):
    """Logits of texts that are read token by token after a prompt of five, padded by so many tokens."""
    ids = torch.randint(3, 200, (len(padding), 5 + n), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(5 + n) >= torch.tensor(padding)[:, None]).long()
    outputs = []
    for start, end in [(0, 5), *((at, at + 1) for at in range(5, 5 + n))]:
        if leaves is not None and end == 9:
            cache.batch_select_indices(leaves)
            ids, mask = ids[leaves], mask[leaves]
        positions = (mask[:, :end].cumsum(1) - 1).clamp(min=0)[:, start:]
        out = model(ids[:, start:end], attention_mask=mask[:, :end], position_ids=positions, past_key_values=cache)
        outputs.append(out.logits[:, -1])
    return outputs


@pytest.mark.parametrize("room", [1, 4, 32])
@pytest.mark.parametrize("padding", [[0, 0, 0], [0, 2, 4]])
@pytest.mark.parametrize("leaves", [None, torch.tensor([2, 0])])
def test_logits_are_those_of_the_librarys_cache(model, monkeypatch, room, padding, leaves):
    monkeypatch.setattr(roomy_cache, "ROOM", room)
    expected = logits(model, DynamicCache(config=model.config), padding, leaves=leaves)
    for step, wanted in zip(logits(model, roomy_cache.for_model(model), padding, leaves=leaves), expected, strict=True):
        torch.testing.assert_close(step, wanted, rtol=1e-4, atol=1e-4)


def test_a_buffer_is_copied_once_in_so_many_tokens(model, monkeypatch):
    monkeypatch.setattr(roomy_cache, "ROOM", 8)
    cache, places, lengths = roomy_cache.for_model(model), [], []
    for _ in range(20):
        keys, _ = cache.update(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8), 0)
        places.append(keys.data_ptr())
        lengths.append(keys.shape[2])
    assert lengths == [8] * 8 + [16] * 8 + [24] * 4
    assert all(places[at] == places[at - 1] for at in range(1, 20) if at % 8)
    assert cache.get_seq_length() == 20


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_model_with_a_sliding_window_writes_what_the_library_writes(kind, own_cache):
    config_class, model_class, window = WINDOWS[kind]
    tokenizer = byte_level()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = model_class(config_class(vocab_size=len(tokenizer), **SIZES, **ends, **window)).eval()
    model.get_output_embeddings().weight = torch.nn.Parameter(model.get_output_embeddings().weight * 20)
    tokenizer.padding_side = "left"
    assert not any(isinstance(layer, roomy_cache.RoomyLayer) for layer in roomy_cache.for_model(model).layers)
    language_model = LanguageModel(kind, model, tokenizer, kind)
    for prompt, completion in zip(PROMPTS, generate(language_model, PROMPTS, Sampling(20)), strict=True):
        tokens = alone(language_model, prompt, 20)
        assert list(completion.ids) == tokens[: tokens.index(tokenizer.eos_token_id) if completion.finished else None]
