"""The model that nobody here trained: its documents, what its answers are worth, and the table of the page."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from scipy.sparse import csr_matrix
from sklearn.metrics import ndcg_score

from ctd.book import looks, natural_page
from ctd.book.claims import CLAIMS
from ctd.book.ledger import LedgerRow
from ctd.book.verdicts import Estimate, Verdict
from ctd.cache import DATA
from ctd.reasoning import free_text, natural, predict, rank_answers
from ctd.reasoning.free_text import ShownLabels
from ctd.recipes import natural_reasoner as recipe
from ctd.recipes.natural_table import AT_ONCE, RANDOM, RETRIEVER, TABLE, THINKING, Row, read, write
from ctd.retrieval.index import LabelIndex

TRACE = predict.Request()
TEXT = "Liver? It matches. Calcium is not mentioned.\n\nLabels:\n- {}\n"


@pytest.fixture
def index(space, encoder, own_cache):
    return LabelIndex.build(space, encoder)


@pytest.fixture
def model_calls(monkeypatch, task):
    """Stands in for the model: it answers each document with a label that the document's number decides."""
    note = []

    def reason(teacher, documents, index, request=TRACE, *, uids, max_tokens, seed, desc):
        note.append((request.mode, list(uids), seed))
        texts = [TEXT.format(index.space.texts[len(text) % len(index.space)]) for text in documents]
        shown = ShownLabels(index.space, range(len(index.space)), lambda text: 0)
        read = [free_text.read(text, shown) for text in texts]
        return [
            rank_answers.Prediction(trace, answer.labels, answer.labels, 9, True, 1, 1, forced=False)
            for trace, answer in read
        ]

    monkeypatch.setattr(predict, "reason", reason)
    return note


@pytest.fixture
def many(task):
    """The tiny task with seven test documents."""
    labels = [[1 + row % 6] for row in range(7)]
    rows = {
        "uid": [f"u{row}" for row in range(7)],
        "text": ["Liver " + "x" * row for row in range(7)],
        "labels": labels,
    }
    documents = task.documents
    documents["test"] = Dataset.from_dict(rows)
    return task


def test_the_documents_of_a_shorter_run_are_the_first_of_a_longer_one_and_groups_have_orders_of_their_own(
    model_calls, many, index, monkeypatch
):
    monkeypatch.setattr(natural, "GROUP", 2)
    short, long = (recipe.ask(None, many, index, n) for n in (2, 6))
    (_, few, _), _, (_, more, _), (_, same, _) = model_calls
    assert [(mode, seed) for mode, _, seed in model_calls] == [("answer", 0), ("trace", 0)] * 2
    assert more[:2] == few
    assert same == more
    assert len(set(more)) == 6
    assert long.prompts[:2] == short.prompts
    assert long.prompts[::2] == long.prompts[1::2]
    assert [long.prompts[2 * group] for group in range(3)] == [
        natural.shown([""], index, seed=group)[0] for group in range(3)
    ]


def test_a_ranking_is_worth_what_scikit_learn_says():
    rng = np.random.default_rng(0)
    gold = csr_matrix(rng.random((30, 9)) < 0.2)
    ranking = np.array([rng.permutation(9) for _ in range(30)])
    lengths = rng.integers(0, 4, 30).tolist()
    worth = recipe.worth(ranking, lengths, gold)
    scores = np.zeros((30, 9))
    np.put_along_axis(scores, ranking, np.arange(9, 0, -1)[None], 1)
    some = np.flatnonzero(np.asarray(gold.sum(1)).ravel())
    expected = [ndcg_score(gold[[row]].toarray(), scores[[row]], k=5) for row in some]
    np.testing.assert_allclose(worth["nDCG@5"][some], expected)
    for row, length in enumerate(lengths):
        true = set(gold[row].indices.tolist())
        assert worth["exact match"][row] == (set(ranking[row][:length].tolist()) == true)
        if true:
            assert worth["recall@5"][row] == len(true & set(ranking[row][:5].tolist())) / len(true)


