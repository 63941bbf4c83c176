"""The lenient reader against everything that a model may write."""

import time

import numpy as np
import pytest

from ctd.reasoning import read_text, traces
from ctd.retrieval.index import Grounding, LabelIndex
from ctd.text import normalise
from tests.reasoning.test_traces import NASTY, TEXT, named, nasty, random_text


def test_the_marks_of_a_text_with_one_wrong_label_are_kept_and_the_label_is_grounded(space, encoder, own_cache):
    index = LabelIndex.build(space, encoder)
    broken = TEXT.replace("Left heart", "Left heart side").replace("- Liver\n", "- any of Liver or so\n")
    calls = []

    def ground(texts):
        calls.append(texts)
        return index.ground(texts)

    trace = read_text.read(broken, space, ground)
    assert trace.error.startswith("line 5: expected a label of 'tiny'")
    assert trace.shortlisted == (2, 3, 5)
    assert trace.answered == (2, 3)
    assert trace.comparisons[0].labels == (2, 1)
    text = trace.text
    assert text[slice(*trace.comparisons[0][:2])].startswith("[[Calcium/blood]]")
    assert {text[start:end] for _, start, end in trace.mentions} >= {
        "Calcium/blood",
        "Left heart side",
        "any of Liver or so",
    }
    assert calls == [["any of Liver or so"]]
    assert read_text.read(broken, space).answered == (2, 3)
    assert read_text.read(broken.replace("any of Liver or so", "Spleen"), space).answer == ("Calcium/blood", "Spleen")


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("<think>\nCalcium? No.\n</think>\n\n**Final answer:**\n1. **Calcium/blood**\n2. `Liver`.", (2, 3)),
        ("<think>hm Left heart</think>\n- liver\n* CALCIUM/METABOLISM\n• left   heart", (3, 1, 5)),
        ("I think of Liver.\nMore.\n## Answer\nLiver/metabolism\nRight heart", (4, 6)),
        ("Reasoning on Calcium.\nThe final answer is: Liver, Calcium/blood", (3, 2)),
        ("no tag opened here Liver</think>Answer: Liver", (3,)),
        ("Some thoughts.\n\n- Liver\n- Calcium\n", (3, 0)),
        ("<think>a</think>\n- Liver\n<think>a</think>\n- Calcium\n", (3,)),
        ("<think>\n</think>\nThe labels are:\n1) Liver because of its size\n2) Calcium", (3, 0)),
        ("<think>never closed, Liver", ()),
        ("Liver and more Liver, no list", ()),
        ("", ()),
        ("\n \n\t", ()),
        ("</think>", ()),
        ("Answer:", ()),
    ],
)
def test_free_form_reasoning_gives_its_answer(space, text, answered):
    trace = read_text.read(text, space, uid="u")
    assert trace.answered == answered or (not answered and trace.answered == ())
    assert trace.error
    assert trace.error.startswith("no answer found") == (not trace.answer)
    written = trace.text
    for label, start, end in trace.mentions:
        assert normalise(written[start:end]) == normalise(space.texts[label])


def test_labels_named_in_free_reasoning_are_marked_where_they_stand(space):
    cot = "First the LIVER, then Calcium / blood; no delivery. A left-heart problem."
    trace = read_text.read(f"<think>\n{cot}\n</think>\nAnswer: Liver", space)
    inside = [m for m in trace.mentions if m.end <= trace.cot_span.end]
    written = trace.text
    assert [(m.label, written[m.start : m.end]) for m in inside] == [
        (3, "LIVER"), (2, "Calcium / blood"), (5, "left-heart"),
    ]  # fmt: skip


def garbage():
    rng = np.random.default_rng(2)
    yield "random characters", "".join(map(chr, rng.integers(1, 0xD7FF, 100_000)))
    yield "ascii", "".join(map(chr, rng.integers(9, 127, 100_000)))
    for piece in ("[[", "]]", '"', "<think>", "</think>", "- ", " ", "\n", "1. ", "**", "Answer:\n", "a", "&#93;", ">"):
        yield repr(piece), piece * (100_000 // len(piece))
    yield "distinct items", "".join(f"- label {row}\n" for row in range(9_000))
    yield "a repeated trace", TEXT * 300
    yield "lone surrogates", "\ud800" * 50 + TEXT + "\udfff"
    yield "right to left", "Answer:\n- القلب الأيسر\n- \u202eLiver\u202c\n"
    yield "another language", "<think>\n心臓が悪い。\n</think>\n答え: 心不全"


@pytest.mark.parametrize(("name", "text"), list(garbage()), ids=lambda value: value if len(value) < 30 else "")
def test_nothing_that_a_model_writes_stops_the_reader(space, name, text):
    calls = []

    def ground(texts):
        calls.append(len(texts))
        assert all(text.strip() for text in texts)
        return [Grounding(0, 0.5, "nearest") for _ in texts]

    begun = time.process_time()
    for trace in (read_text.read(text, space), read_text.read(text, space, ground)):
        assert trace.error
        assert all(0 <= label < len(space) for label, _, _ in trace.mentions)
        traces.format(trace).encode()
    assert time.process_time() - begun < 5
    assert len(calls) <= 1
    assert max(calls, default=0) <= read_text.MOST_GROUNDED


def test_a_repeated_trace_answers_once(space):
    trace = read_text.read(TEXT * 3, space)
    assert trace.answer == ("Calcium/blood", "Liver")
    assert trace.shortlisted == (2, 3, 5)


def test_random_texts_with_one_character_changed_never_stop_the_reader():
    rng = np.random.default_rng(3)
    space = named(nasty(rng, 12))
    for _ in range(500):
        text = random_text(rng, space)
        place = rng.integers(len(text))
        changed = text[:place] + str(rng.choice(NASTY)) + text[place + rng.integers(0, 3) :]
        trace = read_text.read(changed, space)
        if not trace.error:
            assert traces.format(trace) == changed
