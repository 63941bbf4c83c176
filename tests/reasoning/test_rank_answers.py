"""What was written, as traces with their tokens and as rankings."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ctd.data.readers import organism as vignettes
from ctd.reasoning import annotate, models, prompts, rank_answers, traces
from ctd.reasoning.completions import Completion
from ctd.recipes import organism_texts

PROMPT = "Told how to answer. Document: a patient with fever\n"
FREE = "<think>\nhm, fever\n</think>\nAnswer:\n- Fever\n"


@pytest.fixture(scope="module")
def tokenizer():
    return models.load("organism", dtype="float32").tokenizer


@pytest.fixture(scope="module")
def space():
    return vignettes.label_space()


def index(space):
    """An index that grounds everything on the first label."""
    grounding = SimpleNamespace(label=0, how="nearest")
    return SimpleNamespace(space=space, ground=lambda texts: [grounding] * len(texts))


def by_character(text, tokenizer):
    """A completion whose tokens are single characters, as no tokenizer would have it."""
    ids = tuple(tokenizer(character, add_special_tokens=False)["input_ids"][0] for character in text)
    return Completion(text, True, len(ids), tuple((place, place + 1) for place in range(len(ids))), (), ids)


def rank(completion, prompt, beginning, document, space, tokenizer):
    (prediction,) = rank_answers.rank(
        [completion], [prompt], [beginning], [document], index(space), ["u"], tokenizer=tokenizer
    )
    return prediction.trace


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_text_in_the_format_has_the_tokens_of_prompt_and_text_together(space, tokenizer, with_ids):
    """So it was before traces carried tokens, and so it stays: the book's numbers rest on it."""
    for case in organism_texts.cases("test", 6):
        text = traces.format(organism_texts.trace(case, space, seed=0))
        completion = by_character(text.removeprefix(traces.OPEN), tokenizer)
        completion = completion if with_ids else replace(completion, ids=())
        prompt = prompts.plain(case.text)
        trace = rank(completion, prompt, traces.OPEN, case.text, space, tokenizer)
        encoded = tokenizer(prompt + text, return_offsets_mapping=True, add_special_tokens=False)
        assert trace.error == ""
        assert trace.tokens.ids == tuple(encoded["input_ids"])
        assert trace.tokens.offsets == tuple(encoded["offset_mapping"])
        anchors = space.anchors(case.labels, 2)
        bare = replace(trace, prompt="", tokens=None)
        annotated = annotate.annotate_trace(trace, case.labels, anchors, space, tokenizer)
        assert annotated == annotate.annotate_trace(bare, case.labels, anchors, space, tokenizer)


def test_a_free_form_text_keeps_the_prompt_and_the_tokens_that_were_written(space, tokenizer):
    completion = by_character(FREE, tokenizer)
    trace = rank(completion, PROMPT, "", "a patient with fever", space, tokenizer)
    assert trace.prompt + trace.text == trace.tokens.text == PROMPT + FREE
    assert trace.tokens.ids[-len(FREE) :] == completion.ids
    assert tokenizer.decode(trace.tokens.ids) == PROMPT + FREE
    annotated = annotate.annotate_trace(trace, [0], [0], space, tokenizer)
    assert tokenizer.decode(annotated.ids[annotated.cot.start + 1 : annotated.cot.end + 1]) == "hm, fever"
    assert tokenizer.decode(annotated.ids[slice(*annotated.document)]).strip() == "a patient with fever"


def test_a_text_kept_without_its_tokens_is_tokenised_again(space, tokenizer):
    trace = rank(Completion(FREE, True, 9), PROMPT, "", "a patient with fever", space, tokenizer)
    assert trace.tokens.ids == tuple(tokenizer(PROMPT + FREE, add_special_tokens=False)["input_ids"])


def test_a_server_without_a_tokenizer_gives_traces_without_tokens(space):
    trace = rank(Completion(FREE, True, 9), PROMPT, "", "a patient with fever", space, None)
    assert (trace.prompt, trace.tokens) == (PROMPT, None)


def test_rankings_are_padded_and_cut():
    ranked = [SimpleNamespace(ranking=(4, 2, 1), refined=(1, 2, 4)), SimpleNamespace(ranking=(), refined=())]
    assert rank_answers.rankings(ranked, 2).tolist() == [[4, 2], [-1, -1]]
    assert rank_answers.rankings(ranked, 2, refined=True).tolist() == [[1, 2], [-1, -1]]
