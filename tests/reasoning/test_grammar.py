"""Lists hold labels, none twice, and end; all other lines are free. Against a tree built by hand."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctd.cache import digest
from ctd.data.label_space import LabelSpace
from ctd.reasoning import grammar
from ctd.reasoning.generate import generate
from ctd.reasoning.grammar import LabelLists, OnlyLabels
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

TEXTS = ["Calcium", "Calcium/blood", "Calcium/metabolism", "Liver", "Café", "Liver"]


@pytest.fixture(scope="module")
def tokenizer():
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    raw.train_from_iterator(["- Calcium/blood\n- Liver\nAnswer:\n"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")


@pytest.fixture
def lists(tokenizer, own_cache):
    space = LabelSpace("tiny", [str(n) for n in range(len(TEXTS))], TEXTS, len(TEXTS))
    return LabelLists(space, tokenizer)


def write(lists, tokenizer, scores_of, n, begun="Answer:\n"):
    """Greedy tokens under the grammar; scores_of(text so far) gives the scores."""
    ids, grammar = tokenizer(begun)["input_ids"], OnlyLabels(lists)
    first = len(ids)
    for _ in range(n):
        scores = grammar(torch.tensor([ids]), scores_of(tokenizer.decode(ids[first:]))[None].clone())
        ids.append(int(scores[0].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[first:])


def liking(tokenizer, text, seed=0, ending=-20.0):
    """Scores of a model that likes to begin items and else writes at random."""
    rng = np.random.default_rng((seed, len(text)))
    scores = torch.tensor(rng.standard_normal(len(tokenizer)), dtype=torch.float32)
    if not text or text.endswith("\n"):
        scores[tokenizer("- Liver\n")["input_ids"][0]] = 10.0
        scores[tokenizer.eos_token_id] = 10.0 + ending
    return scores


def test_every_label_of_the_table_is_a_label_and_none_is_missing(lists, tokenizer):
    lines = [tokenizer.decode([int(t) - 1 for t in row if t]) for row in lists.lines]
    bullet = tokenizer.decode([lists.bullet])
    assert sorted(bullet + line for line in lines) == sorted(f"- {text}\n" for text in set(TEXTS))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_model_likes_a_list_holds_labels_none_twice(lists, tokenizer, seed):
    text = write(lists, tokenizer, lambda text: liking(tokenizer, text, seed), 60)
    items = text.split("\n")[:-1][: len(set(TEXTS))]
    assert len(items) == len(set(items)) == len(set(TEXTS))
    assert {item.removeprefix("- ") for item in items} == set(TEXTS)


def test_a_free_line_is_left_alone_and_begins_a_new_list(lists, tokenizer):
    grammar = OnlyLabels(lists)
    ids = tokenizer("x\n")["input_ids"]
    for token in tokenizer("- Liver\nCompare:\n")["input_ids"]:
        scores = torch.zeros(1, len(tokenizer))
        after = grammar(torch.tensor([ids]), scores.clone())
        assert torch.isfinite(after[0, token])
        ids.append(token)
    grammar(torch.tensor([ids]), torch.zeros(1, len(tokenizer)))
    assert grammar.rows[0].used == []
    line = tokenizer("- Liver\n")["input_ids"]
    for token in line[:-1]:
        ids.append(token)
        after = grammar(torch.tensor([ids]), torch.zeros(1, len(tokenizer)))
    assert torch.isfinite(after[0, line[-1]])  # the label may stand in the new list again


def test_a_list_ends_when_it_is_likelier_to_have_ended(lists, tokenizer):
    """Each time the model goes on with probability 3/4: after the third item 27/64 are left, so the list ends there."""
    ending = float(np.log(1 / 3))
    text = write(lists, tokenizer, lambda text: liking(tokenizer, text, 1, ending), 60)
    assert text.removesuffix("<end>").count("\n") == 3
    assert text.endswith("<end>")


def test_rows_of_a_batch_do_not_touch_each_other(lists, tokenizer):
    grammar = OnlyLabels(lists)
    ids = torch.tensor([tokenizer("a\n")["input_ids"]] * 2)
    grammar(ids, torch.zeros(2, len(tokenizer)))
    ids = torch.cat([ids, torch.tensor([[lists.bullet], [tokenizer("z")["input_ids"][0]]])], 1)
    after = grammar(ids, torch.zeros(2, len(tokenizer)))
    assert not torch.isfinite(after[0]).all()
    assert torch.isfinite(after[1]).all()


def test_a_batch_is_kept_to_the_lists_as_each_of_its_rows_alone(lists, tokenizer):
    begun = tokenizer("x\n")["input_ids"]
    texts = [begun.copy() for _ in range(4)]
    together, alone = OnlyLabels(lists), [OnlyLabels(lists) for _ in texts]
    for _ in range(40):
        written = [tokenizer.decode(ids[len(begun) :]) for ids in texts]
        scores = torch.stack([liking(tokenizer, text, seed, -3) for seed, text in enumerate(written)])
        after = together(torch.tensor(texts), scores.clone())
        for ids, only, row_scores, allowed in zip(texts, alone, scores, after, strict=True):
            assert torch.equal(only(torch.tensor([ids]), row_scores[None].clone())[0], allowed)
            ids.append(int(allowed.argmax()))
    assert len({tokenizer.decode(ids) for ids in texts}) == len(texts)


def test_the_table_is_kept_and_another_label_space_has_another(lists, tokenizer):
    space = LabelSpace("other", ["a"], ["Liver"], 1)
    assert LabelLists(space, tokenizer).key != lists.key
    assert len(LabelLists(space, tokenizer).lines) == 1


@pytest.mark.parametrize("piece", [3, 32])
def test_what_a_model_generates_is_kept_to_the_lists(piece, lists, tokenizer, own_cache, monkeypatch):
    """A model of random weights, which is made to begin an item at every line, writes labels and nothing else."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    tokenizer.padding_side = "left"
    begin = grammar.OnlyLabels.__call__

    def items_only(self, input_ids, scores):
        scores = begin(self, input_ids, scores)
        for place, row in enumerate(self.rows):
            if row.begins:
                scores[place, self.lists.bullet] = 1e4
        return scores

    monkeypatch.setattr(grammar.OnlyLabels, "__call__", items_only)
    monkeypatch.setattr("ctd.reasoning.write_batch.PIECE", piece)
    language_model = LanguageModel("tiny", model, tokenizer, "tiny")
    for completion in generate(language_model, ["Answer:\n", "x\n"], Sampling(40), lists=lists):
        items = completion.text.split("\n")[:-1]
        assert items
        assert {item.removeprefix("- ") for item in items} <= set(TEXTS)


