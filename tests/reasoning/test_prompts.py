"""The prompt of the tuned teachers, and the document's beginning that fits into it."""

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ctd.reasoning import prompts, traces

TEXTS = [
    "Serum calcium of 24 rats rose by 3.5 mg after the β-blocker; the liver did not.",
    "Костный мозг и кальций: обзор.",
    "Zebrafish🐟 hearts 心臓 — naïve café façade, 10 µM Ca²⁺.",
    "🧬🧬🧬🧬🧬🧬🧬🧬",
    "The study\n\n  of study\tof the study of the studies.",
]


def byte_level(texts=TEXTS[:1] * 3, vocab_size=300):
    """A byte-level BPE, as SmolLM2's is: a character that it never saw takes several tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    ])  # fmt: skip
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


def unigram():
    """A tokenizer whose best split of a beginning may have more pieces than the beginning of its best split."""
    pieces = [("<unk>", -9.0), ("ab", -1.0), ("cde", -1.0), *((letter, -5.0) for letter in "abcdef ")]
    inner = Tokenizer(models.Unigram(pieces, unk_id=0))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<unk>")


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level()


def length(text, tokenizer):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_plain_prompt_is_the_document_on_one_line():
    assert prompts.plain("A study\n of\t rats. \n") == "Document: A study of rats.\n"
    assert prompts.plain("A study.", []) == "Document: A study.\n"


def test_candidates_follow_the_document_a_line_each():
    assert prompts.plain("A\nstudy.", ["Rats", "Calcium/blood"]) == (
        "Document: A study.\nCandidates:\n- Rats\n- Calcium/blood\n"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_a_cut_document_is_as_long_as_it_may_be_and_no_longer(tokenizer, text):
    line = " ".join(text.split())
    whole = length(line, tokenizer)
    assert whole > 10
    cuts = [prompts.cut(text, tokenizer, n) for n in range(1, whole + 3)]
    for n, cut in enumerate(cuts, 1):
        assert length(cut, tokenizer) <= n
        assert line.startswith(cut)
        assert n < whole or cut == line
    lengths = [len(cut) for cut in cuts]
    assert lengths == sorted(lengths)
    wasted = [n - length(cut, tokenizer) for n, cut in enumerate(cuts[:whole], 1)]
    assert max(wasted) <= 3  # bytes of the character that did not fit


def test_a_character_of_several_tokens_is_kept_whole_or_left_out(tokenizer):
    assert length("🧬", tokenizer) == 4
    cuts = [prompts.cut("🧬🧬", tokenizer, n) for n in range(1, 9)]
    assert cuts == ["", "", "", "🧬", "🧬", "🧬", "🧬", "🧬🧬"]


def test_any_text_can_be_cut(tokenizer):
    rng = np.random.default_rng(0)
    letters = [*"ab 1.\n", "é", "ß", "心", "🧬", "\u0301", "\u200d", "β"]
    for _ in range(300):
        text = "".join(rng.choice(letters, rng.integers(0, 30)))
        n = int(rng.integers(1, 20))
        cut = prompts.cut(text, tokenizer, n)
        assert length(cut, tokenizer) <= n
        assert " ".join(text.split()).startswith(cut)


def test_a_tokenizer_that_splits_a_beginning_otherwise_is_held_to_its_word():
    tokenizer = unigram()
    for text in ("abcdef", "abc def cde", "cdecdeab", "acdeb"):
        for n in range(1, 8):
            assert length(prompts.cut(text, tokenizer, n), tokenizer) <= n


def test_no_document_can_be_cut_to_nothing(tokenizer):
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n_tokens must be at least 1, got {n}"):
            prompts.cut("A study.", tokenizer, n)
    assert prompts.cut("", tokenizer, 1) == ""


def test_the_instruction_holds_all_that_is_asked_in_the_models_own_chat_form():
    tokenizer = byte_level()
    arguments = {"space": "tiny", "examples": ["Rats", "Calcium/blood"], "candidates": ["Liver"]}
    document = "A {study}\nof 10 % of rats."
    plain = prompts.instruction(document, tokenizer, **arguments)
    assert plain.endswith(f"\n\n{prompts.plain(document, ['Liver'])}")
    assert '"tiny"' in plain
    assert "Rats; Calcium/blood." in plain
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}<assistant>"
    assert prompts.instruction(document, tokenizer, **arguments) == f"<user>{plain}<end><assistant>"


def test_the_form_that_the_instruction_shows_is_that_of_traces():
    """Every literal line of the format stands in it, in order."""
    lines = prompts.INSTRUCTION.splitlines()
    text = traces.write("Topics", ["Calcium"], [], ["Calcium"])
    fixed = [line for line in text.splitlines() if not line.startswith(("- ", "Topics:"))]
    assert (
        [line for line in lines if line in fixed]
        == fixed
        == ["<think>", "Shortlist:", "Compare:", "</think>", "Answer:"]
    )
