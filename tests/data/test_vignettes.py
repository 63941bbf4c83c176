"""Generated vignettes: what each text must hold, and that the seed alone decides it."""

import re

import numpy as np
import pytest

from ctd.data.label_space import LabelSpace
from ctd.data.readers import icd10cm, vignettes, wording
from ctd.data.readers.vignettes import Vignette
from ctd.data.task import split_by_hash


@pytest.fixture(scope="module")
def space() -> LabelSpace:
    return icd10cm.label_space()


@pytest.fixture(scope="module")
def drawn(space) -> list[Vignette]:
    return list(vignettes.generate(space, 300, seed=3))


@pytest.fixture(scope="module")
def heart(space) -> list[Vignette]:
    return list(vignettes.generate(icd10cm.heart_failure_set(), 300, seed=3))


def wordings(text: str, n: int = 200) -> set[str]:
    """All ways in which a text may stand in a vignette, by drawing many times; lower case."""
    return {wording.reworded(text, np.random.default_rng(seed)).lower() for seed in range(n)}


def test_the_task_is_called_generated_and_splits_by_uid():
    task = vignettes.load(n_documents=40, seed=1)
    assert task.card.generated
    assert "enerated" in task.card.title
    rows = {split: part["uid"] for split, part in task.documents.items()}
    assert sorted(uid for uids in rows.values() for uid in uids) == [f"generated-{n:06d}" for n in range(40)]
    assert all(split_by_hash(uid) == split for split, uids in rows.items() for uid in uids)
    assert task.gold("train").shape == (len(rows["train"]), len(task.space))


def test_even_a_split_without_documents_has_the_columns():
    task = vignettes.load(n_documents=1)
    assert {tuple(part.column_names) for part in task.documents.values()} == {("uid", "text", "labels")}


def test_a_document_depends_on_the_seed_and_its_number_alone(space, drawn):
    assert list(vignettes.generate(space, 50, seed=3)) == drawn[:50]
    assert all(a.text != b.text for a, b in zip(vignettes.generate(space, 20, seed=4), drawn, strict=False))


def test_texts_are_one_paragraph_of_40_to_120_words(drawn, heart):
    for vignette in (*drawn, *heart):
        assert 40 <= len(vignette.text.split()) <= 120
        assert "\n" not in vignette.text
        assert "{" not in vignette.text


def test_the_words_stay_within_bounds_at_the_corners_of_the_parameters(space):
    for labels, ruled_out, distractors in (((1, 1), 0, 0), ((3, 3), 2, 4)):
        for vignette in vignettes.generate(space, 30, 0, labels, ruled_out, distractors):
            assert 40 <= len(vignette.text.split()) <= 120


def test_every_gold_label_and_ruled_out_near_miss_stands_in_the_text(space, drawn):
    terms = icd10cm.inclusion_terms()
    for vignette in drawn[:60]:
        for label in vignette.labels:
            names = [space.texts[label], *terms.get(space.ids[label], [])]
            assert any(way in vignette.text.lower() for name in names for way in wordings(name))
        for label in vignette.ruled_out:
            assert any(way in vignette.text.lower() for way in wordings(space.texts[label]))


def test_gold_labels_are_findings_of_distinct_categories_that_may_stand_together(space, drawn):
    assert {len(vignette.labels) for vignette in drawn} == {1, 2, 3}
    for vignette in drawn:
        labels = np.array(vignette.labels)
        assert len(set(space.ancestor(labels, 2))) == len(labels)
        assert not {space.ids[node][0] for node in labels} & set("VWXYZ")
        assert not (space.exclusions[labels][:, labels] == 1).nnz


def test_gold_labels_come_from_many_chapters(space, drawn):
    chapters = {space.ids[node] for v in drawn for node in space.ancestor(np.array(v.labels), 0)}
    assert len(chapters) > 15


def test_near_misses_ruled_out_are_not_gold_and_mostly_there(drawn):
    assert not any(set(vignette.labels) & set(vignette.ruled_out) for vignette in drawn)
    assert np.mean([len(vignette.ruled_out) == 1 for vignette in drawn]) > 0.9


def test_a_ruled_out_injury_differs_in_more_than_the_encounter(space):
    writer = vignettes._Writer(space)
    rivals = [space.ids[rival] for rival in writer._rivals(space.lookup["S82.034B"])]
    assert "S82.035B" in rivals
    assert not any(id.startswith("S82.034") for id in rivals)
    assert all(id.endswith("B") for id in rivals)


def test_distractor_topics_come_from_other_chapters_than_the_gold_labels(space, drawn):
    assert sum(len(vignette.topics) for vignette in drawn) > len(drawn)
    for vignette in drawn:
        topics = np.array([space.lookup[id] for id in vignette.topics], np.int32)
        gold = set(space.ancestor(np.array(vignette.labels), 0))
        assert not gold & set(space.ancestor(topics, 0))


def test_the_closed_set_is_chosen_from_alone_and_all_of_it_is_used(heart):
    closed = icd10cm.heart_failure_set()
    assert {label for vignette in heart for label in (*vignette.labels, *vignette.ruled_out)} <= set(range(len(closed)))
    assert len({label for vignette in heart for label in vignette.labels}) == len(closed)
    task = vignettes.load(n_documents=5, closed=True)
    assert task.space is closed
    assert "heart-failure" in task.card.title


def test_no_text_states_heart_failure_beside_a_code_without_it(heart):
    closed = icd10cm.heart_failure_set()
    for vignette in heart:
        texts = [closed.texts[label] for label in vignette.labels]
        if any("without heart failure" in text for text in texts):
            others = " ".join(text for text in texts if "without heart failure" not in text)
            assert "heart failure" not in others.lower()


def test_newborns_have_no_conditions_of_later_life(space, drawn):
    for vignette in drawn:
        chapters = {space.ids[node] for node in space.ancestor(np.array(vignette.labels), 0)}
        if "chapter-16" in chapters:
            assert chapters <= {"chapter-16", "chapter-17"}
            assert re.search(r"newborn|infant", vignette.text)
            assert "year-old" not in vignette.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_documents": 0}, "n_documents must be at least 1, got 0"),
        ({"labels_per_document": (0, 2)}, "1 <= fewest <= most <= 3, got 0, 2"),
        ({"labels_per_document": (3, 2)}, "1 <= fewest <= most <= 3, got 3, 2"),
        ({"n_ruled_out": 3}, "n_ruled_out must be between 0 and 2, got 3"),
        ({"n_distractors": -1}, "n_distractors must be between 0 and 4, got -1"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        vignettes.load(**options)
