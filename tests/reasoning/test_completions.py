"""Texts that come with the book are read where their digest is asked for, and nowhere else."""

import json
import lzma
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctd.cache import DATA, cache_dir
from ctd.data import readers
from ctd.reasoning import completions, predict, prompts, teachers, traces
from ctd.reasoning.completions import BatchStore, Completion
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.sampling import Sampling
from ctd.recipes import natural_table
from ctd.recipes.natural_table import MODEL

KEY = "0123456789abcdef" * 4
BATCHES = [[2, 0], [1]]
WRITTEN = [Completion(f"a{row}", True, 2, ((0, 1), (1, 2)), (-0.5, -row / 3)) for row in range(3)]


@pytest.fixture
def book(own_cache, monkeypatch, tmp_path):
    """The folder of the book's texts: empty; the user's cache is empty too."""
    monkeypatch.setattr(completions, "DATA", tmp_path / "data")
    monkeypatch.delenv("CTD_TEXTS", raising=False)
    return tmp_path / "data" / "texts"


@pytest.fixture
def use(monkeypatch):
    return lambda way: monkeypatch.setenv("CTD_TEXTS", way)


def write(key=KEY, missing=(0, 1)):
    store = BatchStore(key, BATCHES)
    assert store.missing == list(missing)
    for number in store.missing:
        store.add(number, [WRITTEN[row] for row in BATCHES[number]])
    store.close("reasoning")
    assert store.completions() == WRITTEN
    return store


def forget():
    for file in cache_dir("generations").iterdir():
        file.unlink()


def test_what_is_kept_beside_the_book_is_read_to_the_letter_and_declared(book, use):
    use("keep")
    write()
    write(missing=())  # from the cache
    [file] = book.glob("*.xz")
    declared = json.loads((book / "manifest.json").read_text())
    assert list(declared) == [file.name]
    entry = declared[file.name]
    assert (entry["what"], entry["documents"], entry["tokens"]) == ("reasoning", 3, 6)
    assert "CPU threads" in entry["hardware"]
    forget()
    use("read")
    store = BatchStore(KEY, BATCHES)
    assert store.missing == []
    assert store.completions() == WRITTEN
    store.close("reasoning")
    assert not list(cache_dir("generations").iterdir())


def test_texts_of_several_calls_are_declared_side_by_side(book, use):
    use("keep")
    write()
    write("f" * 64)
    assert len(json.loads((book / "manifest.json").read_text())) == len(list(book.glob("*.xz"))) == 2


def test_texts_are_kept_beside_the_book_only_where_that_is_asked_for(book):
    write()
    assert not book.exists()


def test_another_digest_is_written_anew(book, use):
    use("keep")
    write()
    forget()
    use("read")
    write("f" * 64)


def test_the_book_has_texts_under_a_key_of_its_own_which_another_precision_reads_too(book, use):
    use("keep")
    store = BatchStore("e" * 64, BATCHES, KEY)
    for number in store.missing:
        store.add(number, [WRITTEN[row] for row in BATCHES[number]])
    store.close("reasoning", "float32")
    [file] = book.glob("*.xz")
    assert file.name == f"{KEY[:32]}.jsonl.xz"
    assert json.loads((book / "manifest.json").read_text())[file.name]["precision"] == "float32"
    forget()
    use("read")
    store = BatchStore("f" * 64, BATCHES, KEY)
    assert store.missing == []
    assert store.completions() == WRITTEN


def test_the_books_texts_can_be_ignored_and_written_over(book, use):
    use("keep")
    write()
    forget()
    use("ignore")
    write()
    forget()
    use("keep")
    write()


def test_the_cache_is_heeded_first(book, use):
    use("keep")
    write()
    use("read")
    [file] = book.glob("*.xz")
    file.write_bytes(b"spoilt")
    write(missing=())


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"no xz", lambda raw: b""])
def test_a_damaged_file_of_the_book_is_named_with_what_mends_it(damage, book, use):
    use("keep")
    write()
    forget()
    use("read")
    [file] = book.glob("*.xz")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"data/texts/{file.name} is damaged: restore it \(git checkout data/texts\)"):
        BatchStore(KEY, BATCHES)


def test_lines_of_other_batches_in_the_book_are_not_taken(book, use):
    use("keep")
    write()
    forget()
    use("read")
    [file] = book.glob("*.xz")
    lines = lzma.decompress(file.read_bytes()).splitlines()
    file.write_bytes(lzma.compress(b"\n".join([lines[0].replace(b'"batch":0', b'"batch":7'), lines[1]])))
    write(missing=[0])


