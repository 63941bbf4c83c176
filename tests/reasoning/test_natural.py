"""A model that reasons by itself: what it is asked, how it draws, and that it always answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import transformers

from ctd.reasoning import natural, predict, prompts, teachers
from ctd.reasoning.generate import generate
from ctd.reasoning.sampling import Sampling
from ctd.retrieval.index import LabelIndex
from tests.reasoning.test_generate import byte_level, end_sometimes, tiny

PHASES = ("shortlist", "candidate", "compare", "refine", "phase", "narrow", "step", "eliminate")
CHAT = "{% for m in messages %}<user>{{ m['content'] }}<end>{% endfor %}<assistant>"
OWN = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}


@pytest.fixture
def reasoner(own_cache):
    """A tiny random model with a chat template and settings of its own."""
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT
    model = tiny(tokenizer)
    model.model.config.max_position_embeddings = 4096
    model.model.generation_config = transformers.GenerationConfig(**OWN)
    return model


@pytest.fixture
def index(space, encoder, own_cache):
    return LabelIndex.build(space, encoder)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_prompt_shows_labels_then_document_in_the_chat_template_and_names_no_phase(reasoner, space, at_once):
    prompt = natural.prompt("a naïve\n liver", space.texts[:3], reasoner.tokenizer, at_once)
    assert prompt.startswith("<user>")
    assert prompt.endswith("<end><assistant>")
    assert prompt.index("- Calcium\n- Calcium/metabolism\n") < prompt.index("Document: a naïve liver\n")
    assert prompt[slice(*prompts.document_span(prompt, "a naïve\n liver"))] == "a naïve liver"
    assert not any(word in prompt.lower() for word in PHASES)
    assert ("think" in prompt) is not at_once


def test_the_order_of_labels_is_drawn_once_for_a_small_space_and_for_each_document_of_a_large_one(index, monkeypatch):
    first, second = natural.shown(["a", "b"], index, seed=0)
    assert first == second != list(range(len(index.space)))
    assert sorted(first) == list(range(len(index.space)))
    assert natural.shown(["a"], index, seed=1)[0] != first
    monkeypatch.setattr(natural, "CLOSED", 2)
    monkeypatch.setattr(natural, "CANDIDATES", 3)
    documents = ["Liver", "Left heart", "Liver"]
    retrieved = index.search(documents, 3)[1].tolist()
    for row, labels in enumerate(natural.shown(documents, index)):
        assert sorted(labels) == sorted(retrieved[row])
    orders = {tuple(natural.shown(documents, index, [[4, 1, 3, -1]] * 3, seed)[0]) for seed in range(20)}
    assert len(orders) > 3
    assert {len(order) for order in orders} == {3}


@pytest.mark.parametrize(
    ("config", "sampling"),
    [
        (OWN, Sampling(9, 0.7, 0.8, 5, top_k=20, repetition_penalty=1.1)),
        ({"do_sample": True}, Sampling(9, 1.0, 1.0, 5, top_k=50)),  # the library's own
        ({"repetition_penalty": 1.3}, Sampling(9, seed=5, repetition_penalty=1.3)),
        ({}, Sampling(9, seed=5)),
    ],
)
def test_a_model_draws_by_its_own_settings(reasoner, config, sampling):
    reasoner.model.generation_config = transformers.GenerationConfig(**config)
    assert natural.own_sampling(reasoner, 9, 5) == sampling


def test_who_is_asked_freely(reasoner):
    assert teachers.reasons_by_itself(reasoner)
    reasoner.model.generation_config.do_sample = False
    assert not teachers.reasons_by_itself(reasoner)
    reasoner.model.generation_config.do_sample, reasoner.tokenizer.chat_template = True, None
    assert not teachers.reasons_by_itself(reasoner)


def test_an_answer_is_forced_where_the_tokens_are_spent_and_there_alone(reasoner, monkeypatch):
    monkeypatch.setattr(natural, "ANSWER_TOKENS", 8)
    end_sometimes(reasoner, by=4)
    questions = [natural.prompt(f"liver {row}", ["Liver", "Calcium"], reasoner.tokenizer) for row in range(8)]
    texts = natural.think(reasoner, questions, 12)
    thoughts = generate(reasoner, questions, natural.own_sampling(reasoner, 12))
    assert 0 < sum(text.forced for text in texts) < len(texts)
    for text, thought in zip(texts, thoughts, strict=True):
        assert text.forced is not thought.finished
        if not text.forced:
            assert (text.begun, text.completion) == ("", thought)
            continue
        assert text.begun == thought.text.rstrip() + "\n\nLabels:\n"
        assert text.n_tokens == thought.n_tokens + text.completion.n_tokens
    assert natural.think(reasoner, questions, 12) == texts


def test_a_block_of_thought_is_closed_before_the_answer():
    assert natural.forced("<think>\nhm ") == "<think>\nhm\n</think>\n\nLabels:\n"
    assert natural.forced("<think>a</think> b") == "<think>a</think> b\n\nLabels:\n"


def test_what_was_read_and_written_is_kept_to_the_token(reasoner, index):
    teacher = teachers.Teacher(reasoner, False, 40, {}, None, True)
    for mode in ("trace", "answer"):
        predictions = predict.reason(teacher, ["the liver", "calcium"], index, predict.Request(mode), max_tokens=9)
        for prediction in predictions:
            trace, n_begun = prediction.trace, len(prediction.trace.prompt)
            assert trace.prompt.startswith("<user>")
            assert trace.tokens.text == trace.prompt + trace.text
            assert trace.tokens.text[n_begun:] == trace.text
            assert prediction.forced is (mode == "trace" and not prediction.finished) or prediction.finished
            assert set(prediction.ranking) <= set(range(len(index.space)))
        assert all(p.trace.text.startswith("Labels:\n") for p in predictions) or mode == "trace"


def test_few_documents_are_asked_as_they_are_among_more(reasoner, index, monkeypatch):
    monkeypatch.setattr(natural, "GROUP", 2)
    teacher = teachers.Teacher(reasoner, False, 40, {}, None, True)
    documents, uids = [f"liver {row}" for row in range(5)], [str(row) for row in range(5)]
    for request in (
        predict.Request(),
        predict.Request("answer"),
        predict.Request("candidates", [[row] for row in range(5)]),
    ):
        few = replace(request, candidates=request.candidates and request.candidates[:2])
        many = predict.reason(teacher, documents, index, request, uids=uids, max_tokens=9)
        assert many[:2] == predict.reason(teacher, documents[:2], index, few, uids=uids[:2], max_tokens=9)
        assert [prediction.trace.uid for prediction in many] == uids
    predictions = predict.reason(teacher, documents, index, max_tokens=9)
    listed = [prediction.trace.prompt.partition("Document:")[0] for prediction in predictions]
    assert listed[0] == listed[1] != listed[2] == listed[3] != listed[4]


def test_a_model_that_writes_its_text_alone_is_not_handed_a_beginning(reasoner, index):
    teacher = teachers.Teacher(reasoner, False, 40, {}, None, True)
    for request in (predict.Request("first"), predict.Request(beginnings=["<think>"])):
        with pytest.raises(ValueError, match="ask it for a trace or an answer"):
            predict.reason(teacher, ["d"], index, request)


def test_a_server_draws_greedily_as_it_gives_no_settings():
    assert natural.own_sampling(SimpleNamespace(), 9) == Sampling(9)