def test_the_key_of_the_lists_is_the_one_that_the_books_texts_rest_on(lists, tokenizer):
    texts = list(dict.fromkeys(TEXTS))
    probe = tokenizer("".join(f"- {text}\n" for text in texts))["input_ids"]
    assert lists.key == digest(["label lists 1", str(probe), str(len(tokenizer)), *texts])


def test_the_table_is_of_the_whole_tokenizer_and_padding_does_not_matter(tokenizer):
    content = grammar.tokenizer_content(tokenizer)
    tokenizer(["a", "a b"], padding=True, truncation=True, max_length=3)
    assert grammar.tokenizer_content(tokenizer) == content
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["Liver"])
    assert grammar.tokenizer_content(other) != content


@pytest.mark.parametrize("at_once", [2, 50_000])
def test_lists_are_the_same_in_another_process_and_a_large_table_is_not_copied(
    tokenizer, own_cache, monkeypatch, at_once
):
    monkeypatch.setattr(grammar, "AT_ONCE", at_once)
    space = LabelSpace("tiny", [str(n) for n in range(200)], [f"Label {n}" for n in range(200)], 200)
    lists = LabelLists(space, tokenizer)
    packed = pickle.dumps(lists)
    again = pickle.loads(packed)
    assert (again.key, again.bullet, again.breaks) == (lists.key, lists.bullet, lists.breaks)
    np.testing.assert_array_equal(again.lines, lists.lines)
    for actual, expected in zip(again.options(0, 200, 0), lists.options(0, 200, 0), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert isinstance(again.lines, np.memmap) == (at_once == 2) == (len(packed) < lists.lines.nbytes)


def test_ids_beyond_two_bytes_are_held_whole(tokenizer, own_cache):
    """As in Qwen, Llama 3 and Gemma: the same tokens, those of several characters numbered from 70,000."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    moved = {text: id + 70_000 * (len(text) > 1) for text, id in vocabulary.items() if text != "<end>"}
    used = set(moved.values())
    moved |= {f"zz{id}": id for id in range(70_000 + len(vocabulary)) if id not in used}
    content["model"]["vocab"] = moved
    content["added_tokens"] = []
    large = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), pad_token="zz0")
    lists = LabelLists(LabelSpace("tiny", [str(n) for n in range(len(TEXTS))], TEXTS, len(TEXTS)), large)
    assert lists.lines.dtype == np.uint32
    lines = [large.decode([lists.bullet, *(int(t) - 1 for t in row if t)]) for row in lists.lines]
    assert sorted(lines) == sorted(f"- {text}\n" for text in set(TEXTS))


def test_a_tokenizer_that_puts_a_space_before_a_text_has_the_lines_of_a_text(own_cache):
    """As in Llama 2 and Mistral."""
    raw = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    raw.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=["\n"])
    raw.train_from_iterator(["Answer:", "Calcium", "blood", "metabolism", "Liver", "Café", "/", "-"] * 2, trainer)
    spaced = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<unk>")
    lists = LabelLists(LabelSpace("tiny", ["a", "b"], ["Calcium", "Liver"], 2), spaced)
    before = spaced("Answer:\n", add_special_tokens=False)["input_ids"]
    for label in ("Calcium", "Liver"):
        ids = spaced(f"Answer:\n- {label}\n- Liver\n", add_special_tokens=False)["input_ids"][len(before) :]
        line = ids[1 : next(place for place, token in enumerate(ids) if token in lists.breaks) + 1]
        assert ids[0] == lists.bullet
        assert line in [[int(token) - 1 for token in row if token] for row in lists.lines]
