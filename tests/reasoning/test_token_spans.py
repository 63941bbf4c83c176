"""Characters of a text as tokens."""

import pytest

from ctd.reasoning import trace_parser, traces
from ctd.reasoning.token_spans import Span, tokenize
from tests.reasoning.test_traces import TEXT


@pytest.fixture
def tiny(space):
    """The seven labels, read from the text above."""
    return trace_parser.parse(TEXT, space, "u1", "Serum calcium and the liver.")


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
        tokens = tokenize(text, tokenizer, special)
        for span in spans:
            covered = tokens.span(*span)
            inside = [row for row, (a, b) in enumerate(offsets) if max(a, span.start) < min(b, span.end)]
            assert list(range(*covered)) == inside
            assert text[slice(*span)] in tokenizer.decode(encoded["input_ids"][slice(*covered)])
    assert tokenize(text, tokenizer, True).span(0, len(text)).start == 1


def test_token_spans_refuse_what_they_cannot_map(tokenizer):
    with pytest.raises(ValueError, match=r"a span must lie within the text's 3 characters, got 1\.\.9"):
        tokenize("abc", tokenizer).span(1, 9)
    with pytest.raises(ValueError, match=r"got 2\.\.2"):
        tokenize("abc", tokenizer).span(2, 2)
    with pytest.raises(ValueError, match="tokenizer must be a fast one"):
        tokenize("abc", type("Slow", (), {"is_fast": False})())
