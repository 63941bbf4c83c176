"""What is generated is what the model itself would write one prompt at a time, and survives a kill unchanged."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import chisquare
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from ctd.cache import cache_dir, digest
from ctd.data.label_space import LabelSpace
from ctd.mechanism import attention
from ctd.reasoning import generate as generation
from ctd.reasoning.completions import Completion
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

CONTEXT = 96
CORPUS = ["the serum calcium of the liver", "Document: a naïve cell\n- Calcium/blood\n", "β-blockers ≥ 5 µg"]
PROMPTS = [f"Document: {'calcium of the ' * (i % 5)}liver {i}\n" for i in range(11)]


def write(model, prompts, desc="generating", **options):
    """`generate`, with the fields of its settings as options."""
    limits = {name: options.pop(name) for name in Limits.__dataclass_fields__ if name in options}
    return generate(model, prompts, Sampling(**options), Limits(**limits), desc=desc)


def byte_level():
    """A byte-level BPE of 300 tokens, as SmolLM2 has a large one: some characters are of several tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<end>", pad_token="<pad>", additional_special_tokens=["<mark>"]
    )


def byte_fallback():
    """A tokenizer as Llama 2 and Gemma have it: words with a leading mark, other characters byte by byte."""
    words = ["▁", "▁a", "▁liver", "b", "c", *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], byte_fallback=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.add_special_tokens([AddedToken("<end>", special=True)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>", pad_token="<end>")


def tiny(tokenizer, key="tiny"):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    model.lm_head.weight.data *= 20  # decided enough that greedy has no ties
    tokenizer.padding_side = "left"
    return LanguageModel("tiny", model, tokenizer, key)


@pytest.fixture
def language_model(own_cache):
    return tiny(byte_level())


@pytest.fixture
def dictate(monkeypatch):
    """Makes a model write the tokens given, whatever the prompt."""

    def write(language_model, tokens):
        generate_of = language_model.model.generate
        head = language_model.model.lm_head
        steps = iter(())

        def begin(*args, **options):
            nonlocal steps
            steps = iter([*tokens, *[0] * CONTEXT])
            return generate_of(*args, **options)

        def force(module, inputs, logits):
            logits[..., next(steps)] += 1000
            return logits

        head.register_forward_hook(force)
        monkeypatch.setattr(language_model.model, "generate", begin)

    return write


@pytest.fixture
def batches(monkeypatch):
    """Notes each batch of a model: prompt ids, mask, all ids afterwards. Fails at the batch numbered `fail_at`."""

    class Batches(list):
        fail_at = None

        def watch(self, language_model):
            inner = language_model.model.generate

            def noted(input_ids, attention_mask=None, **options):
                if len(self) == self.fail_at:
                    raise KeyboardInterrupt
                out = inner(input_ids=input_ids, attention_mask=attention_mask, **options)
                self.append((input_ids, attention_mask, out))
                return out

            monkeypatch.setattr(language_model.model, "generate", noted)
            return self

    return Batches()


def alone(language_model, prompt, n):
    """The tokens that the library writes after one prompt without padding, greedily; the end token included."""
    ids = language_model.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return language_model.model.generate(ids, max_new_tokens=n, do_sample=False)[0, ids.shape[1] :].tolist()


@torch.inference_mode()
def teacher_forced(language_model, prompt, tokens, temperature=1.0):
    """Log-probability of each token by one forward pass over prompt and tokens."""
    ids = language_model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    logits = language_model.model(torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 : -1].float()
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


def end_sometimes(language_model, by):
    """Makes the end token likelier."""
    end = language_model.tokenizer.eos_token_id

    def raise_end(module, inputs, logits):
        logits[..., end] += by
        return logits

    language_model.model.lm_head.register_forward_hook(raise_end)


def files(own_cache):
    return sorted(path.name for path in (own_cache / "generations").iterdir())


def test_batches_give_what_the_library_writes_one_prompt_at_a_time(language_model):
    end_sometimes(language_model, 3.5)
    completions = write(language_model, PROMPTS, max_tokens=20, batch_tokens=200)
    end = language_model.tokenizer.eos_token_id
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        tokens = alone(language_model, prompt, 20)
        assert completion.finished == (end in tokens)
        tokens = tokens[: tokens.index(end)] if end in tokens else tokens
        assert completion.n_tokens == len(tokens) == len(completion.logprobs) == len(completion.offsets)
        assert completion.text == language_model.tokenizer.decode(tokens)
        assert list(completion.ids) == tokens
        torch.testing.assert_close(
            torch.tensor(completion.logprobs), teacher_forced(language_model, prompt, tokens), rtol=1e-4, atol=1e-4
        )
    assert 0 < sum(completion.finished for completion in completions) < len(completions)  # both endings occur


@pytest.mark.parametrize("piece", [1, 3, 7])
def test_texts_that_end_leave_the_batch_and_the_others_are_written_as_before(
    language_model, batches, monkeypatch, piece
):
    end_sometimes(language_model, 3.5)
    whole = [alone(language_model, prompt, 20) for prompt in PROMPTS]
    monkeypatch.setattr("ctd.reasoning.write_batch.PIECE", piece)
    batches.watch(language_model)
    completions = write(language_model, PROMPTS, max_tokens=20, batch_tokens=10_000)
    end = language_model.tokenizer.eos_token_id
    for prompt, tokens, completion in zip(PROMPTS, whole, completions, strict=True):
        tokens = tokens[: tokens.index(end)] if end in tokens else tokens
        assert completion.text == language_model.tokenizer.decode(tokens)
        torch.testing.assert_close(
            torch.tensor(completion.logprobs), teacher_forced(language_model, prompt, tokens), rtol=1e-4, atol=1e-4
        )
    sizes = [len(ids) for ids, *_ in batches]
    assert sizes[0] == len(PROMPTS) > sizes[-1]
    assert sum(size * (out.shape[1] - ids.shape[1]) for size, (ids, _, out) in zip(sizes, batches, strict=True)) < (
        20 * len(PROMPTS)
    )


def test_logprobs_of_drawn_tokens_are_the_models_own_not_those_of_the_temperature(language_model, batches):
    batches.watch(language_model)
    [completion] = write(language_model, PROMPTS[:1], max_tokens=12, temperature=3.0, top_p=0.9, seed=4)
    [(ids, _, out)] = batches
    tokens = out[0, ids.shape[1] :].tolist()[: completion.n_tokens]
    unheated, heated = (teacher_forced(language_model, PROMPTS[0], tokens, t) for t in (1.0, 3.0))
    torch.testing.assert_close(torch.tensor(completion.logprobs), unheated, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(unheated, heated, atol=0.1)
    assert tokens != alone(language_model, PROMPTS[0], 12)


def test_a_repetition_penalty_is_the_librarys_and_leaves_the_logprobs_the_models_own(language_model):
    """One prompt at a time by the library alone, whose penalty counts prompt and text."""
    texts = write(language_model, PROMPTS[:4], max_tokens=20, repetition_penalty=3.0)
    for prompt, text in zip(PROMPTS, texts, strict=False):
        ids = language_model.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        generated = language_model.model.generate(ids, max_new_tokens=20, do_sample=False, repetition_penalty=3.0)
        tokens = generated[0, ids.shape[1] :].tolist()
        assert list(text.ids) == tokens[: text.n_tokens]
        assert tokens != alone(language_model, prompt, 20)
        expected = teacher_forced(language_model, prompt, tokens[: text.n_tokens])
        torch.testing.assert_close(torch.tensor(text.logprobs), expected, rtol=1e-4, atol=1e-4)


def test_tokens_are_drawn_from_the_top_k(language_model, batches):
    batches.watch(language_model)
    write(language_model, ["liver"] * 400, max_tokens=1, batch_tokens=10**6, temperature=5.0, top_k=3)
    drawn = torch.cat([out[:, ids.shape[1]] for ids, _, out in batches])
    ids = torch.tensor([language_model.tokenizer("liver", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        likeliest = language_model.model(ids).logits[0, -1].topk(3).indices
    assert set(drawn.tolist()) == set(likeliest.tolist())


def test_batches_are_bounded_hold_each_prompt_once_and_begin_with_the_longest(language_model, batches):
    batches.watch(language_model)
    write(language_model, PROMPTS, max_tokens=8, batch_tokens=80)
    lengths = [mask.sum(1).tolist() for _, mask, _ in batches]
    flat = [n for batch in lengths for n in batch]
    wanted = [len(ids) for ids in language_model.tokenizer(PROMPTS)["input_ids"]]
    assert flat == sorted(wanted, reverse=True)
    assert all(len(batch) == 1 or len(batch) * (max(batch) + 8) <= 80 for batch in lengths)
    assert len(batches) > 2
    batches.clear()
    write(language_model, ["a"] * 70, max_tokens=1, batch_tokens=10**6)
    assert [len(ids) for ids, _, _ in batches] == [64, 6]


def test_wider_batches_are_written_where_nothing_is_kept_of_the_narrow_ones(language_model, batches):
    batches.watch(language_model)
    write(language_model, ["a"] * 70, max_tokens=1, batch_tokens=20, wide_batch_tokens=10**6)
    assert [len(ids) for ids, *_ in batches] == [70]
    narrow = write(language_model, ["b"] * 4, max_tokens=1, batch_tokens=2)
    n_written = len(batches)
    assert write(language_model, ["b"] * 4, max_tokens=1, batch_tokens=2, wide_batch_tokens=10**6) == narrow
    assert len(batches) == n_written > 2


def test_a_prompt_that_is_larger_than_a_batch_is_written_alone(language_model):
    assert write(language_model, PROMPTS[:2], max_tokens=4, batch_tokens=1) == [
        write(language_model, [prompt], max_tokens=4, batch_tokens=1)[0] for prompt in PROMPTS[:2]
    ]


def test_the_models_own_generation_settings_are_set_aside_and_put_back(language_model):
    [plain] = write(language_model, PROMPTS[:1], max_tokens=12)
    config = language_model.model.generation_config
    config.update(repetition_penalty=5.0, min_new_tokens=3, suppress_tokens=list(range(200)), num_beams=2, top_k=1)
    [again] = write(dataclasses.replace(language_model, key="other"), PROMPTS[:1], max_tokens=12)
    assert again == plain
    assert language_model.model.generation_config is config
    assert alone(language_model, PROMPTS[0], 12) != language_model.tokenizer(plain.text)["input_ids"]


@pytest.mark.parametrize("interrupted", [1, 3])
def test_a_killed_call_goes_on_and_ends_as_an_unbroken_one(language_model, batches, monkeypatch, tmp_path, interrupted):
    settings = {"max_tokens": 6, "batch_tokens": 60, "temperature": 1.0, "seed": 3}
    batches.watch(language_model)
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "unbroken"))
    unbroken = write(language_model, PROMPTS, **settings)
    n_batches = len(batches)
    assert n_batches > 3
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "killed"))
    batches.clear()
    batches.fail_at = interrupted
    with pytest.raises(KeyboardInterrupt):
        write(language_model, PROMPTS, **settings)
    [partial] = cache_dir("generations").iterdir()
    assert partial.suffix == ".partial"
    torn = partial.read_bytes()[:-9]
    assert len(torn.splitlines()) == interrupted + 1  # a blank one first, so that a torn one never swallows the next
    partial.write_bytes(torn)
    batches.fail_at = None
    batches.clear()
    assert write(language_model, PROMPTS, **settings) == unbroken
    assert len(batches) == n_batches - (interrupted - 1)
    [whole] = cache_dir("generations").iterdir()
    assert whole.suffix == ".jsonl"
    assert [json.loads(line)["batch"] for line in whole.read_bytes().splitlines()] == list(range(n_batches))


def test_a_second_call_reads_what_the_first_wrote(language_model, batches, own_cache, capsys):
    batches.watch(language_model)
    first = write(language_model, PROMPTS, max_tokens=6, desc="reasoning")
    shown = capsys.readouterr().err
    assert "reasoning: 100%" in shown
    assert "tokens_a_second=" in shown
    batches.fail_at = len(batches)
    assert write(language_model, PROMPTS, max_tokens=6, seed=1, top_p=0.5) == first  # greedy: neither matters
    assert capsys.readouterr().err == ""
    assert len(files(own_cache)) == 1
    [whole] = (own_cache / "generations").iterdir()
    whole.write_bytes(b'{"batch": 0, "completions": []}\n{"batch": 99}\nnonsense\n')
    batches.fail_at = None
    assert write(language_model, PROMPTS, max_tokens=6) == first  # damage is redone
    assert len(files(own_cache)) == 1


def test_a_kill_between_the_last_batch_and_the_whole_file_loses_nothing(language_model, batches, own_cache):
    batches.watch(language_model)
    first = write(language_model, PROMPTS, max_tokens=2)
    [whole] = (own_cache / "generations").iterdir()
    whole.rename(whole.with_name(whole.name + ".partial"))
    batches.fail_at = len(batches)
    assert write(language_model, PROMPTS, max_tokens=2) == first
    assert files(own_cache) == [whole.name]


def test_whatever_the_text_depends_on_has_a_file_of_its_own(language_model, own_cache):
    drawn = {"max_tokens": 2, "temperature": 1.0}
    calls = [
        (language_model, PROMPTS[:2], drawn),
        (dataclasses.replace(language_model, key="other"), PROMPTS[:2], drawn),
        (language_model, PROMPTS[1::-1], drawn),
        *((language_model, PROMPTS[:2], drawn | more) for more in (
            {"max_tokens": 3}, {"temperature": 0.5}, {"temperature": 0}, {"top_p": 0.5}, {"seed": 1},
            {"top_k": 3}, {"repetition_penalty": 1.1},
            {"stop": ["x"]}, {"batch_tokens": 1},
        )),
    ]  # fmt: skip
    for model, prompts, settings in calls:
        write(model, prompts, **settings)
    assert len(files(own_cache)) == len(calls)


def test_a_seed_decides_what_is_drawn_and_leaves_the_callers_own_draws_alone(language_model, monkeypatch, tmp_path):
    def drawn(folder, seed):
        monkeypatch.setenv("CTD_CACHE", str(tmp_path / folder))
        return write(language_model, PROMPTS, max_tokens=8, batch_tokens=100, temperature=1.0, seed=seed)

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    a = drawn("a", 0)
    assert torch.equal(torch.rand(3), wanted)
    assert drawn("b", 0) == a
    assert drawn("c", 1) != a
    same = write(language_model, ["liver"] * 4, max_tokens=8, batch_tokens=1, temperature=1.0)
    assert len({completion.text for completion in same}) > 1  # each batch draws its own


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (3.0, 1.0), (3.0, 0.9)])
def test_tokens_are_drawn_with_the_probabilities_that_the_settings_mean(language_model, batches, temperature, top_p):
    batches.watch(language_model)
    n = 960
    write(language_model, ["liver"] * n, max_tokens=1, batch_tokens=10**6, temperature=temperature, top_p=top_p)
    drawn = np.concatenate([out[:, -1].numpy() for _, _, out in batches])
    ids = language_model.tokenizer("liver", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        p = (language_model.model(ids).logits[0, -1].double() / temperature).softmax(-1).numpy()
    order = np.argsort(-p)
    likely = order[: np.searchsorted(np.cumsum(p[order]), top_p) + 1]
    expected = np.zeros_like(p)
    expected[likely] = p[likely] / p[likely].sum()
    counts = np.bincount(drawn, minlength=len(p))
    assert counts[expected == 0].sum() == 0
    common = expected * n >= 5
    rest = [counts[~common].sum()], [expected[~common].sum() * n]
    observed, wanted = (np.append(a[common], b) for a, b in zip((counts, expected * n), rest, strict=True))
    assert chisquare(observed[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3
    assert temperature == 1 or len(set(drawn)) > 60


def test_a_small_top_p_leaves_only_the_likeliest_token(language_model):
    greedy = write(language_model, PROMPTS[:3], max_tokens=8)
    drawn = write(language_model, PROMPTS[:3], max_tokens=8, temperature=1.0, top_p=1e-6)
    assert [completion.text for completion in drawn] == [completion.text for completion in greedy]


def by_bytes(pieces):
    """Text and spans of tokens given as bytes, by counting them: the oracle for offsets."""
    raw = b"".join(pieces)
    spans, at = [], 0
    for piece in pieces:
        after = at + len(piece)
        start = len(raw[:at].decode(errors="ignore"))  # an incomplete character at the end is not counted
        spans.append((start, start if at == after else len(raw[:after].decode(errors="replace"))))
        at = after
    return raw.decode(), tuple(spans)


TEXTS = ["naïve β-blocker ≥ 5 µg", "日本語 🎉🎉 é", "plain words\n- Calcium/blood\n", " leading", "\n\n\u2028x"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("merged", [True, False])
def test_offsets_count_characters_where_characters_are_of_several_tokens(language_model, dictate, text, merged):
    tokenizer = language_model.tokenizer
    alphabet = {char: byte for byte, char in _alphabet().items()}
    if merged:
        ids = tokenizer(text)["input_ids"]
    else:
        ids = [tokenizer.convert_tokens_to_ids(_alphabet()[byte]) for byte in text.encode()]
    pieces = [bytes(alphabet[char] for char in token) for token in tokenizer.convert_ids_to_tokens(ids)]
    dictate(language_model, [*ids, tokenizer.eos_token_id])
    [completion] = write(language_model, ["Document: é"], max_tokens=60)
    assert (completion.text, completion.offsets) == by_bytes(pieces)
    assert completion.text == text
    assert completion.finished
    assert completion.n_tokens == len(ids)


def _alphabet():
    """Byte to the character that stands for it in byte-level BPE, by its published rule."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def test_offsets_and_the_first_space_are_right_for_a_tokenizer_that_falls_back_to_bytes(own_cache, dictate):
    language_model = tiny(byte_fallback())
    tokenizer = language_model.tokenizer
    tokens = ["▁liver", "▁a", *(f"<0x{byte:02X}>" for byte in "é日β".encode()), "b", "▁", "c"]
    pieces = [b" liver", b" a", *(bytes([byte]) for byte in "é日β".encode()), b"b", b" ", b"c"]
    dictate(language_model, [*tokenizer.convert_tokens_to_ids(tokens), tokenizer.eos_token_id])
    [completion] = write(language_model, ["a liver"], max_tokens=20)
    assert completion.text == " liver aé日βb c"
    assert (completion.text, completion.offsets) == by_bytes(pieces)


def test_special_tokens_are_left_out_of_the_text_and_bytes_that_are_no_character_do_no_harm(language_model, dictate):
    tokenizer = language_model.tokenizer
    mark, broken = tokenizer.convert_tokens_to_ids(["<mark>", _alphabet()[0xE2]])
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    dictate(language_model, [a, mark, b, broken, a, broken])
    [completion] = write(language_model, PROMPTS[:1], max_tokens=6)
    assert completion.text == "ab\ufffda\ufffd"
    assert completion.offsets == ((0, 1), (1, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    assert not completion.finished


def test_logprob_sums_the_tokens_that_touch_the_characters():
    completion = Completion("aβcd", True, 5, ((0, 1), (1, 2), (1, 2), (2, 2), (2, 4)), (-1.0, -2.0, -4.0, -8.0, -16.0))
    sums = {(0, 1): -1, (1, 2): -6, (0, 2): -7, (2, 3): -16, (3, 4): -16, (0, 4): -23, (2, 2): 0}
    assert {span: completion.logprob(*span) for span in sums} == sums
    for start, end in [(-1, 2), (0, 5), (3, 2)]:
        with pytest.raises(ValueError, match=rf"within the 4 of the text, got {start}\.\.{end}"):
            completion.logprob(start, end)
    with pytest.raises(ValueError, match="this text has no log-probabilities"):
        Completion("a", True, 1).logprob(0, 1)


@pytest.mark.parametrize(
    ("prompt", "script", "stop", "text"),
    [
        ("liver", "serum STOP calcium", ["STOP"], "serum "),
        ("liver", "serum\n- Calcium\n- the\n", ["- the", "\n- C"], "serum"),
        ("a ST", "OP b STOP c", ["STOP"], "OP b "),  # what began in the prompt does not count
        ("liver", "naïve β ≥ 5 µg", ["≥"], "naïve β "),  # a character of several tokens
        ("liver", "STOP", ["STOP"], ""),
    ],
)
def test_a_stop_string_ends_the_text_and_is_no_part_of_it(language_model, dictate, batches, prompt, script, stop, text):
    ids = language_model.tokenizer(script)["input_ids"]
    dictate(language_model, ids)
    batches.watch(language_model)
    [completion] = write(language_model, [prompt], max_tokens=40, stop=stop)
    assert (completion.text, completion.finished) == (text, True)
    assert completion.n_tokens == len(completion.offsets) == len(completion.logprobs)
    assert all(0 <= start <= end <= len(text) for start, end in completion.offsets)
    assert batches[0][2].shape[1] - batches[0][0].shape[1] <= len(ids)  # and ends the work
    [cut] = write(language_model, [prompt], max_tokens=2, stop=["never"])
    assert not cut.finished


@pytest.mark.parametrize("piece", [2, 32])
def test_rows_that_stop_at_different_tokens_keep_their_own_texts(language_model, piece, monkeypatch):
    monkeypatch.setattr("ctd.reasoning.write_batch.PIECE", piece)
    whole = write(language_model, PROMPTS, max_tokens=16)
    stop = [whole[3].text[5:7], whole[7].text[9:11]]
    completions = write(language_model, PROMPTS, max_tokens=16, stop=stop)
    for before, after in zip(whole, completions, strict=True):
        first = min((at for at in map(before.text.find, stop) if at >= 0), default=None)
        assert after.text == before.text[:first]
        assert after.finished == (first is not None)
        assert after.logprobs == pytest.approx(before.logprobs[: after.n_tokens], abs=1e-4)
    assert len({len(completion.text) for completion in completions}) > 2


def test_a_text_is_kept_under_the_key_that_the_books_texts_have(language_model, own_cache):
    """By weights, prompt and settings alone: a key made otherwise would lose every text that comes with the book."""
    write(language_model, ["Liver"], max_tokens=2)
    [file] = (own_cache / "generations").glob("*.jsonl")
    assert file.stem == digest(["generate 2", language_model.key, "max_tokens 2, stop ()", "Liver", "[[0]]", ""])


def test_a_model_that_writes_nothing(language_model, dictate):
    dictate(language_model, [language_model.tokenizer.eos_token_id])
    assert write(language_model, PROMPTS[:2], max_tokens=5) == [Completion("", True, 0)] * 2
    assert Completion("", True, 0).logprob(0, 0) == 0


def test_no_prompts_need_no_model():
    assert write(None, []) == []


@pytest.mark.parametrize(
    ("prompts", "settings", "line"),
    [
        (["a", ""], {}, "prompt 1 is empty"),
        (
            ["a", "a" * 95],
            {"max_tokens": 2},
            r"prompt 1 must have at most 94 tokens .*context of 96 less .* 2\), got 95",
        ),
        (["a"], {"max_tokens": 200}, "prompt 0 must have at most 0 tokens"),
        (["a", "aaa"], {"max_prompt_tokens": 2}, r"prompt 1 must have at most 2 tokens \(max_prompt_tokens\), got 3"),
        (["a"], {"max_prompt_tokens": 0}, "max_prompt_tokens must be at least 1, got 0"),
        (["a"], {"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        (["a"], {"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        (["a"], {"temperature": -0.5}, "temperature must be at least 0 .*, got -0.5"),
        (["a"], {"top_k": -1}, "top_k must be at least 0 .*, got -1"),
        (["a"], {"repetition_penalty": 0}, "repetition_penalty must be above 0 .*, got 0.0"),
        (["a"], {"temperature": float("nan")}, "temperature must be at least 0 .*, got nan"),
        (["a"], {"top_p": 0}, "top_p must be above 0 and at most 1, got 0"),
        (["a"], {"top_p": 1.1}, "top_p must be above 0 and at most 1, got 1.1"),
        (["a"], {"seed": -1}, "seed must be at least 0, got -1"),
        (["a"], {"stop": [""]}, "a stop string must not be empty"),
        (["a"], {"stop": "end"}, "stop must be a list of strings, got the string 'end'"),
        ("a", {}, "prompts must be a list of strings, got the string 'a'"),
    ],
)
def test_bad_input_is_refused_in_one_line(language_model, own_cache, prompts, settings, line):
    with pytest.raises(ValueError, match=line) as caught:
        write(language_model, prompts, **{"max_tokens": 4} | settings)
    assert "\n" not in str(caught.value)
    assert not (own_cache / "generations").exists()


def test_the_longest_prompt_that_fits_is_written(language_model):
    n = len(language_model.tokenizer("a" * 94)["input_ids"])
    assert n == 94
    assert write(language_model, ["a" * 94], max_tokens=2)[0].n_tokens <= 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused_and_nothing_is_kept(language_model, own_cache, temperature):
    torch.nn.init.constant_(language_model.model.model.norm.weight, float("nan"))
    with pytest.raises(ValueError, match="logits are no finite numbers at generated token 0"):
        write(language_model, PROMPTS, max_tokens=4, temperature=temperature)
    assert files(own_cache) == []


def test_a_batch_that_does_not_fit_says_what_to_lower(language_model, monkeypatch):
    def full(**_):
        raise torch.OutOfMemoryError("many\nlines")

    monkeypatch.setattr(language_model.model, "generate", full)
    with pytest.raises(MemoryError, match=r"2 prompts of up to 8 tokens.*: lower batch_tokens below 16"):
        write(language_model, ["a", "aa"], max_tokens=6)


def test_where_wider_batches_do_not_fit_narrow_ones_are_written(language_model, monkeypatch):
    whole, sizes, expected = (
        language_model.model.generate,
        [],
        write(language_model, PROMPTS[:3], max_tokens=6, batch_tokens=1),
    )

    def small(**options):
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("full")
        return whole(**options)

    monkeypatch.setattr(language_model.model, "generate", small)
    other = dataclasses.replace(language_model, key="other")
    assert write(other, PROMPTS[:3], max_tokens=6, batch_tokens=1, wide_batch_tokens=10**6) == expected
    assert sizes == [3, 1, 1, 1]
    assert write(other, PROMPTS[:3], max_tokens=6, batch_tokens=1, wide_batch_tokens=10**6) == expected
    assert len(sizes) == 4, "they are kept, and read before wider ones are tried"


@pytest.fixture
def long_work(monkeypatch):
    """Makes every batch so long that it is written in halves, in a process of its own where there are several."""
    monkeypatch.setattr("ctd.reasoning.generate.LONG", 0)
    monkeypatch.setattr("ctd.hardware.seconds_to_read", lambda *_: 60.0)


@pytest.mark.parametrize("grammar", [False, True])
def test_texts_are_the_same_whatever_the_number_of_processes(
    language_model, own_cache, monkeypatch, long_work, grammar
):
    space = LabelSpace("tiny", ["a", "b", "c"], ["Calcium", "Liver", "Serum"], 3)
    lists = LabelLists(space, language_model.tokenizer) if grammar else None
    written = {}
    for workers in ("1", "2"):
        monkeypatch.setenv("CTD_WORKERS", workers)
        model = dataclasses.replace(language_model, key=workers)
        written[workers] = generate(model, PROMPTS, Sampling(20), Limits(200), lists)
    assert written["1"] == written["2"]
    if not grammar:
        for prompt, completion in zip(PROMPTS, written["2"], strict=True):
            tokens = alone(language_model, prompt, 20)
            end = tokens.index(language_model.tokenizer.eos_token_id) if completion.finished else None
            assert list(completion.ids) == tokens[:end]


def test_a_batch_that_lacks_is_written_in_the_same_halves(language_model, own_cache, batches, long_work, monkeypatch):
    monkeypatch.setenv("CTD_WORKERS", "1")
    batches.watch(language_model)
    unbroken = write(language_model, PROMPTS, max_tokens=6, batch_tokens=100)
    halves = [len(ids) for ids, *_ in batches]
    [whole] = (own_cache / "generations").iterdir()
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(halves) == len(lines) + 2 > 4  # the last two batches are halved
    whole.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    batches.clear()
    assert write(language_model, PROMPTS, max_tokens=6, batch_tokens=100) == unbroken
    assert [len(ids) for ids, *_ in batches] == halves[-4:-2]


def test_a_model_with_hooks_is_not_handed_to_another_process(language_model):
    assert generation._may_be_shared(language_model.model)
    hook = language_model.model.lm_head.register_forward_hook(lambda *_: None)
    assert not generation._may_be_shared(language_model.model)
    hook.remove()
    with attention.record(language_model.model):
        assert not generation._may_be_shared(language_model.model)


HYBRID = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": CONTEXT,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "changes"), [("Qwen3_5Text", HYBRID), ("Mamba", {"state_size": 4})])
def test_a_model_that_keeps_more_than_keys_and_values_writes_as_it_does_alone(kind, changes, own_cache):
    """The rows of a hybrid's cache cannot leave their batch: they stay until all have ended."""
    tokenizer = byte_level()
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, tie_word_embeddings=False, **changes,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.lm_head.weight.data *= 20
    language_model = LanguageModel("tiny", model, tokenizer, kind)
    together = write(language_model, PROMPTS[:3], max_tokens=40, stop=["e"])
    alone = [write(language_model, [prompt], max_tokens=40, stop=["e"])[0] for prompt in PROMPTS[:3]]
    assert [completion.text for completion in together] == [completion.text for completion in alone]
    assert all(completion.n_tokens for completion in together)


@pytest.mark.parametrize("rows", [1, 5])
def test_what_prompts_begin_with_is_read_once(language_model, monkeypatch, batches, rows):
    end_sometimes(language_model, 3.5)
    monkeypatch.setattr("ctd.reasoning.write_batch.PIECE", 3)
    prompts = ["Document: calcium of the liver and the serum calcium of the " + "liver " * n for n in range(rows)]
    n_shared = len(language_model.tokenizer(prompts[0])["input_ids"]) - 3
    expected = [alone(language_model, prompt, 20) for prompt in prompts]
    read = []
    language_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    completions = write(language_model, prompts, max_tokens=20)
    for tokens, completion in zip(expected, completions, strict=True):
        end = tokens.index(language_model.tokenizer.eos_token_id) if completion.finished else None
        assert list(completion.ids) == tokens[:end]
    if rows > 1:
        assert read[0] >= n_shared >= 16
        assert read[0] + read[1] < rows * n_shared
