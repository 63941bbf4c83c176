"""Whatever a model likes to write under the grammar is parsed, for tokenizers of every kind."""

import json
from functools import cache

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from ctd.data.label_space import LabelSpace
from ctd.reasoning import read_text, trace_parser, traces
from ctd.reasoning.grammar import LabelLists, OnlyLabels
from tests.reasoning import test_generate

TEXTS = [
    "Calcium", "Calcium/blood", "Calcium/blood cells", "Liver", "Café", "心不全", "β-blocker 🎉", 'a [[b]] "c"', 
    "I&#10;", "two\nlines", "- Answer:", "Answer:", "</think>", " two  spaces ", "<end>",
]  # fmt: skip
SPACE = LabelSpace("odd", [str(row) for row in range(len(TEXTS))], TEXTS, len(TEXTS))
BEFORE = "<think>\nTopics: x\n"
FREE = ["Shortlist:\n", "Compare:\n", "</think>\n", "Answer:\n"]


def metaspace():
    """As Llama 2 has it: a space before a text, spaces as marks, other characters byte by byte."""
    raw = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=["\n"], show_progress=False)
    raw.train_from_iterator([*TEXTS, *FREE, "-"] * 2, trainer)
    content = json.loads(raw.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="</s>", unk_token="<unk>"
    )


def large():
    """As Gemma has it: 256,000 tokens, of which those of several characters have the highest numbers."""
    raw = Tokenizer(BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([*TEXTS, *FREE] * 3, trainer)
    content = json.loads(raw.to_str())
    vocabulary = content["model"]["vocab"]
    moved = {text: id + 255_000 * (len(text) > 1) for text, id in vocabulary.items()}
    used = {*moved.values(), 255_999}
    moved |= {f"zz{id}": id for id in range(255_999) if id not in used} | {"<eos>": 255_999}
    content["model"]["vocab"] = moved
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="<eos>"
    )


TOKENIZERS = {
    "byte-level": test_generate.byte_level, "byte fallback": test_generate.byte_fallback, "metaspace": metaspace,
    "large": large,
}  # fmt: skip
tokenizer_of = cache(lambda kind: TOKENIZERS[kind]())


@pytest.fixture(scope="module")
def lists_of(tmp_path_factory):
    """The lists of all labels for each tokenizer: those of a large one take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield cache(lambda kind: LabelLists(SPACE, tokenizer_of(kind)))


def written(tokenizer, lists, lengths, seed):
    """A trace that a model of random taste writes under the grammar, where it wants lists of these lengths."""
    rng = np.random.default_rng(seed)
    grammar, ids = OnlyLabels(lists), ids_of(tokenizer, BEFORE)
    n_before = len(ids)

    def write(favourite, boost=50.0):
        wanted = torch.from_numpy(rng.random(len(tokenizer), np.float32))
        wanted[favourite] += boost
        ids.append(int(grammar(torch.tensor([ids]), wanted[None])[0].argmax()))

    for heading, length in zip(FREE, (lengths[0], 0, 0, lengths[1]), strict=True):
        for token in ids_of(tokenizer, BEFORE + heading)[n_before:]:
            write(token, 1000.0)
        for _ in range(length):
            write(lists.bullet)
            while ids[-1] not in lists.breaks:
                write([])
    return tokenizer.decode(ids)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_written_under_the_grammar_is_parsed(kind, lists_of):
    tokenizer, lists = tokenizer_of(kind), lists_of(kind)

    @given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.integers(0, 2**32))
    def check(lengths, seed):
        text = written(tokenizer, lists, lengths, seed)
        trace = trace_parser.parse(text, SPACE)
        assert len(trace.answer) == lengths[1]
        assert traces.format(trace) == text
        assert read_text.read(text, SPACE).answer == trace.answer

    check()
