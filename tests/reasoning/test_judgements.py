"""Judgements of one label, read back as text: their words, the candidates, and the document's words for each."""

from dataclasses import replace

import pytest

from ctd.data.label_space import LabelSpace
from ctd.reasoning import free_text, models, natural, trace_parser, traces
from ctd.reasoning.annotate import annotate_trace
from ctd.reasoning.token_spans import Span

LABELS = ["Oedema of the legs", "Heart failure", "Oedema of the lung", "Fever"]
SPACE = LabelSpace("findings", list("abcd"), LABELS, 4)
DOCUMENT = "The legs are swollen. No fever was measured, and the heart is large."
TEXT = """The document is short.
Heart failure fits the large heart. There is no mention of oedema of the legs.
Fever rather than heart failure.
The legs are long.

Labels:
- Heart failure
"""


@pytest.fixture(scope="module")
def tokenizer():
    return models.load("organism", dtype="float32").tokenizer


def annotated(tokenizer, text=TEXT, shown=(2, 0, 3, 1)):
    trace, _ = free_text.read(text, free_text.ShownLabels(SPACE, shown, lambda _: 0), "u", DOCUMENT)
    prompt = natural.prompt(DOCUMENT, [LABELS[label] for label in shown], None)
    return annotate_trace(replace(trace, prompt=prompt), [1], [1], SPACE, tokenizer)


def said(tokenizer, trace, span, shift=0):
    """What the tokens of a span say; shift 1 for a span of queries: what they predict."""
    return tokenizer.decode(trace.ids[span.start + shift : span.end + shift]).strip()


def test_a_sentence_that_weighs_one_label_is_a_judgement_and_so_is_each_side_of_a_comparison(tokenizer):
    trace = annotated(tokenizer)
    assert [(said(tokenizer, trace, at.queries, 1), LABELS[at.own.label]) for at in trace.judgements] == [
        ("Heart failure fits the large heart.", "Heart failure"),
        ("There is no mention of oedema of the legs.", "Oedema of the legs"),
        ("Fever", "Fever"),
        ("rather than heart failure", "Heart failure"),
    ]
    for at in trace.judgements:
        name = Span(at.named, at.named + len(at.own.ids))
        assert said(tokenizer, trace, name).lower() == LABELS[at.own.label].lower()


def test_each_candidate_stands_where_the_prompt_lists_it_and_has_the_documents_words(tokenizer):
    at = annotated(tokenizer).judgements[1]
    trace = annotated(tokenizer)
    assert [candidate.label for candidate in (at.own, *at.others)] == [0, 3, 1, 2], "as listed, behind its own"
    for candidate in (at.own, *at.others):
        assert said(tokenizer, trace, candidate.listed) == LABELS[candidate.label]
        assert candidate.listed.end <= trace.document.start
    words = {one.label: [said(tokenizer, trace, span) for span in one.evidence] for one in (at.own, *at.others)}
    assert words == {0: ["legs"], 1: ["heart"], 2: [], 3: ["fever"]}


def test_names_are_told_apart_where_they_differ_as_the_sentence_would_write_them(tokenizer):
    first, second = annotated(tokenizer).judgements[:2]
    assert tokenizer.decode(first.others[0].ids) == LABELS[first.others[0].label], "begins a line, with a capital"
    apart = {other.label: choice for other, choice in zip(second.others, second.choices, strict=True)}
    assert apart[3][0] == 0
    assert tokenizer.decode(second.others[0].ids).strip() == "fever", "inside a line, without one"
    place, own, other = apart[2]
    assert place > 0
    assert second.own.ids[:place] == second.others[2].ids[:place]
    assert (own, other) == (second.own.ids[place], second.others[2].ids[place])


def test_a_label_that_the_prompt_does_not_list_is_not_judged(tokenizer):
    trace = annotated(tokenizer, shown=(2, 0, 3))
    assert {at.own.label for at in trace.judgements} == {0, 3}
    assert all(1 not in [other.label for other in at.others] for at in trace.judgements)
    assert annotated(tokenizer, shown=(1,)).judgements == (), "one candidate has no others"


def test_in_the_format_the_candidates_are_those_of_the_shortlist(tokenizer):
    line = f"{traces.mark(LABELS[1])}, not {traces.mark(LABELS[3])}"
    trace = trace_parser.parse(traces.write("heart", LABELS[1:], [line], LABELS[1:2]), SPACE, "u", DOCUMENT)
    whole = annotate_trace(trace, [1], [1], SPACE, tokenizer)
    assert [LABELS[at.own.label] for at in whole.judgements] == ["Heart failure", "Fever"]
    for at in whole.judgements:
        assert {other.label for other in at.others} | {at.own.label} == {1, 2, 3}
        assert whole.cot.start < at.own.listed.start < at.queries.start
        assert said(tokenizer, whole, at.own.listed) == LABELS[at.own.label]
    assert said(tokenizer, whole, whole.judgements[0].queries, 1).endswith(LABELS[1])
    assert said(tokenizer, whole, whole.judgements[1].queries, 1).endswith(LABELS[3])
