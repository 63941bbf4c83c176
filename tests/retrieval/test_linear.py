"""The ranking without a language model: against napkinxc's tree, its two parts alone, and a label never trained on."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from napkinxc.models import PLT
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace
from ctd.data.task import COLUMNS, Card, Task
from ctd.retrieval import linear, metrics, shortlists
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.linear import LinearRanker, WithoutLanguageModel

N_LABELS, WORDS = 30, 120


def documents(n, seed):
    """Documents of two labels each, whose words are half those of their labels and half anything."""
    rng, rows = np.random.default_rng(seed), []
    for row in range(n):
        labels = sorted(rng.choice(N_LABELS - 1, 2, replace=False).tolist())
        label_words = [f"word{(label * 4 + step) % WORDS}" for label in labels for step in rng.integers(0, 4, 3)]
        words = [*label_words, *(f"word{word}" for word in rng.integers(0, WORDS, 6))]
        rows.append({"uid": f"{seed}-{row}", "text": " ".join(words), "labels": labels})
    return Dataset.from_list(rows, features=COLUMNS)


@pytest.fixture(scope="module")
def task():
    texts = [" ".join(f"word{(label * 4 + step) % WORDS}" for step in range(4)) for label in range(N_LABELS)]
    space = LabelSpace("words", [str(label) for label in range(N_LABELS)], texts, N_LABELS)
    splits = {"train": documents(240, 0), "validation": documents(40, 1), "test": documents(1000, 2)}
    return Task(DatasetDict(splits), space, Card("words", "none", "the test", "drawn"))


@pytest.fixture(scope="module")
def ranker(task):
    return LinearRanker(
        list(task.documents["train"]["text"]), task.gold("train"), task.space, 10.0
    )  # as liblinear in PLT


def test_it_is_at_least_as_good_as_a_label_tree_on_the_same_features(task, ranker, tmp_path):
    tfidf = linear.vectorizer()
    train = tfidf.fit_transform(task.documents["train"]["text"])
    tree_lists = []
    for seed in range(6):  # a tree is drawn: one alone is ahead or behind by a document
        tree = PLT(str(tmp_path / str(seed)), threads=1, verbose=False, seed=seed)
        tree.fit(train, [row.indices.tolist() for row in task.gold("train")])
        tree_lists.append(
            np.array(tree.predict(tfidf.transform(task.documents["test"]["text"]), top_k=5), dtype=np.int64)
        )
    ours = shortlists.retrieve(ranker, task, "test", 5)
    for k in (1, 3, 5):
        trees = np.mean([metrics.precision_at_k(predicted, task.gold("test"), k) for predicted in tree_lists])
        assert metrics.precision_at_k(ours, task.gold("test"), k) >= trees > 0.1, f"P@{k}"


def test_labels_without_a_training_document_are_left_to_the_dense_index(task, ranker, encoder, own_cache):
    unseen = N_LABELS - 1
    assert unseen not in ranker.seen
    merged = WithoutLanguageModel(ranker, LabelIndex.build(task.space, encoder))
    query = [task.space.texts[unseen]]
    assert unseen not in ranker.search(query, 10)[1]
    assert unseen in merged.search(query, 10)[1]
    scores, labels = ranker.search(query, N_LABELS)
    assert (labels[0, len(ranker.seen) :] == -1).all()
    assert np.isneginf(scores[0, len(ranker.seen) :]).all()


def test_the_weight_of_the_cosine_goes_from_one_ranking_to_the_other(task, ranker, encoder, own_cache):
    index, texts = LabelIndex.build(task.space, encoder), list(task.documents["test"]["text"])[:20]
    alone, dense = ranker.search(texts, 3)[1], index.search(texts, 3)[1]
    assert (WithoutLanguageModel(ranker, index, 0.0).search(texts, 3)[1] == alone).all()
    assert (WithoutLanguageModel(ranker, index, 1e6).search(texts, 3)[1][:, 0] == dense[:, 0]).all()


def test_the_weight_is_the_best_on_validation_documents(task, encoder, own_cache):
    index = LabelIndex.build(task.space, encoder)
    chosen = WithoutLanguageModel.fit(task, index)
    texts, gold = list(task.documents["validation"]["text"]), task.gold("validation")
    reached = [
        metrics.ndcg_at_k(WithoutLanguageModel(chosen.linear, index, weight).search(texts, 5)[1], gold, 5)
        for weight in linear.COSINE_WEIGHTS
    ]
    assert chosen.cosine_weight == linear.COSINE_WEIGHTS[int(np.argmax(reached))]


def test_excluded_pairs_are_never_returned(task, ranker, encoder, own_cache):
    merged, text = WithoutLanguageModel(ranker, LabelIndex.build(task.space, encoder)), "word0 word1 word2"
    best = int(merged.search([text], 1)[1][0, 0])
    barred = csr_matrix(([True], ([0], [best])), shape=(1, N_LABELS))
    assert best not in merged.search([text], 5, barred)[1]
    assert best not in ranker.search([text], 5, barred)[1]


def test_a_label_of_every_document_is_certain_and_training_needs_labels(task):
    space = task.space
    always = csr_matrix((np.ones(3, bool), ([0, 1, 2], [4, 4, 4])), shape=(3, N_LABELS))
    ranker = LinearRanker(["a b", "b c", "c d"], always, space)
    assert ranker.search(["a"], 1)[1].tolist() == [[4]]
    assert ranker.search(["a"], 1)[0][0, 0] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="needs training documents with labels"):
        LinearRanker(["a"], csr_matrix((1, N_LABELS), dtype=bool), space)
