"""The trace format both ways, the lenient reader against everything a model may write, token spans, and files."""

import numpy as np
import pytest

from ctd.data.label_space import LabelSpace
from ctd.reasoning import read_text, trace_parser, traces
from ctd.reasoning.traces import Mention, Trace

TEXT = """<think>
Topics: minerals; organs
Shortlist:
- Calcium/blood
- Liver
- Left heart
Compare:
[[Calcium/blood]] over [[Calcium/metabolism]]: "serum calcium".
</think>
Answer:
- Calcium/blood
- Liver
"""
REAL = [
    "Receptors, N-Methyl-D-Aspartate/drug effects",
    "Costs & Cost Analysis (1977)",
    "Cholera due to Vibrio cholerae 01, biovar eltor; with: dehydration [severe]",
    "Toxic effect of [[nested]] brackets, \"quoted\" and 'single'",
    "Deduction. |- ( ph -> [_ A / x ]_ B ) & |- ( C \\ D ) =/= (/) => |- [ A ] ] ]",
    "|- { <. x , y >. | [. A / x ]. ps } C_ _V &#93; &#38;#10; &amp;",
    "ends in brackets ]]",
    "[[starts",
    "]",
    "[[[",
    "- Answer:",
    "</think>",
    "Compare:",
    "two\nlines",
    " spaces around ",
    "القلب الأيسر",
    "心不全",
]
NASTY = [
    "[", "]", "[[", "]]", '"', "&", "#", "&#93;", "&#10;", ";", "\n", "\r", "\\", "- ", " ", "a",
     "Ω", "ع", "|-", "</think>", "Answer:", "38", "\u2028", "Compare:",
]  # fmt: skip


def named(texts):
    """A flat label space of these texts."""
    return LabelSpace("made", [f"L{row}" for row in range(len(texts))], texts, len(texts))


def nasty(rng, n):
    """Distinct strings put together from what the format might misread."""
    strings = {"".join(rng.choice(NASTY, rng.integers(1, 9))) for _ in range(n)}
    return sorted(strings)


def random_text(rng, space):
    """A text in the format with random labels, topics and quotes."""
    texts = space.texts
    listed = [texts[row] for row in rng.permutation(len(texts))[: rng.integers(1, 7)]]
    sentences = []
    for _ in range(rng.integers(0, 4)):
        a, b = rng.permutation(len(texts))[:2]
        words = "".join(rng.choice(NASTY, 5)) or "x"
        sentences.append(f"{traces.mark(texts[a])} over {traces.mark(texts[b])}, {traces.quote(words)}; really.")
    topics = "".join(rng.choice(NASTY, 5))
    return traces.write(topics, listed, sentences, listed[: rng.integers(1, len(listed) + 1)])


@pytest.fixture
def tiny(space):
    """The seven labels, read from the text above."""
    return trace_parser.parse(TEXT, space, "u1", "Serum calcium and the liver.")


def test_every_mark_stands_where_the_text_says(tiny, space):
    text = traces.format(tiny)
    assert text == TEXT
    assert tiny.answer == ("Calcium/blood", "Liver")
    assert text[slice(*tiny.shortlist)] == "Shortlist:\n- Calcium/blood\n- Liver\n- Left heart"
    (comparison,) = tiny.comparisons
    assert text[comparison.start : comparison.end].startswith("[[Calcium/blood]] over")
    assert comparison.labels == (2, 1)
    assert comparison.quotes == ("serum calcium",)
    assert [mention.label for mention in tiny.mentions] == [2, 3, 5, 2, 1, 2, 3]
    assert all(text[start:end] == space.texts[label] for label, start, end in tiny.mentions)
    assert tiny.shortlisted == (2, 3, 5)
    assert tiny.answered == (2, 3)
    assert text[slice(*tiny.cot_span)] == tiny.cot
    assert text[slice(*tiny.answer_span)] == "- Calcium/blood\n- Liver\n"
    assert tiny.boundary == (tiny.cot.index("\nCompare:")) / len(tiny.cot)


