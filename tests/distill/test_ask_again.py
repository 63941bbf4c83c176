"""A kept student that is asked again."""

import pytest

from ctd.distill import ask_again, teach
from tests.distill.conftest import COT


@pytest.fixture(scope="module")
def folder(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    teach.teach(experiment, COT, 0, folder)
    return folder


def test_it_answers_as_it_did_and_says_how_sure_it_is(experiment, folder):
    outcome = teach.read(next(folder.iterdir()), "cot", 0)
    answers = ask_again.answers(experiment, COT, 0, folder)
    assert [list(answer.ranking) for answer in answers] == outcome.answers
    assert all(len(answer.scores) == len(answer.ranking) for answer in answers)
    assert all(score <= 0 for answer in answers for score in answer.scores)


def test_drawn_answers_are_those_of_the_document_each_time_the_same(experiment, folder):
    first, again = (ask_again.draw_answers_of_student(experiment, COT, 0, 2, 2, folder) for _ in range(2))
    assert [len(samples) for samples in first] == [2, 2]
    assert [[answer.trace.cot for answer in samples] for samples in first] == [
        [answer.trace.cot for answer in samples] for samples in again
    ]
    assert len({answer.trace.cot for samples in first for answer in samples}) > 2
    assert all(experiment.test_documents[1].startswith(answer.trace.document) for answer in first[1])
