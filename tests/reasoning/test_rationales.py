"""Constructed traces: what may stand in a shortlist, where gold stands, what is quoted, and what is never touched."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import chisquare

from ctd import text
from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task, splits_of
from ctd.reasoning import rationales, trace_parser, traces
from ctd.reasoning.rationales import Settings
from ctd.retrieval.index import LabelIndex
from tests.conftest import HashEncoder

DESCRIPTORS = ["Calcium", "Liver", "Receptors, N-Methyl-D-Aspartate", "Costs & Cost Analysis", "Heart (Embryo)", "Rats"]
QUALIFIERS = ["metabolism", "blood", "drug effects", "analysis & derivatives", "embryology", "pathology"]


def mesh_like():
    """Descriptors with qualifiers below two clusters, and documents whose words tell some qualifiers apart."""
    texts, parents = [], []
    for descriptor in DESCRIPTORS:
        head = len(texts)
        texts += [descriptor, *(f"{descriptor}/{qualifier}" for qualifier in QUALIFIERS)]
        parents += [-1] + [head] * len(QUALIFIERS)
    labels = len(texts)
    parents = [labels + (row // 21) if parent < 0 else parent for row, parent in enumerate(parents)]
    texts += ["Calcium · Liver", "Costs · Heart"]
    space = LabelSpace("mesh-like", [f"M{n}" for n in range(len(texts))], texts, labels, np.array([*parents, -1, -1]))
    rng = np.random.default_rng(0)
    rows = {}
    for split in ("train", "validation", "test"):
        rows[split] = []
        for n in range(40):
            gold = rng.permutation(labels - 7)[: rng.integers(0, 5)].tolist()
            sentences = " ".join(f"The {texts[g].lower().replace('/', ', its ')} was seen." for g in gold)
            text = f'Study "{n}" of {split}.\n{sentences} It was\nhard.'
            rows[split].append({"uid": f"{split}-{n}", "text": text, "labels": [*gold, labels - 7]})
    unscored = np.array([labels - 7], np.int32)
    return Task(splits_of(rows), space, Card("made", "CC0", "a test", "By a loop.", generated=True), unscored)


def slice_of(name):
    """A small part of a real task, its test split emptied."""
    task = readers.load(name)
    part = {split: task.documents[split].select(range(60)) for split in ("train", "validation")}
    filtered = {split: pairs[:60] for split, pairs in task.filtered.items()}
    return replace(task, documents=splits_of(part), filtered=filtered)


@pytest.fixture(scope="module", params=["mesh-like", "heart-failure", "setmm-slice"])
def task(request):
    return mesh_like() if request.param == "mesh-like" else slice_of(request.param)


@pytest.fixture(scope="module")
def index(task, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield LabelIndex.build(task.space, HashEncoder())


@pytest.fixture(scope="module")
def rationalised(task, index):
    return list(rationales.for_task(task, "train", index, 60, seed=5))


def texts_of(task, split, uid, scored=True):
    row = task.documents[split]["uid"].index(uid)
    return {task.space.texts[label] for label in task.gold(split, scored)[row].indices}


def test_every_trace_makes_the_round_trip(task, rationalised):
    for trace in rationalised:
        assert trace_parser.parse(traces.format(trace), task.space, trace.uid, trace.document) == trace
        assert trace.error == ""


def test_every_scored_gold_label_is_listed_and_answered_and_no_other_is(task, rationalised):
    assert len({trace.uid for trace in rationalised}) == len(rationalised)
    for trace in rationalised:
        gold = texts_of(task, "train", trace.uid)
        assert set(trace.answer) == gold
        listed = [task.space.texts[label] for label in trace.shortlisted]
        assert gold <= set(listed)
        assert not (set(listed) - gold) & texts_of(task, "train", trace.uid, scored=False)
        assert len(listed) <= max(20, 2 * len(gold))
        assert 2 * len(gold) <= len(listed) or len(listed) == len(task.space)
    goldless = set(task.documents["train"]["uid"][:60]) - {trace.uid for trace in rationalised}
    assert all(not texts_of(task, "train", uid) for uid in goldless)


def test_unscored_labels_stand_nowhere(task, rationalised):
    for trace in rationalised:
        assert not {mention.label for mention in trace.mentions} & set(task.unscored.tolist())


def test_quoted_words_stand_in_the_document_and_tell_gold_from_its_near_miss(task, rationalised):
    quoted = 0
    for trace in rationalised:
        gold = set(trace.answered)
        for comparison in trace.comparisons:
            (gold_label,) = gold & set(comparison.labels)
            (ruled_out,) = set(comparison.labels) - gold
            assert ruled_out in trace.shortlisted
            for words in comparison.quotes:
                quoted += 1
                assert words in trace.document
                assert len(re.findall(r"[^\W_]+", words)) <= 6
                right, wrong = (text.stems(task.space.texts[label]) for label in (gold_label, ruled_out))
                assert text.stems(words) & (right - wrong or right)
                assert right - wrong or not text.stems(trace.document) & (wrong - right)
    assert quoted > 10


def test_each_gold_label_with_a_listed_near_miss_is_compared_once(task, rationalised):
    for trace in rationalised:
        compared = [next(label for label in c.labels if label in trace.answered) for c in trace.comparisons]
        assert len(set(compared)) == len(compared)
    assert sum(len(trace.comparisons) for trace in rationalised) > 0.5 * len(rationalised)


def test_topics_are_inner_nodes_that_stand_above_gold(task, rationalised):
    for trace in rationalised:
        line = trace.cot.split("\n")[0]
        row = task.documents["train"]["uid"].index(trace.uid)
        anchors = task.space.anchors(task.gold("train")[row].indices, 0)
        assert any(task.space.texts[anchor] in line for anchor in anchors)


def test_a_document_depends_on_the_seed_and_its_number_alone(task, index, rationalised, own_cache):
    again = list(rationales.for_task(task, "train", index, 20, seed=5))
    assert again == rationalised[: len(again)]
    other = list(rationales.for_task(task, "train", index, 20, seed=6))
    assert [t.uid for t in other] == [t.uid for t in again]
    assert sum(a.cot != b.cot for a, b in zip(again, other, strict=True)) > 0.8 * len(again)


def test_the_wording_varies(rationalised):
    topics = {re.split(r"[A-Z0-9]", trace.cot.removeprefix("Topics: "))[0] for trace in rationalised}
    assert len(topics) >= 3
    bare = {
        traces.MARKED.sub("_", traces.format(trace)[c.start : c.end])
        for trace in rationalised
        for c in trace.comparisons
    }
    assert len(bare) >= 5


def test_no_text_or_label_of_the_test_split_reaches_a_trace(task, index, own_cache):
    with pytest.raises(ValueError, match="split must be train or validation, got 'test': no trace is made from a test"):
        rationales.for_task(task, "test", index, 5, seed=0)
    if len(task.documents["test"]):
        unseen = {**task.documents, "test": task.documents["test"].select([0])}
        without = replace(task, documents=type(task.documents)(unseen))
        both = [list(rationales.for_task(t, "train", index, 20, seed=5)) for t in (task, without)]
        assert both[0] == both[1]
    for trace in rationales.for_task(task, "validation", index, 20, seed=5):
        assert trace.document in task.documents["validation"]["text"]


def shortlists(n, order="random"):
    """n rationalised traces of one document with two gold labels, and where gold stands in each shortlist."""
    space = mesh_like().space
    rng = np.random.default_rng(12)
    near = {8: [9, 10, 11], 15: [16, 14]}
    rationalised = [
        rationales.rationalise(
            "Liver.", [8, 15], space, range(20, 34), near, ["t"], rng, Settings(12, 4, shortlist_order=order)
        )
        for _ in range(n)
    ]  # fmt: skip
    return rationalised, np.array([[trace.shortlisted.index(label) for label in (8, 15)] for trace in rationalised])


def test_gold_stands_anywhere_in_the_shortlist_alike():
    rationalised, places = shortlists(10_000)
    assert {len(trace.shortlisted) for trace in rationalised} == {12}
    for column in (*places.T, places.ravel()):
        assert chisquare(np.bincount(column, minlength=12)).pvalue > 0.01
    pairs = places[:, 0] * 12 + places[:, 1]
    counts = np.bincount(pairs, minlength=144)[[a * 12 + b for a in range(12) for b in range(12) if a != b]]
    assert chisquare(counts).pvalue > 0.01


def test_gold_stands_anywhere_alike_in_the_order_of_the_document():
    _, places = shortlists(10_000, "document")
    for column in places.T:
        assert chisquare(np.bincount(column, minlength=12)).pvalue > 0.01


def test_a_shortlist_in_the_order_of_the_document_goes_round():
    space = mesh_like().space
    document = "Of rats, their liver, and calcium in blood."
    ranks = {"Rats": 0, "Liver": 1, "Calcium": 2, "Heart": 3}
    begun = set()
    for seed in range(40):
        trace = rationales.rationalise(
            document, [7, 35], space, [0, 28, 36], {7: [8]}, [], np.random.default_rng(seed),
            Settings(6, 2, shortlist_order="document"),
        )  # fmt: skip
        order = [ranks[space.texts[label].split("/")[0].split(" (")[0]] for label in trace.shortlisted]
        begun.add(order[0])
        assert sum(a > b for a, b in zip(order, [*order[1:], order[0]], strict=True)) == 1, order
    assert len(begun) > 2


def test_a_shortlist_holds_gold_then_near_misses_in_turn_then_retrieved():
    rng = np.random.default_rng(0)
    near = {1: [10, 11, 12], 2: [20, 1], 3: []}
    listed = rationales.shortlist([1, 2, 3], near, [2, 30, 10, 31, 32, 33], 8, 3, rng)
    assert sorted(listed) == [1, 2, 3, 10, 11, 20, 30, 31]
    assert len(rationales.shortlist([1, 2, 3], near, range(30, 60), 2, 3, rng)) == 6
    assert sorted(rationales.shortlist([1], {}, [], 8, 3, rng)) == [1]
    for bad, message in ((([], 8, 3), "needs at least one gold label"), (([1], 0, 3), "size must be at least 1")):
        with pytest.raises(ValueError, match=message):
            rationales.shortlist(bad[0], near, [5], *bad[1:], rng)


def test_the_answer_follows_the_document_or_is_random():
    space = mesh_like().space
    document = "First the rats, then the liver, at last calcium."
    draw = [
        rationales.rationalise(
            document, [0, 7, 35], space, [], {}, [], np.random.default_rng(seed), Settings(answer_order=order)
        )
        for order in ("document", "random")
        for seed in range(30)
    ]
    assert {trace.answer for trace in draw[:30]} == {("Rats", "Liver", "Calcium")}
    assert len({trace.answer for trace in draw[30:]}) == 6
    assert {trace.cot.split("\n")[0] for trace in draw} == {"Topics: none"}


def compared(trace):
    """The label that each comparison keeps, and whether it quotes the document."""
    return [(next(x for x in c.labels if x in trace.answered), bool(c.quotes)) for c in trace.comparisons]


def test_comparisons_that_quote_are_kept_first_and_stay_in_order(task, index, rationalised, own_cache):
    overtaken = 0
    for n in range(4):
        few = list(rationales.for_task(task, "train", index, 60, seed=5, settings=Settings(n_comparisons=n)))
        for trace, whole in zip(few, rationalised, strict=True):
            every = compared(whole)
            quoting_first = sorted(range(len(every)), key=lambda row: not every[row][1])
            assert compared(trace) == [every[row] for row in sorted(quoting_first[:n])]
            overtaken += sorted(quoting_first[:n]) != list(range(len(every)))[:n]
            assert replace(trace, cot=whole.cot, comparisons=whole.comparisons, mentions=whole.mentions) == whole
        if n == 0:
            assert {trace.comparisons for trace in few} == {()}
            assert all(trace.cot.endswith("Compare:") for trace in few)
    assert overtaken > 0


def test_as_many_comparisons_as_there_are_change_nothing(task, index, rationalised, own_cache):
    most = max(len(trace.comparisons) for trace in rationalised)
    assert most > 1
    for n in (None, most):
        assert (
            list(rationales.for_task(task, "train", index, 60, seed=5, settings=Settings(n_comparisons=n)))
            == rationalised
        )


def test_a_quotation_mark_in_a_label_is_no_quote():
    texts = ['"Calcium" so called', '"Calcium" so called/blood', "Liver", "Liver/blood"]
    space = LabelSpace("marks", list("abcd"), texts, 4)
    trace = rationales.rationalise(
        "The liver.", [0, 2], space, [], {0: [1], 2: [3]}, [], np.random.default_rng(0), Settings(n_comparisons=1)
    )
    assert compared(trace) == [(2, True)]


def test_quotes_come_from_what_the_reader_sees(task, index, rationalised, own_cache):
    def cut(text):
        return text[: len(text) // 2]

    def quotes(trace):
        return [words for comparison in trace.comparisons for words in comparison.quotes]

    short = list(rationales.for_task(task, "train", index, 60, seed=5, cut=cut))
    for trace, whole in zip(short, rationalised, strict=True):
        assert trace.document == cut(whole.document)
        assert trace.shortlisted == whole.shortlisted
        assert set(trace.answered) == set(whole.answered)
        assert all(words in trace.document for words in quotes(trace))
    assert any(quotes(trace) for trace in short)
    beyond = [words for whole in rationalised for words in quotes(whole) if words not in cut(whole.document)]
    assert beyond or task.space.name == "setmm"  # whose formulas, the second half of a text, share no word with a name


def test_labels_that_share_a_text_are_one():
    space = LabelSpace("twins", list("abcd"), ["Same", "Same", "Other", "Else"], 4)
    trace = rationales.rationalise("x", [1, 2], space, [0, 3], {1: [0, 3]}, ["t"], np.random.default_rng(0))
    assert sorted(trace.shortlisted) == [0, 2, 3]
    assert sorted(trace.answered) == [0, 2]
    assert len(trace.comparisons) == 1


def test_filtered_pairs_are_never_distractors(own_cache):
    task = mesh_like()
    index = LabelIndex.build(task.space, HashEncoder())
    gold = task.gold("train").toarray()
    barred = csr_matrix(~gold & (np.arange(len(task.space)) % 2 == 0))
    filtered = replace(task, filtered={"train": barred})
    rationalised = list(rationales.for_task(filtered, "train", index, 40, seed=0))
    assert rationalised
    for trace in rationalised:
        row = task.documents["train"]["uid"].index(trace.uid)
        assert not set(trace.shortlisted) & set(barred[row].indices.tolist())


def test_a_space_without_topics_and_an_index_of_another_space_are_refused(own_cache):
    task = mesh_like()
    index = LabelIndex.build(task.space, HashEncoder())
    flat = LabelSpace("flat", task.space.ids[:42], task.space.texts[:42], 42)
    few = replace(task, space=task.space.subset(np.arange(9), "few"))
    with pytest.raises(ValueError, match="index must be over the labels of 'few', got one over those of 'mesh-like'"):
        rationales.for_task(few, "train", index, 5, seed=0, settings=Settings(5, 2))
    index = LabelIndex.build(flat, HashEncoder())
    with pytest.raises(ValueError, match="label space 'flat' has no nodes above its labels to serve as topics"):
        rationales.for_task(replace(task, space=flat), "train", index, 5, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_documents": 0}, "n_documents must be at least 1, got 0"),
        ({"n_topics": 0}, "n_topics must be at least 1, got 0"),
        ({"shortlist_size": 0}, r"shortlist_size must be between 1 and 42 \(labels in 'mesh-like'\), got 0"),
        ({"shortlist_size": 43}, "shortlist_size must be between 1 and 42"),
        ({"n_near": 21}, r"n_near must be between 0 and 20 \(shortlist_size\), got 21"),
        ({"topic_depth": 9}, "depth must be between 0 and 2"),
        ({"split": "dev"}, "split must be train or validation, got 'dev'"),
        ({"answer_order": "alphabet"}, "answer_order must be document or random, got 'alphabet'"),
        ({"shortlist_order": "alphabet"}, "shortlist_order must be document or random, got 'alphabet'"),
        ({"n_comparisons": -1}, "n_comparisons must be at least 0, or None for all, got -1"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_read(own_cache, options, message):
    task = mesh_like()
    index = LabelIndex.build(task.space, HashEncoder())
    arguments = {"split": "train", "n_documents": 5, "seed": 0}
    settings = {name: value for name, value in options.items() if name not in arguments}
    arguments |= {name: value for name, value in options.items() if name in arguments}
    with pytest.raises(ValueError, match=message):
        rationales.for_task(task, index=index, **arguments, settings=Settings(**settings))


def test_parameters_change_the_trace(own_cache):
    task = mesh_like()
    index = LabelIndex.build(task.space, HashEncoder())

    def cots(cut=str, **options):
        return [trace.cot for trace in rationales.for_task(task, "train", index, 20, 0, Settings(**options), cut)]

    plain = cots()
    for options in (
        {"shortlist_size": 10},
        {"n_near": 0},
        {"topic_depth": 1},
        {"n_topics": 1},
        {"answer_order": "random"},
        {"shortlist_order": "document"},
        {"n_comparisons": 1},
        {"cut": lambda text: text[:30]},
    ):
        assert cots(**options) != plain, options
    assert not any("[[" in cot for cot in cots(n_near=0))
