"""Hard vignettes: what names a code does not tell whether it holds; letter and verdict together do."""

import re
from dataclasses import replace

import pytest

from ctd.data import readers
from ctd.data.readers import organism as vignettes
from ctd.data.readers import wording
from ctd.data.readers.organism_hard import apart

LETTER = re.compile(r"\b[Ii]tem ([a-z])\b")


@pytest.fixture(scope="module")
def easy_cases():
    return list(vignettes.generate(60, seed=3))


@pytest.fixture(scope="module")
def hard_cases(easy_cases):
    return [apart(case) for case in easy_cases]


def considered(case, code):
    """The sentence that names a code of the case."""
    start, end = case.named[code]
    return case.text[case.text.rfind(". ", 0, start) + 1 : case.text.index(".", end) + 1]


def test_codes_keep_their_words_and_lose_the_verdict_beside_them(easy_cases, hard_cases):
    for easy, case in zip(easy_cases, hard_cases, strict=True):
        assert (case.labels, case.denied, case.topics, list(case.named)) == (
            easy.labels, easy.denied, easy.topics, list(easy.named),
        )  # fmt: skip
        for code, span in case.named.items():
            assert case.text[slice(*span)] == easy.text[slice(*easy.named[code])]
        for code in (*case.labels, *case.denied):
            around = considered(case, code)
            assert LETTER.search(around)
            for template in (*wording.FINDINGS, *wording.RULED_OUT):
                assert not all(part in around for part in template.split("{finding}") if len(part) > 2), around


def test_letter_and_verdict_together_decide(hard_cases):
    first = []
    for case in hard_cases:
        verdict = case.text.rpartition(" In the end ")[2]
        letters = {code: LETTER.search(considered(case, code))[1] for code in (*case.labels, *case.denied)}
        assert sorted(letters.values()) == list("abcd")[: len(letters)]
        for code, letter in letters.items():
            assert (f"item {letter} was confirmed" in verdict) == (code in case.labels)
            assert (f"item {letter} was excluded" in verdict) == (code in case.denied)
        first.append("a" in {letters[label] for label in case.labels})
    assert 15 < sum(first) < 45, "the letter alone says nothing"


def test_the_deciding_words_are_the_verdict_on_the_letter_of_each_gold_code(easy_cases, hard_cases):
    for case in hard_cases:
        assert set(case.deciding) == set(case.labels)
        for code, words in case.deciding.items():
            assert words == f"item {LETTER.search(considered(case, code))[1]} was confirmed"
            assert case.text.count(words) == 1
    assert not any(case.deciding for case in easy_cases)


def test_letters_and_wording_are_drawn_by_the_name_of_the_case(easy_cases, hard_cases):
    assert apart(easy_cases[0]) == hard_cases[0]
    assert len({apart(replace(easy_cases[0], uid=f"other-{number}")).text for number in range(8)}) > 1


def test_the_task_has_the_numbers_and_gold_labels_of_the_organism_s_and_other_texts(own_cache):
    easy, task = readers.load("organism", n_documents=60), readers.load("organism-hard", n_documents=60)
    assert task.space.texts == easy.space.texts
    assert task.card.generated
    for split, documents in task.documents.items():
        assert documents["uid"][:] == easy.documents[split]["uid"][:]
        assert documents["labels"][:] == easy.documents[split]["labels"][:]
        assert all("In the end item" in text for text in documents["text"])


def test_a_case_without_its_verdicts_is_refused(hard_cases):
    with pytest.raises(ValueError, match="has no verdict beside"):
        apart(hard_cases[0])
