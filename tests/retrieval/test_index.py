"""Dense and lexical shortlists against brute force, grounding, and the saved form."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import faiss
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace
from ctd.keys import fingerprint
from ctd.retrieval.index import KINDS, Grounding, LabelIndex
from ctd.retrieval.lexical import LexicalIndex
from ctd.text import normalise
from tests.conftest import HashEncoder

WORDS = ["calcium", "liver", "heart", "blood", "metabolism", "drug", "left", "right", "acute", "chronic", "cell"]


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, 4)) + f" {i % 97}" for i in range(600)))
    return LabelSpace("made", [f"L{i}" for i in range(len(texts))], texts, len(texts))


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_brute_force(labels, kind, encoder, own_cache):
    index = LabelIndex.build(labels, encoder, kind)
    scores, neighbours = index.search(labels.texts[:50], 10)
    exact = encoder.vectors(labels.texts[:50]) @ encoder.vectors(labels.texts).T
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(neighbours, expected, strict=True)])
    assert overlap > (0.99 if kind == "flat" else 0.7)
    if kind == "flat":
        assert np.allclose(scores, np.take_along_axis(exact, neighbours, 1), atol=1e-5)
        assert np.allclose(index.vectors(np.array([3, 5])), encoder.vectors([labels.texts[3], labels.texts[5]]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_answers_alike(labels, kind, encoder, own_cache, tmp_path):
    index = LabelIndex.build(labels, encoder, kind)
    index.save(tmp_path / "index")
    loaded = LabelIndex.load(tmp_path / "index", encoder)
    assert np.array_equal(index.search(["acute liver"], 20)[1], loaded.search(["acute liver"], 20)[1])
    assert loaded.space.texts == labels.texts
    assert (loaded.key, loaded.seed) == (index.key, index.seed)
    with pytest.raises(ValueError, match="weights or dtype differ"):
        LabelIndex.load(tmp_path / "index", HashEncoder(8))
    with pytest.raises(FileNotFoundError, match="holds no label index"):
        LabelIndex.load(tmp_path / "nowhere", encoder)


def test_exact_search_is_that_of_faiss_on_a_file_that_other_processes_map_too(labels, encoder, own_cache):
    index = LabelIndex.build(labels, encoder)
    copied = faiss.IndexFlatIP(encoder.dim)
    copied.add(np.array(index.index.vectors))
    other = pickle.loads(pickle.dumps(index.index))
    assert isinstance(index.index.vectors, np.memmap)
    assert other.vectors.filename == index.index.vectors.filename
    for n_queries in (1, 50):
        queries = encoder.vectors(labels.texts[:n_queries])
        for result in (index.index.search(queries, 10), other.search(queries, 10)):
            assert all(np.array_equal(*pair) for pair in zip(result, copied.search(queries, 10), strict=True))


def test_a_loaded_index_keeps_the_key_that_it_was_built_with(space, encoder, own_cache, tmp_path, monkeypatch):
    index = LabelIndex.build(space, encoder, seed=3)
    index.save(tmp_path / "index")
    monkeypatch.setattr("faiss.__version__", "another")
    loaded = LabelIndex.load(tmp_path / "index", encoder)
    assert (loaded.key, loaded.seed) == (index.key, 3)
    assert LabelIndex.build(space, encoder, seed=3).key != index.key
    (tmp_path / "index" / "index.json").write_text(json.dumps({"encoder": "hash", "encoder_key": encoder.key}))
    with pytest.raises(ValueError, match="lacks the index's key: build the index anew"):
        LabelIndex.load(tmp_path / "index", encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_an_index_names_its_file_and_changes_with_all_it_is_built_from(labels, kind, encoder, own_cache):
    index = LabelIndex.build(labels, encoder, kind)
    if kind != "flat":
        assert [path.stem for path in (own_cache / "indexes").iterdir()] == [index.key]
    other_texts = replace(labels, texts=[f"{text} again" for text in labels.texts])
    other_kind = KINDS[KINDS.index(kind) - 1]
    others = [
        LabelIndex.build(labels, encoder, kind, seed=1),
        LabelIndex.build(labels, encoder, other_kind),
        LabelIndex.build(labels, HashEncoder(16), kind),
        LabelIndex.build(other_texts, encoder, kind),
        replace(index, encoder=HashEncoder(16)),
    ]
    assert index.key not in {other.key for other in others}
    assert LabelIndex.build(labels, encoder, kind).key == index.key
    assert fingerprint(index) not in {fingerprint(other) for other in others}


def test_the_key_of_an_index_is_computed_once(space, encoder, own_cache, monkeypatch):
    index = LabelIndex.build(space, encoder)
    first = fingerprint(index)
    monkeypatch.setattr("ctd.retrieval.encoders.labels_key", None)
    assert fingerprint(index) == first


def test_excluded_pairs_are_never_returned(labels, encoder, own_cache):
    queries = labels.texts[:3]
    barred = csr_matrix(([True] * 3, ([0, 0, 2], [0, 1, 2])), shape=(3, len(labels)))
    for retriever in (LabelIndex.build(labels, encoder), LexicalIndex(labels)):
        free, bound = retriever.search(queries, 12)[1], retriever.search(queries, 10, barred)[1]
        assert [label for label in free[0] if label not in (0, 1)][:10] == bound[0].tolist()
        assert free[1, :10].tolist() == bound[1].tolist()
        assert 2 not in bound[2]
        with pytest.raises(ValueError, match=r"exclude must have shape \(1, "):
            retriever.search(queries[:1], 10, barred)


def test_where_exclusions_leave_too_few_rows_end_in_none(space, encoder, own_cache):
    everything = csr_matrix(np.array([[True] * 6 + [False]]))
    scores, labels = LabelIndex.build(space, encoder).search(["liver"], 3, everything)
    assert labels.tolist() == [[6, -1, -1]]
    assert np.isneginf(scores[0, 1:]).all()


def test_k_is_bounded_by_the_label_space(space, encoder, own_cache):
    for retriever in (LabelIndex.build(space, encoder), LexicalIndex(space)):
        assert retriever.search(["liver"], 7)[1].shape == (1, 7)
        for k in (0, 8):
            with pytest.raises(ValueError, match=rf"k must be between 1 and 7 \(labels in 'tiny'\), got {k}"):
                retriever.search(["liver"], k)


def test_an_unknown_kind_and_too_few_labels_are_refused(space, encoder, own_cache):
    with pytest.raises(ValueError, match="kind must be one of flat, hnsw, ivfpq, fastscan, got 'annoy'"):
        LabelIndex.build(space, encoder, "annoy")
    with pytest.raises(ValueError, match="trains on at least 256 labels; 'tiny' has 7"):
        LabelIndex.build(space, encoder, "ivfpq")
    with pytest.raises(ValueError, match="'fastscan' trains on at least 256 labels; 'tiny' has 7: use 'flat'"):
        LabelIndex.build(space, encoder, "fastscan")


def test_a_scan_of_codes_finds_what_an_exact_search_finds(labels, encoder, own_cache):
    exact, scan = (LabelIndex.build(labels, encoder, kind) for kind in ("flat", "fastscan"))
    assert isinstance(scan.index.vectors, np.memmap)
    queries = [f"{text} of the left heart" for text in labels.texts[::20]]
    (expected_scores, expected), (scores, nearest) = exact.search(queries, 20), scan.search(queries, 20)
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(nearest, expected, strict=True)]) > 0.95
    assert np.allclose(scores[:, 0], expected_scores[:, 0], atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_labels_come_and_go_without_a_new_index(labels, encoder, own_cache, tmp_path, monkeypatch):
    scan = LabelIndex.build(labels, encoder, "fastscan")
    n, first = len(labels), labels.texts[0]
    nearest = scan.search([first], 5)[1][0].tolist()
    monkeypatch.setattr("ctd.retrieval.fast_scan.coded", None)
    changed = scan.changed(["new"], ["bone marrow 5"], nearest[:3])
    assert changed.search(["bone marrow 5"], 1)[1].tolist() == [[n]]
    assert changed.search([first], 2)[1][0].tolist() == nearest[3:5]
    assert not set(nearest[:3]) & set(changed.search([first], n + 1)[1][0].tolist())
    assert changed.ground(["Bone-marrow 5"]) == [Grounding(n, 1.0, "normalised")]
    assert changed.ground([first])[0].label == nearest[3]
    assert np.allclose(changed.vectors([n, 2]), encoder.vectors(["bone marrow 5", labels.texts[2]]))
    assert len({scan.key, changed.key, scan.changed(removed=nearest[:3]).key, scan.changed(removed=[1]).key}) == 4
    changed.save(tmp_path / "index")
    loaded = LabelIndex.load(tmp_path / "index", encoder)
    assert loaded.search([first], 5)[1].tolist() == changed.search([first], 5)[1].tolist()
    assert (loaded.key, len(loaded.space)) == (changed.key, n + 1)
    assert scan.search([first], 5)[1][0].tolist() == nearest


def test_changes_that_an_index_cannot_take_are_refused(labels, encoder, own_cache):
    with pytest.raises(ValueError, match="only a 'fastscan' index without a tree takes changes, got kind 'flat'"):
        LabelIndex.build(labels, encoder).changed(removed=[0])
    scan = LabelIndex.build(labels, encoder, "fastscan")
    with pytest.raises(ValueError, match="labels of 'made' run from 0 to"):
        scan.changed(removed=[len(labels)])
    with pytest.raises(ValueError, match="has the id 'L0' more than once"):
        scan.changed(["L0"], ["again"])


def test_size_chooses_the_kind_where_it_is_left_open(labels, encoder, own_cache, monkeypatch):
    assert LabelIndex.build(labels, encoder, "auto").kind == "flat"
    monkeypatch.setattr("ctd.retrieval.index.EXACT_TO", 300)
    assert LabelIndex.build(labels, encoder, "auto").kind == "fastscan"


def test_text_is_grounded_exactly_then_normalised_then_nearest(space, encoder, own_cache):
    index = LabelIndex.build(space, encoder)
    exact, normal, near = index.ground(["Calcium/blood", "calcium - BLOOD", "blood calcium level"])
    assert exact == Grounding(2, 1.0, "exact")
    assert normal == Grounding(2, 1.0, "normalised")
    assert (near.label, near.how) == (2, "nearest")
    assert near.score == pytest.approx(float((encoder.vectors(["blood calcium level"]) @ index.vectors([2]).T)[0, 0]))
    assert normalise("Ａ  b—c") == "a b c"
    with pytest.raises(ValueError, match="text 1 of 2 is empty"):
        index.ground(["a", ""])


def test_bm25_is_the_library_own_ranking(labels):
    import bm25s
    import Stemmer

    stemmer, query = Stemmer.Stemmer("english"), "acute calcium in the liver cell"
    library = bm25s.BM25()
    library.index(bm25s.tokenize(labels.texts, stopwords="en", stemmer=stemmer, show_progress=False))
    tokens = bm25s.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
    expected = np.asarray(library.get_scores(tokens[0]))
    scores, ranked = LexicalIndex(labels).search([query], 25)
    assert np.allclose(scores[0], np.sort(expected)[::-1][:25])
    assert np.allclose(expected[ranked[0]], scores[0])
    assert ranked[0].tolist() == sorted(ranked[0], key=lambda label: (-expected[label], label))


def test_students_do_not_import_bm25_which_may_set_memory_aside_for_jax():
    code = "import sys, ctd.distill.pool; print('bm25s' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "False\n"


@pytest.mark.parametrize("setting", ["", "true"])
def test_where_jax_is_installed_bm25_has_it_set_no_memory_aside_unless_told_otherwise(space, monkeypatch, setting):
    if setting:
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", setting)
    else:
        monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    LexicalIndex(space)
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == (setting or "false")


def test_bm25_returns_only_labels_that_share_a_word(space):
    ranked = LexicalIndex(space).search(["the liver", "zebra", "the"], 7)[1]
    assert set(ranked[0][ranked[0] >= 0]) == {3, 4}
    assert (ranked[1:] == -1).all()
