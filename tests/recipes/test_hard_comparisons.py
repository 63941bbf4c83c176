"""Hard vignettes: what names a code does not tell whether it holds; letter and verdict together do."""

import re

import pytest

from ctd.data.readers import organism as vignettes
from ctd.data.readers import wording
from ctd.recipes import hard_comparisons as hard
from ctd.recipes.organism_recipe import Recipe

CASES = list(vignettes.generate(60, seed=3))
HARD = [hard.apart(case) for case in CASES]
LETTER = re.compile(r"\b[Ii]tem ([a-z])\b")


def considered(case, code):
    """The sentence that names a code of the case."""
    start, end = case.named[code]
    return case.text[case.text.rfind(". ", 0, start) + 1 : case.text.index(".", end) + 1]


def test_codes_keep_their_words_and_lose_the_verdict_beside_them():
    for easy, case in zip(CASES, HARD, strict=True):
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


def test_letter_and_verdict_together_decide():
    first = []
    for case in HARD:
        verdict = case.text.rpartition(" In the end ")[2]
        letters = {code: LETTER.search(considered(case, code))[1] for code in (*case.labels, *case.denied)}
        assert sorted(letters.values()) == list("abcd")[: len(letters)]
        for code, letter in letters.items():
            assert (f"item {letter} was confirmed" in verdict) == (code in case.labels)
            assert (f"item {letter} was excluded" in verdict) == (code in case.denied)
        first.append("a" in {letters[label] for label in case.labels})
    assert 15 < sum(first) < 45, "the letter alone says nothing"


def test_a_trace_quotes_the_verdict_and_answers_the_gold_codes():
    space = vignettes.label_space()
    for case in HARD[:10]:
        written = hard.trace(case, space, 0)
        assert list(written.answer) == [space.texts[label] for label in case.labels]
        for words in hard.deciding_words(case).values():
            assert words in case.text
            assert words in written.cot


def test_what_is_learned_has_hard_documents_and_is_drawn_by_the_seed():
    words, lessons = hard.learned_from(Recipe(n_documents=4))
    assert len(lessons) == 4
    for taught in lessons:
        assert "In the end item" in taught.case.text
        assert "In the end item" in words.decode(taught.example.ids[: taught.example.n_prompt])
        assert len(taught.lookouts) == 2
    assert hard.apart(CASES[0], 0) == HARD[0]
    assert len({hard.apart(CASES[0], seed).text for seed in range(8)}) > 1


def test_a_case_without_its_verdicts_is_refused():
    with pytest.raises(ValueError, match="has no verdict beside"):
        hard.apart(HARD[0])
