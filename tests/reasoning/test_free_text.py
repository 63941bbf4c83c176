"""Free text: its answer whatever the form, within the labels shown, and the marks of its phases."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.data.label_space import LabelSpace
from ctd.reasoning import free_text
from ctd.reasoning.free_text import ShownLabels, read

TEXTS = [
    "Heart failure, unspecified", "Acute systolic (congestive) heart failure",
    "Chronic systolic (congestive) heart failure", "Acute pulmonary edema", "Hypertensive emergency", "Fluid overload",
]  # fmt: skip
SPACE = LabelSpace("tiny", list("abcdef"), TEXTS, 6)
NEAREST = 5
THOUGHT = "Acute pulmonary edema matches the document.\n\n"


def shown(labels=range(6)):
    return ShownLabels(SPACE, list(labels), lambda text: NEAREST)


def answer(text, labels=range(6)):
    return read(text, shown(labels))[1]


@pytest.mark.parametrize(
    "form",
    [
        "Labels:\n- {0}\n- {1}\n", "Labels:\n1. {0}\n2. {1}", "**Labels:**\n\n* **{0}**\n* **{1}**\n",
        "### Labels\n{0}\n{1}\n", "Labels: {0}, {1}", "Final answer: {0}; {1}.", "These fit:\n1) {0}\n2) {1}",
        "Labels:\n- {0}: it says so, and at length, in the document\n- {1} (as it says there)\n",
        "Labels:\n- {0}\n- {1}\n\n### Explanation:\n- {2} is not mentioned.\n- Nor is anything else.",
        "<think>\nLabels:\n- {2}\n</think>\n\n{0}\n{1}", "</think>\nLabels:\n- {0}\n- {1}",
        "Key points:\n1. a heart\n2. a lung\n\nSo the labels are **{0}** and **{1}**", "Labels:\n{0}\n{1}\n\nNot {2}.",
        "Labels:\n- {2}\n\nNo, again.\n\nLabels:\n- {0}\n- {1}\n- {0}",
    ],
)  # fmt: skip
def test_an_answer_is_read_in_any_form(form):
    text = THOUGHT + form.format(TEXTS[1], TEXTS[4], TEXTS[2])
    trace, parsed = read(text, shown(), "u", "d")
    assert parsed.labels == (1, 4)
    assert trace.answer == (TEXTS[1], TEXTS[4])
    assert [trace.text[slice(*place)] for place in parsed.places] == [TEXTS[1], TEXTS[4]]
    assert trace.text == text
    assert (trace.uid, trace.document, trace.error) == ("u", "d", free_text.FREE)
    assert TEXTS[1] not in trace.cot
    assert trace.cot.startswith(THOUGHT.strip()) or "<think>" in text


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("whole", [["x"], {"labels": ["x"]}, {"why": "it says so", "labels": ["x"]}])
@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Labels:\n```json\n{}\n```\nThese fit.", "Labels: {}"])
def test_json_is_read_by_its_strings(around, whole, indent):
    labels = [TEXTS[1], TEXTS[4]]
    value = labels if isinstance(whole, list) else whole | {"labels": labels}
    text = THOUGHT + around.format(json.dumps(value, indent=indent)).replace("{}", "")
    if around.startswith(("{}", "`")):
        text = "</think>\n" + text.removeprefix(THOUGHT)
    parsed = answer(text)
    assert (parsed.labels, parsed.n_items, parsed.n_exact) == ((1, 4), 2, 2)


def test_an_item_that_is_no_label_is_the_nearest_and_prose_is_none():
    assert answer("Labels:\n- water in the lung\n- Acute pulmonary edema").labels == (NEAREST, 3)
    assert answer("Labels:\nNone of these labels describes the document, as far as I can see from it.").labels == ()
    assert answer("Labels:\n- Acute systolic heart failure").labels == (1,)


def test_the_parts_of_a_line_between_commas_are_labels():
    text = "Labels: Acute pulmonary edema, water in the lung, Heart failure, unspecified, Hypertensive emergency"
    parsed = answer(text)
    assert parsed.labels == (3, NEAREST, 0, 4)
    assert text[slice(*parsed.places[1])] == "water in the lung"


def test_a_list_of_something_else_is_no_answer():
    text = "Key points:\n1. a heart\n2. a lung\n\nSecond, write the labels that describe the document."
    assert answer(text).labels == ()


def test_only_labels_that_were_shown_count():
    assert answer("Labels:\n- Acute pulmonary edema\n- Hypertensive emergency", [4, 5]).labels == (NEAREST, 4)


@pytest.mark.parametrize("text", ["", "Labels:", "Labels:\n- \n-", "{", '{"labels": []}', "<think>", "I do not know."])
def test_no_answer_is_none_and_says_so(text):
    trace, parsed = read(text, shown())
    assert (parsed.labels, trace.error, trace.text) == ((), free_text.NO_ANSWER, text)


@given(st.text(alphabet='abA-*:,.\n{}[]"<>/123é ', max_size=80))
def test_no_text_makes_it_raise_and_marks_lie_in_the_text(noise):
    for text in (noise, f"{noise}\nLabels:\n{noise}", f"<think>{noise}{TEXTS[3]}</think>{noise}"):
        trace, parsed = read(text, shown())
        assert trace.text == text
        assert len(parsed.labels) <= 6
        assert all(0 <= place.start < place.end <= len(text) for place in parsed.places)


def test_phase_1_ends_where_the_last_new_label_is_named():
    cot = "Hypertensive emergency? Acute pulmonary edema? Hypertensive emergency is excluded."
    trace, _ = read(f"{cot}\n\nLabels:\n- Fluid overload", shown())
    assert cot[slice(*trace.shortlist)] == "Hypertensive emergency? Acute pulmonary edema"
    assert trace.shortlisted == (4, 3)
    assert trace.boundary == pytest.approx(len("Hypertensive emergency? Acute pulmonary edema") / len(cot))
    assert read("Nothing.\n\nLabels:\n- Fluid overload", shown())[0].boundary is None


def test_comparisons_weigh_two_labels_and_verdicts_one():
    sentences = [
        "The labels are Acute pulmonary edema and Fluid overload.",
        "Acute pulmonary edema fits better than Fluid overload.",
        "Hypertensive emergency is not mentioned.",
        "Acute systolic heart failure, Fluid overload and Acute pulmonary edema match.",
        "The document mentions a heart.",
    ]
    trace, _ = read("\n".join(sentences) + "\n\nLabels:\n- Fluid overload", shown())
    assert [trace.text[c.start : c.end] for c in trace.comparisons] == sentences[1:2]
    assert trace.comparisons[0].labels == (3, 5)
    assert [(trace.text[v.start : v.end], v.label) for v in free_text.verdicts(trace)] == [(sentences[2], 4)]
