"""Vectors are the library's own, only faster; the cache is resumable and never half-written."""

import os
import shutil

import numpy as np
import pytest

from ctd.cache import packaged_file
from ctd.retrieval import encoders
from tests.conftest import HashEncoder

TEXTS = ["Calcium/metabolism", "Liver", "How hard is it to shortlist?", "word " * 400, "Calcium/blood", "x"]


@pytest.fixture(scope="module")
def minilm():
    return encoders.load("minilm", dtype="float32")


def test_unpadded_batches_equal_the_library_own_encoding(minilm):
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(packaged_file("minilm_weights").parent), device="cpu")
    expected = library.encode(TEXTS, normalize_embeddings=True)
    assert np.allclose(minilm.vectors(TEXTS), expected, atol=1e-5)


def test_vectors_have_unit_norm_and_do_not_depend_on_their_batch(minilm):
    for encoder in (minilm, encoders.load("wordllama")):
        together = encoder.vectors(TEXTS)
        assert together.shape == (len(TEXTS), encoder.dim)
        assert together.dtype == np.float32
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        assert np.allclose(together, np.concatenate([encoder.vectors([text]) for text in TEXTS]), atol=1e-5)


def test_bfloat16_stays_within_the_stated_cosine(minilm):
    half = encoders.load("minilm", dtype="bfloat16")
    assert (half.vectors(TEXTS) * minilm.vectors(TEXTS)).sum(1).min() >= encoders.SAFE_COSINE["bfloat16"]
    assert half.key != minilm.key
    assert half.book_key == minilm.book_key != encoders.load("wordllama").book_key


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory):
    """The folder of a tiny encoder that is no BERT, with random weights."""
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    folder = tmp_path_factory.mktemp("distilbert")
    AutoTokenizer.from_pretrained(packaged_file("minilm_weights").parent).save_pretrained(folder)
    DistilBertModel(DistilBertConfig(dim=32, hidden_dim=64, n_layers=1, n_heads=2)).save_pretrained(folder)
    return str(folder)


def test_int8_is_for_a_bert_and_other_models_do_without(distilbert, monkeypatch):
    monkeypatch.setattr("ctd.hardware.int8_is_fast", lambda device: True)
    encoder = encoders.load(distilbert)
    assert encoder.rough() is encoder
    with pytest.raises(ValueError, match="int8 needs a BERT encoder on cpu, got a DistilBertModel on cpu"):
        encoders.load(distilbert, dtype="int8")


@pytest.mark.parametrize(("cosine", "dtype"), [(0.99, "bfloat16"), (1.1, "float32")])
def test_auto_takes_bfloat16_only_where_its_vectors_are_near(minilm, monkeypatch, cosine, dtype):
    monkeypatch.setattr("ctd.hardware.dtype", lambda device: "bfloat16")
    monkeypatch.setattr(encoders, "SAFE_COSINE", {"bfloat16": cosine})
    chosen = encoders.load("minilm")
    assert chosen.dtype == dtype
    assert (chosen.key == minilm.key) is (dtype == "float32")
    assert np.array_equal(chosen.vectors(TEXTS), minilm.vectors(TEXTS)) is (dtype == "float32")


@pytest.mark.parametrize(("cosine", "dtype"), [(0.99, "int8"), (1.1, "auto")])
def test_very_many_labels_are_embedded_in_int8_where_that_is_near(space, own_cache, monkeypatch, cosine, dtype):
    monkeypatch.setattr("ctd.hardware.int8_is_fast", lambda device: True)
    encoder, expected = encoders.load("minilm"), encoders.load("minilm", dtype)
    monkeypatch.setattr(encoders, "SAFE_COSINE", {"int8": cosine})
    labels = space.texts[: len(space)]
    assert np.array_equal(encoders.encode_labels(encoder, space), encoder.vectors(labels))
    few = encoders.labels_key(encoder, space)
    monkeypatch.setattr(encoders, "MANY", len(space))
    assert np.array_equal(encoders.encode_labels(encoder, space), expected.vectors(labels))
    assert encoders.labels_key(encoder, space) != few


def test_a_dtype_that_somebody_set_holds_for_all_labels(monkeypatch):
    monkeypatch.setenv("CTD_DTYPE", "float32")
    for encoder in (encoders.load("minilm"), encoders.load("wordllama")):
        assert encoder.rough() is encoder


def test_a_folder_is_as_good_as_a_name(minilm):
    folder = encoders.load(str(packaged_file("minilm_weights").parent), dtype="float32")
    assert folder.key == minilm.key


