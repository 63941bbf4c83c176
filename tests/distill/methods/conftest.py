"""A teacher, another model and traces of random tokens, which the tests of all methods share."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ctd.distill import teacher_states
from ctd.distill.examples import Example, collate
from ctd.distill.methods import Course
from ctd.reasoning.token_spans import Span, TokenizedText
from tests.distill.test_losses import stranger
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES as UNLISTED

LINES = (Span(19, 21), Span(21, 22), Span(22, 25))
PASSAGES = [replace(trace, shortlist=LINES) for trace in UNLISTED]
ANSWERS = [((5, 6, 7), (6,)), ((5, 7, 6), ())] * 2
TEXT = "d" * 16 + "topics\nfirst\nsecond\n"  # a character a token: the prompt and the lines of the CoT


def written(trace, shortlisted, answered):
    text = TEXT + "a" * (len(trace.ids) - len(TEXT))
    tokens = TokenizedText(text, trace.ids, tuple((place, place + 1) for place in range(len(text))))
    known = {"prompt": text[:16], "text": text[16:], "cot_span": Span(0, len(TEXT) - 16), "tokens": tokens}
    return SimpleNamespace(shortlisted=shortlisted, answered=answered, **known)


WRITTEN = [written(trace, *answer) for trace, answer in zip(PASSAGES, ANSWERS, strict=True)]
WHOLE = [Example(trace.ids, trace.cot.start + 1, trace=number) for number, trace in enumerate(PASSAGES)]
WORSE = [Example([*example.ids[:-3], 9, 4], example.n_prompt) for example in WHOLE]
WORTH = (-1.0, -0.5, 0.2, -0.1)
EXAMPLES = [
    example._replace(paired=worse, value=value) for example, worse, value in zip(WHOLE, WORSE, WORTH, strict=True)
]
TOLD = [Example([*example.ids[:5], 8, 9, *example.ids[5:]], example.n_prompt + 2) for example in WHOLE]
PAUSED = [Example(example.ids, 12, ((12, 14), (14, 16))) for example in WHOLE]
ANSWERED = [
    Example([*trace.ids[:16], 7, 6, 1, *trace.ids[15 : trace.cot.end + 1]], 16, ((19, 19 + trace.cot.end - 14),))
    for trace in PASSAGES
]
BATCH = collate(EXAMPLES, range(len(EXAMPLES)))


def texts(name):
    """What a method learns from."""
    with_gold = [example._replace(paired=other) for example, other in zip(WHOLE, TOLD, strict=True)]
    return {"semcot": PAUSED, "pst": ANSWERED, "opsd": with_gold}.get(name, EXAMPLES)


def batch_of(name):
    return collate(texts(name), range(len(EXAMPLES)))


@pytest.fixture
def pieces(monkeypatch):
    """The output layer in several pieces, the last one smaller."""
    for module in ("token_loss", "methods.token_by_token"):
        monkeypatch.setattr(f"ctd.distill.{module}.LOGITS_AT_ONCE", 7)


@pytest.fixture
def teacher():
    return build_model("llama").double()


@pytest.fixture
def student():
    return stranger().double().train()


@pytest.fixture
def course(teacher, student):
    experiment = SimpleNamespace(
        language_model=SimpleNamespace(model=teacher, tokenizer=SimpleNamespace(eos_token_id=1)),
        shares_basis=True,
        task=SimpleNamespace(space=SimpleNamespace(parents=True, ancestor=lambda labels, depth: labels % 2)),
        annotated_traces=PASSAGES,
        traces=WRITTEN,
        teacher_states=lambda examples: teacher_states.Live(teacher),
    )
    return Course(experiment, EXAMPLES, student)
