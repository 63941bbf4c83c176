"""The data of each view: what stands in them, what stays out, and where a label lies on the map."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.book.explorer import collection, documents, heads, label_map, make, packing, silenced
from ctd.book.explorer.collection import Collection
from ctd.data.label_space import LabelSpace
from ctd.mechanism import attention
from ctd.retrieval.index import LabelIndex
from tests.book.explorer.conftest import ANSWERS, GOLD, IMAGE, LABELS, PLANTED, SCRIPT, text
from tests.book.explorer.test_packing import from_four_bits


def test_a_document_has_its_trace_its_labels_and_three_sets_of_curves(loaded):
    shown, labels = documents.of_collection(loaded)
    texts = [LABELS[label] for label in labels.numbers]
    first = shown[0]
    assert [texts[label] for label in first["gold"]] == [LABELS[label] for label in GOLD[0]]
    assert [texts[label] for label in first["trace"]["answer"]] == [LABELS[label] for label in ANSWERS[0]]
    start, end, label = first["trace"]["mentions"][0]
    assert first["trace"]["cot"][start:end] == texts[label] == "Right heart"
    assert set(first["curves"]) == {"own", "shuffled", "other"}
    assert first["curves"]["own"]["focus"][0] is None  # nothing is written at t = 0
    assert sorted(first["shuffled"].split("\n")) == sorted(first["trace"]["cot"].split("\n"))
    other = shown[first["other"]]
    assert other["uid"] != first["uid"]
    assert first["curves"]["other"]["focus"] != first["curves"]["own"]["focus"]


def test_documents_that_people_wrote_appear_by_their_first_words(silent_loaded):
    shown, _ = documents.of_collection(silent_loaded)
    assert shown[0]["text"] == " ".join(text(0).split()[:12]) + " …"
    assert "trace" not in shown[0]


def test_words_beyond_the_excerpt_are_hidden_from_the_heads_too(loaded):
    card = replace(loaded.task.card, generated=False)
    view = heads.of_collection(replace(loaded, task=replace(loaded.task, card=card)))
    value, _ = view.documents[0]
    seen = "".join(value["tokens"][slice(*value["document"])])
    assert seen.startswith("Report 0: the heart")
    assert "twelve" not in seen
    assert heads.HIDDEN in seen


def test_attention_is_the_models_own_in_sixteen_levels(loaded):
    view = heads.of_collection(loaded)
    value, arrays = view.documents[0]
    model, ids = loaded.teacher.language_model.model, loaded.predictions[0].trace.tokens.ids
    with attention.record(model) as seen:
        model.get_decoder()(input_ids=torch.tensor([ids]), use_cache=False)
    exact = seen.patterns[1][0][0, 2].detach().numpy()[value["first"] : -1]
    n_rows, n_tokens = len(value["ends"]), len(value["tokens"])
    read = from_four_bits(arrays["attention"], (8, n_rows, n_tokens))[view.facts["heads"].index((1, 2))]
    assert n_tokens == len(ids)
    assert np.abs(np.sqrt(read) - np.sqrt(exact)).max() <= 0.5 / packing.LEVELS + 1e-6
    assert value["ends"] == sorted(value["ends"])
    assert value["ends"][0] > 0
    assert max(value["ends"]) > 1  # the answer comes behind the CoT


def test_without_planted_heads_a_score_still_names_its_highest(loaded, monkeypatch):
    monkeypatch.setattr(heads, "planted_in", lambda teacher: {})
    facts = heads.of_collection(loaded).facts
    assert facts["planted"] == {}
    for score in facts["scores"]:
        named = [score["values"][head] for head in score["guess"]]
        assert len(named) == heads.GUESSES
        assert min(named) >= max(value for head, value in enumerate(score["values"]) if head not in score["guess"])


def test_of_a_larger_model_the_planted_heads_and_the_highest_are_shown(loaded, monkeypatch):
    monkeypatch.setattr(heads, "planted_in", lambda teacher: PLANTED)
    facts = heads.of_collection(replace(loaded, settings=replace(loaded.settings, n_heads=5))).facts
    assert len(facts["heads"]) == 5
    assert {head for planted in PLANTED.values() for head in planted} <= set(facts["heads"])
    assert [facts["heads"][place] for place in facts["planted"]["1"]] == PLANTED[1]


def test_a_silenced_head_changes_the_text_and_an_empty_set_does_not(loaded):
    language_model = loaded.teacher.language_model
    ((_, trace), *_) = heads.annotated_traces(loaded, language_model)
    everything = attention.all_heads(language_model.model)
    before, again, after = silenced.write(language_model, trace, [[], [], everything], 12)
    assert before == again
    assert before != after


def test_a_label_with_a_qualifier_stands_at_the_label_above_it(encoder, own_cache, space):
    index = LabelIndex.build(space, encoder)
    places = label_map.make(index, np.array([1]))
    assert [space.texts[label] for label in places.points] == ["Calcium", "Liver", "Left heart", "Right heart"]
    assert places.point.tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert places.places.min() == 0
    assert places.places.max() == 1
    np.testing.assert_array_equal(places.places, label_map.make(index, np.array([1])).places)
    read = np.frombuffer(places.arrays()["places"], "<u2").reshape(2, -1).T / label_map.SCALE
    np.testing.assert_allclose(read, places.places, atol=1 / label_map.SCALE)


def test_a_large_map_keeps_the_points_that_documents_need(encoder, own_cache):
    space = LabelSpace("flat", [str(n) for n in range(40)], [f"label {n}" for n in range(40)], 40)
    places = label_map.make(LabelIndex.build(space, encoder), np.array([39, 7]), most=10)
    assert len(places.points) == 10
    assert {7, 39} <= set(places.points.tolist())
    assert places.point[39] == 9
    assert (places.point >= 0).sum() == 10


def test_topics_are_nodes_of_a_deep_tree_and_clusters_elsewhere(space):
    assert collection.topics(space) == (3, 0)
    deep = LabelSpace("deep", ["a", "b", "c"], ["a", "b", "c"], 1, np.array([1, 2, -1], np.int32))
    assert collection.topics(deep) == (0, 2)


def test_labels_and_titles_are_escaped_in_every_file(folder):
    page = (folder / "index.html").read_text()
    assert "Small &lt;i&gt;&amp; sound&lt;/i&gt;" in page
    for file in folder.rglob("*"):
        if file.is_file():
            assert IMAGE not in file.read_text(), file
            assert SCRIPT not in file.read_text(), file


def test_the_scripts_of_the_page_never_write_html():
    unsafe = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc")
    for file in make.STATIC.glob("*.js"):
        assert not unsafe.search(file.read_text()), file.name


def test_another_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other things than an explorer"):
        make.make([], tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_own_data_has_no_teacher_unless_one_is_named():
    assert make.own_collection("records", None, source="x.csv").teacher == ""
    assert make.own_collection("organism", None).teacher == "organism-planted"
    assert make.own_collection("mesh", None).n_drawn == 200
    assert make.own_collection("records", "my-model").max_tokens == 512
    with pytest.raises(ValueError, match="n_documents must be at least 2"):
        Collection(n_documents=1)