def test_the_table_is_read_as_it_was_written_and_a_random_order_has_its_expected_recall(
    model_calls, many, index, tmp_path
):
    answers = recipe.ask(None, many, index, 6)
    rows = recipe.table(answers, index)
    write(rows, tmp_path / "table.csv")
    for written, row in zip(read(tmp_path / "table.csv"), rows, strict=True):
        assert written[:3] == row[:3]
        np.testing.assert_allclose(written[3:], row[3:], rtol=1e-5)
    by = {row[:3]: row for row in rows}
    assert by["score", RANDOM, "recall@5"].value == pytest.approx(5 / len(index.space), abs=0.05)
    less = by["less", RETRIEVER, "nDCG@5"].value
    assert less == pytest.approx(by["score", THINKING, "nDCG@5"].value - by["score", RETRIEVER, "nDCG@5"].value)
    assert by["less", AT_ONCE, "exact match"][3:] == (0, 0, 0)
    assert by["text", "", "sentences that judge one label"].value == 1
    assert by["text", "", "answer forced"].value == 0
    page = natural_page.findings(tmp_path / "table.csv")
    assert "not distinguishable from its own answer at once" in page
    assert "On 6 generated" in page
    assert "and 1.00 [1.00, 1.00] that judge one label." in page.replace("\xa0", " ")
    assert "0 of 6 texts are an answer without a thought" in page


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "not distinguishable")]
)
def test_the_page_says_what_the_interval_says(low, high, words):
    assert words in natural_page.verdict(Row("less", AT_ONCE, "nDCG@5", 0.0, low, high))


def test_bad_numbers_of_documents_are_refused_before_anything_is_loaded(capsys):
    for number in ("0", "17", "-16"):
        with pytest.raises(SystemExit) as stopped:
            recipe.main(["--documents", number])
        assert stopped.value.code == 2
    assert "--documents must be a multiple of 16, got -16" in capsys.readouterr().err


@pytest.mark.skipif(not TABLE.is_file(), reason="`make natural` has not been run")
def test_the_committed_table_is_whole():
    rows = read()
    assert {row.method for row in rows if row.part == "score"} == {THINKING, *natural_page.OTHERS}
    assert "nDCG@5" in natural_page.findings()


def test_making_the_table_is_a_look_at_test_documents(tmp_path):
    for _ in range(2):
        natural_page.log_look(tmp_path / "looks.csv")
    look = looks.read(tmp_path / "looks.csv").iloc[0]
    n_documents = next(row.value for row in read() if row.measure == "documents")
    named = tuple(look[["dataset", "teacher", "chapter", "documents"]])
    assert named == ("heart-failure", "qwen-1.5b", "natural", n_documents)
    assert natural_page.PAGE in set(looks.read(DATA / looks.FILE)["chapter"])


def test_the_page_names_what_the_ledger_says_of_the_models_own_runs():
    row = LedgerRow(
        CLAIMS[0],
        Verdict.REPRODUCED,
        "",
        None,
        "02_a",
        "mesh, smollm2-mesh",
        ("a slope: 1",),
        estimates=(("a", next(iter(CLAIMS[0].parts.values())), Estimate(1, 0, 2)),),
    )
    other = replace(row, published_run="another")
    natural = replace(other, data="heart-failure, qwen-1.5b", verdict=Verdict.NOT_TESTABLE, why="no CoT")
    lines = natural_page.claims([row, other, natural]).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 3
    (line,) = [line for line in lines if CLAIMS[0].statement in line]
    assert "| **not testable** | a slope: 1; no CoT |" in line
    assert "{doc}`02 <notebooks/02_a>`" in line
    unread = replace(natural, estimates=())
    assert "| **not testable** | no CoT |" in natural_page.claims([unread])
    assert natural_page.claims([row, other]) == "No chapter has a published run on `qwen-1.5b` yet."


def test_the_page_says_where_nothing_was_measured(tmp_path):
    assert natural_page.findings(tmp_path / "none.csv") == natural_page.NOT_MEASURED