def test_format_and_parse_undo_each_other_on_nasty_strings():
    rng = np.random.default_rng(0)
    for _ in range(300):
        space = named(nasty(rng, 12))
        text = random_text(rng, space)
        trace = trace_parser.parse(text, space, "u", "d")
        assert traces.format(trace) == text
        assert trace_parser.parse(traces.format(trace), space, "u", "d") == trace
        assert [space.texts[label] for label in trace.answered] == list(trace.answer)
        assert read_text.read(text, space) == trace_parser.parse(text, space)


@pytest.mark.parametrize("label", REAL)
def test_labels_of_every_kind_come_back_whole(label):
    space = named(["other", label])
    sentence = f"{traces.mark(label)} over {traces.mark('other')}: {traces.quote(label)}."
    trace = trace_parser.parse(traces.write("a; b", [label, "other"], [sentence], [label]), space)
    assert trace.answer == (label,)
    assert trace.shortlisted == (1, 0)
    assert trace.comparisons[0].labels == (1, 0)
    assert trace.comparisons[0].quotes == (label,)


def test_headings_and_formulas_without_clashes_stand_unescaped():
    for label in REAL[:3]:
        assert label in traces.write("t", [label], [f"{traces.mark(label)} over {traces.mark('x')}"], [label])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<think>", "<thinking>", "line 1: expected '<think>', got '<thinking>'"),
        ("Topics: minerals", "topic: minerals", "line 2: expected 'Topics: ...'"),
        ("Shortlist:\n", "", "line 3: expected 'Shortlist:'"),
        ("- Liver\n- Left", "Liver\n- Left", "line 5: expected '- ' and a label, or 'Compare:', got 'Liver'"),
        ("- Left heart", "- Left hart", "line 6: expected a label of 'tiny', got '- Left hart'"),
        ("- Left heart", "- Liver", "line 6: expected a label that the list does not hold yet"),
        ("[[Calcium/metabolism]]", "Calcium/metabolism", "line 8: expected two different labels"),
        ("[[Calcium/metabolism]]", "[[Calcium/blood]]", "line 8: expected two different labels"),
        ('"serum', '""serum', "line 8: expected brackets and quotes in pairs"),
        ("serum", "&#93;serum", "line 8: expected an escape only where one is needed"),
        ("</think>\n", "", "line 9: expected two different labels in .* or '</think>', got 'Answer:'"),
        ("Answer:\n", "", "line 10: expected 'Answer:', got '- Calcium/blood'"),
        ("- Liver\n\n", "- Liver\nand more\n", "line 13: expected '- ' and a label, got 'and more'"),
    ],
)
def test_any_departure_is_refused_with_line_and_expectation(space, old, new, message):
    broken = (TEXT + "\n").replace(old, new, 1) if old.endswith("\n\n") else TEXT.replace(old, new, 1)
    with pytest.raises(ValueError, match=f"^{message.replace('[', '.').replace('(', '.')}"):
        trace_parser.parse(broken, space)


def test_a_text_cut_anywhere_is_refused_unless_a_whole_answer_stands_and_always_read(space):
    whole = TEXT.index("- Liver\n", TEXT.index("Answer:"))
    for cut in range(len(TEXT)):
        part = TEXT[:cut]
        trace = read_text.read(part, space, document="d")
        assert (trace.error == "") == (cut == whole), part
        assert trace.document == "d"
        assert (trace.answered == ()) == (not trace.answer or trace.answer[0] not in space.texts)
        assert trace.error.startswith("no answer found; line ") == (trace.answer == () and cut != whole)
        if trace.shortlist:
            assert traces.format(trace)[slice(*trace.shortlist)].startswith("Shortlist:\n- C")


def test_a_mark_outside_the_text_is_refused():
    with pytest.raises(ValueError, match=r"marks of trace 'u' must lie within its 33 characters, got 5\.\.99"):
        Trace("u", "d", "cot", ("a",), mentions=(Mention(0, 5, 99),))