def test_settings_beside_the_weights_are_part_of_the_key_and_notes_are_not(minilm, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(packaged_file("minilm_weights").parent, folder, copy_function=os.symlink)
    for name, same in (("README.md", True), ("1_Pooling/config.json", False)):
        text = (folder / name).read_text()
        (folder / name).unlink()
        (folder / name).write_text(f"{text}\n")
        other = encoders.load(str(folder), dtype="float32")
        assert (other.key == minilm.key) is same
        assert other.book_key == minilm.book_key


def test_unusable_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no model weights \(\*.safetensors"):
        encoders.load(str(tmp_path))
    with pytest.raises(ValueError, match="dtype must be auto, float32, bfloat16 or int8, got 'int4'"):
        encoders.load(dtype="int4")
    with pytest.raises(FileNotFoundError, match="no sentence-transformers model 'no/such-model'") as caught:
        encoders.load("no/such-model")
    assert "\n" not in str(caught.value)


def test_the_second_call_reads_the_cache(encoder, own_cache):
    first = encoders.encode(encoder, TEXTS)
    calls = encoder.calls
    assert np.array_equal(encoders.encode(encoder, TEXTS), first)
    assert encoder.calls == calls
    assert np.array_equal(first, encoder.vectors(TEXTS))
    encoders.encode(encoder, TEXTS[::-1])
    assert encoder.calls > calls + 1, "the order of the texts is part of the key"


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_an_encoder_is_given_as_many_texts_as_it_asks_for(own_cache, at_once):
    encoder, sizes = HashEncoder(at_once=at_once), []
    vectors, whole = encoder.vectors, encoder.vectors(TEXTS)
    encoder.vectors = lambda part: sizes.append(len(part)) or vectors(part)
    assert np.array_equal(encoders.encode(encoder, TEXTS), whole)
    assert sum(sizes) == len(TEXTS)
    assert sizes[0] == min(at_once, len(TEXTS))


def test_vectors_do_not_depend_on_the_number_of_workers(own_cache, monkeypatch):
    monkeypatch.setattr("ctd.workers.work.STARTING", 0)
    encoder, texts = encoders.load("minilm", "int8"), [f"heading {number}/blood" for number in range(300)]
    encoder.at_once = 64
    whole = {}
    for workers in ("1", "2"):
        monkeypatch.setenv("CTD_WORKERS", workers)
        monkeypatch.setenv("CTD_CACHE", str(own_cache / workers))
        whole[workers] = np.array(encoders.encode(encoder, texts))
    assert np.array_equal(whole["1"], whole["2"])
    assert np.array_equal(whole["1"], encoder.vectors(texts))


@pytest.mark.parametrize("batch_tokens", [1, 8, 1_000])
def test_batches_hold_every_text_once_and_no_padding(batch_tokens):
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    together = [rows.tolist() for rows in encoders._batches(lengths, batch_tokens)]
    assert sorted(row for rows in together for row in rows) == [*range(len(lengths))]
    for rows in together:
        assert len({lengths[row] for row in rows}) == 1
        assert len(rows) == 1 or len(rows) * lengths[rows[0]] <= batch_tokens


def test_a_killed_encoding_goes_on_after_its_last_shard(encoder, own_cache, monkeypatch):
    monkeypatch.setattr("ctd.retrieval.shards.SIZE", 16)
    texts = [f"heading {i}" for i in range(40)]
    whole, vectors = encoder.vectors(texts), encoder.vectors

    def killed(part):
        if part[0] == "heading 32":
            raise KeyboardInterrupt
        return vectors(part)

    monkeypatch.setattr(encoder, "vectors", killed)
    with pytest.raises(KeyboardInterrupt):
        encoders.encode(encoder, texts)
    assert sorted(path.suffix for path in own_cache.rglob("*.npy")) == [".npy", ".npy"]
    seen = []
    monkeypatch.setattr(encoder, "vectors", lambda part: seen.extend(part) or vectors(part))
    assert np.array_equal(encoders.encode(encoder, texts), whole)
    assert seen == texts[32:]
    assert [path.name for path in own_cache.rglob("*.shards")] == []


def test_a_full_disk_leaves_nothing_that_could_be_read(encoder, own_cache, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", no_space)
        with pytest.raises(OSError, match="No space left on device.*set CTD_CACHE"):
            encoders.encode(encoder, TEXTS)
    assert [
        path for path in own_cache.rglob("*") if path.is_file() and path.parent.name not in ("in-use", "locks")
    ] == []
    assert encoders.encode(encoder, TEXTS).shape == (len(TEXTS), encoder.dim)


def test_there_must_be_something_to_read(encoder, own_cache):
    with pytest.raises(ValueError, match="text 1 of 2 is empty"):
        encoders.encode(encoder, ["a", "  "])
    with pytest.raises(ValueError, match="no texts to encode"):
        encoders.encode(encoder, [])