def test_an_unknown_way_with_the_texts_is_refused(book, use):
    use("sometimes")
    with pytest.raises(ValueError, match="CTD_TEXTS must be one of read, ignore, keep, got 'sometimes'"):
        BatchStore(KEY, BATCHES)


def test_the_books_texts_are_all_there_and_declared():
    declared = json.loads((DATA / "texts" / "manifest.json").read_text())
    assert set(declared) == {file.name for file in (DATA / "texts").glob("*.xz")}
    assert len(declared) >= 7  # a trace, three other modes, three shortlists to refine
    thought = [entry["documents"] for entry in declared.values() if entry["what"] == f"{MODEL}, thinking"]
    assert set(thought) == {16}  # asked in groups
    assert sum(thought) == next(row.value for row in natural_table.read() if row.measure == "documents")
    for name, entry in declared.items():
        lines = lzma.decompress((DATA / "texts" / name).read_bytes()).splitlines()
        written = [completion for line in lines for completion in json.loads(line)["completions"]]
        assert len(written) == entry["documents"]
        assert len(written) == 200 or entry["what"].startswith(MODEL)
        assert sum(completion["n_tokens"] for completion in written) == entry["tokens"]


@torch.inference_mode()
def test_the_books_texts_are_what_the_teacher_itself_would_write(monkeypatch, tmp_path):
    """Read without writing, for the default profile's documents; each token is the likeliest, as sure as was noted."""
    monkeypatch.delenv("CTD_TEXTS", raising=False)
    task = readers.load("mesh").sample("test", 200, 0)
    teacher = teachers.load("smollm2-mesh")
    monkeypatch.setenv("CTD_CACHE", str(tmp_path))  # from here on, so that task and model are not made anew
    tokenizer, model = teacher.language_model.tokenizer, teacher.language_model.model
    documents = [prompts.cut(text, tokenizer, teacher.document_tokens) for text in task.documents["test"]["text"]]
    prompt_texts = [prompts.plain(document) + traces.ANSWER for document in documents]
    monkeypatch.setattr(model, "generate", None)  # nothing is to be written
    lists = SimpleNamespace(key=LabelLists(task.space, tokenizer).key)
    texts = generate(teacher.language_model, prompt_texts, Sampling(512), Limits(predict.BATCH_TOKENS), lists, "answer")
    assert not list(cache_dir("generations").iterdir())
    shortest = sorted(range(200), key=lambda row: texts[row].n_tokens)[:3]
    for row in shortest:
        ids = tokenizer(prompt_texts[row] + texts[row].text, add_special_tokens=False)["input_ids"]
        n = texts[row].n_tokens
        logs = model(input_ids=torch.tensor([ids])).logits[0, -n - 1 : -1].float().log_softmax(-1)
        again = logs.gather(1, torch.tensor(ids[-n:])[:, None])[:, 0].numpy()
        assert np.abs(again - np.array(texts[row].logprobs)).mean() < 0.1


def test_some_of_the_books_texts_are_written_anew_as_they_are(monkeypatch, tmp_path):
    """The organism's, in float32: the same on every processor, but for the last bits of its log-probabilities."""
    monkeypatch.delenv("CTD_TEXTS", raising=False)
    task, teacher = readers.load("organism").sample("test", 200, 0), teachers.load("organism")
    model, tokenizer = teacher.language_model.model, teacher.language_model.tokenizer
    documents = [prompts.cut(text, tokenizer, teacher.document_tokens) for text in task.documents["test"]["text"]]
    prompt_texts = [prompts.plain(document) + traces.OPEN for document in documents]
    write = partial(generate, teacher.language_model, sampling=Sampling(512), lists=LabelLists(task.space, tokenizer))
    monkeypatch.setenv("CTD_CACHE", str(tmp_path))
    with monkeypatch.context() as reading:
        reading.setattr(model, "generate", None)  # nothing is to be written
        shipped = write(prompt_texts, limits=Limits(predict.BATCH_TOKENS))
    rows = sorted(range(200), key=lambda row: shipped[row].n_tokens)[:2]
    monkeypatch.setenv("CTD_TEXTS", "ignore")
    for row, completion in zip(rows, write([prompt_texts[row] for row in rows]), strict=True):
        assert completion.text == shipped[row].text
        assert (completion.finished, completion.offsets) == (shipped[row].finished, shipped[row].offsets)
        np.testing.assert_allclose(completion.logprobs, shipped[row].logprobs, atol=1e-3)
