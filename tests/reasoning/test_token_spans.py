"""Characters of a text as tokens."""

import pytest

from ctd.reasoning import token_spans, traces
from ctd.reasoning.token_spans import Span
from tests.reasoning.test_traces import TEXT


@pytest.fixture
def tiny(space):
    """The seven labels, read from the text above."""
    return traces.parse(TEXT, space, "u1", "Serum calcium and the liver.")


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE tokenizer, learnt from a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT] * 3, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


def test_token_spans_hold_the_characters_and_no_token_more(tiny, tokenizer):
    text = "Prompt, 心不全 ü:\n" + traces.format(tiny)
    shift = len(text) - len(traces.format(tiny))
    spans = [Span(m.start + shift, m.end + shift) for m in tiny.mentions] + [Span(8, 10), Span(0, len(text))]
    for special in (False, True):
        encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        offsets = encoded["offset_mapping"]
        for span, found in zip(spans, token_spans.token_spans(text, spans, tokenizer, special), strict=True):
            inside = [row for row, (a, b) in enumerate(offsets) if max(a, span.start) < min(b, span.end)]
            assert list(range(*found)) == inside
            assert text[slice(*span)] in tokenizer.decode(encoded["input_ids"][slice(*found)])
    assert token_spans.token_spans(text, spans, tokenizer, True)[-1].start == 1


def test_token_spans_refuse_what_they_cannot_map(tokenizer):
    with pytest.raises(ValueError, match=r"a span must lie within the text's 3 characters, got 1\.\.9"):
        token_spans.token_spans("abc", [(1, 9)], tokenizer)
    with pytest.raises(ValueError, match=r"got 2\.\.2"):
        token_spans.token_spans("abc", [(2, 2)], tokenizer)
    with pytest.raises(ValueError, match="tokenizer must be a fast one"):
        token_spans.token_spans("abc", [(0, 1)], type("Slow", (), {"is_fast": False})())
