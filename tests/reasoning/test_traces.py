"""The trace format both ways, the lenient reader against everything a model may write, token spans, and files."""

import gzip
import json
import time

import numpy as np
import pytest

from ctd.data.label_space import LabelSpace
from ctd.reasoning import traces
from ctd.reasoning.traces import Comparison, Mention, Span, Trace
from ctd.retrieval.index import Grounding, LabelIndex
from ctd.text import normalise

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
    made = {"".join(rng.choice(NASTY, rng.integers(1, 9))) for _ in range(n)}
    return sorted(made)


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
    return traces.parse(TEXT, space, "u1", "Serum calcium and the liver.")


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
        trace = traces.parse(text, space, "u", "d")
        assert traces.format(trace) == text
        assert traces.parse(traces.format(trace), space, "u", "d") == trace
        assert [space.texts[label] for label in trace.answered] == list(trace.answer)
        assert traces.read(text, space) == traces.parse(text, space)


@pytest.mark.parametrize("label", REAL)
def test_labels_of_every_kind_come_back_whole(label):
    space = named(["other", label])
    sentence = f"{traces.mark(label)} over {traces.mark('other')}: {traces.quote(label)}."
    trace = traces.parse(traces.write("a; b", [label, "other"], [sentence], [label]), space)
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
        traces.parse(broken, space)


def test_a_text_cut_anywhere_is_refused_unless_a_whole_answer_stands_and_always_read(space):
    whole = TEXT.index("- Liver\n", TEXT.index("Answer:"))
    for cut in range(len(TEXT)):
        part = TEXT[:cut]
        trace = traces.read(part, space, document="d")
        assert (trace.error == "") == (cut == whole), part
        assert trace.document == "d"
        assert (trace.answered == ()) == (not trace.answer or trace.answer[0] not in space.texts)
        assert trace.error.startswith("no answer found; line ") == (trace.answer == () and cut != whole)
        if trace.shortlist:
            assert traces.format(trace)[slice(*trace.shortlist)].startswith("Shortlist:\n- C")


def test_the_marks_of_a_text_with_one_wrong_label_are_kept_and_the_label_is_grounded(space, encoder, own_cache):
    index = LabelIndex.build(space, encoder)
    broken = TEXT.replace("Left heart", "Left heart side").replace("- Liver\n", "- any of Liver or so\n")
    asked = []

    def ground(texts):
        asked.append(texts)
        return index.ground(texts)

    trace = traces.read(broken, space, ground)
    assert trace.error.startswith("line 5: expected a label of 'tiny'")
    assert trace.shortlisted == (2, 3, 5)
    assert trace.answered == (2, 3)
    assert trace.comparisons[0].labels == (2, 1)
    text = traces.format(trace)
    assert text[slice(*trace.comparisons[0][:2])].startswith("[[Calcium/blood]]")
    assert {text[start:end] for _, start, end in trace.mentions} >= {"Calcium/blood", "Left heart side", "Liver"}
    assert asked == [["any of Liver or so"]]
    assert traces.read(broken, space).answered == (2, 3)
    assert traces.read(broken.replace("any of Liver or so", "Spleen"), space).answer == ("Calcium/blood", "Spleen")


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
    trace = traces.read(text, space, uid="u")
    assert trace.answered == answered or (not answered and trace.answered == ())
    assert trace.error
    assert trace.error.startswith("no answer found") == (not trace.answer)
    written = traces.format(trace)
    for label, start, end in trace.mentions:
        assert normalise(written[start:end]) == normalise(space.texts[label])


def test_labels_named_in_free_reasoning_are_marked_where_they_stand(space):
    cot = "First the LIVER, then Calcium / blood; no delivery. A left-heart problem."
    trace = traces.read(f"<think>\n{cot}\n</think>\nAnswer: Liver", space)
    inside = [m for m in trace.mentions if m.end <= trace.cot_span.end]
    written = traces.format(trace)
    assert [(m.label, written[m.start : m.end]) for m in inside] == [
        (3, "LIVER"), (2, "Calcium / blood"), (5, "left-heart"),
    ]  # fmt: skip


def test_the_longest_label_wins_and_one_that_punctuation_tells_apart_is_known_by_it():
    space = named(["Heart", "Heart Failure", "Heart Failure, Systolic", "|- ( A + B )", "|- ( A - B )", "A B C"])
    found = traces.mentions("heart failure systolic; heart failure; Heart. |- ( A - B ) and |- ( A + B ) C", space)
    assert [mention.label for mention in found] == [2, 1, 0, 4, 5]
    assert traces.mentions("|- ( A + B )", space) == [Mention(3, 0, 12)]
    assert [m.label for m in traces.mentions("x A B", space)] == [3]


def test_mentions_agree_with_a_loop_over_the_labels():
    rng = np.random.default_rng(1)
    words = ["heart", "left", "acute", "of", "the"]
    space = named(sorted({" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(40)}))
    for _ in range(100):
        spoken = list(rng.choice([*words, "gap"], 30))
        expected, row = [], 0
        while row < len(spoken):
            fits = [t for t in space.texts if spoken[row : row + len(t.split())] == t.split()]
            longest = max(fits, key=lambda t: len(t.split()), default=None)
            if longest:
                expected.append(space.texts.index(longest))
            row += len(longest.split()) if longest else 1
        assert [mention.label for mention in traces.mentions(" ".join(spoken), space)] == expected


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
    asked = []

    def ground(texts):
        asked.append(len(texts))
        assert all(text.strip() for text in texts)
        return [Grounding(0, 0.5, "nearest") for _ in texts]

    begun = time.process_time()
    for trace in (traces.read(text, space), traces.read(text, space, ground)):
        assert trace.error
        assert all(0 <= label < len(space) for label, _, _ in trace.mentions)
        traces.format(trace).encode()
    assert time.process_time() - begun < 5
    assert len(asked) <= 1
    assert max(asked, default=0) <= traces.MOST_GROUNDED


def test_a_repeated_trace_answers_once(space):
    trace = traces.read(TEXT * 3, space)
    assert trace.answer == ("Calcium/blood", "Liver")
    assert trace.shortlisted == (2, 3, 5)


def test_random_texts_with_one_character_changed_never_stop_the_reader():
    rng = np.random.default_rng(3)
    space = named(nasty(rng, 12))
    for _ in range(500):
        text = random_text(rng, space)
        place = rng.integers(len(text))
        changed = text[:place] + str(rng.choice(NASTY)) + text[place + rng.integers(0, 3) :]
        trace = traces.read(changed, space)
        if not trace.error:
            assert traces.format(trace) == changed


def test_a_mark_outside_the_text_is_refused():
    with pytest.raises(ValueError, match=r"marks of trace 'u' must lie within its 33 characters, got 5\.\.99"):
        Trace("u", "d", "cot", ("a",), mentions=(Mention(0, 5, 99),))


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE tokenizer, learnt from a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT] * 3, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")


def test_token_spans_hold_the_characters_and_no_token_more(tiny, tokenizer):
    text = "Prompt, 心不全 ü:\n" + traces.format(tiny)
    shift = len(text) - len(traces.format(tiny))
    spans = [Span(m.start + shift, m.end + shift) for m in tiny.mentions] + [Span(8, 10), Span(0, len(text))]
    for special in (False, True):
        encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        offsets = encoded["offset_mapping"]
        for span, found in zip(spans, traces.token_spans(text, spans, tokenizer, special), strict=True):
            inside = [row for row, (a, b) in enumerate(offsets) if max(a, span.start) < min(b, span.end)]
            assert list(range(*found)) == inside
            assert text[slice(*span)] in tokenizer.decode(encoded["input_ids"][slice(*found)])
    assert traces.token_spans(text, spans, tokenizer, True)[-1].start == 1


def test_token_spans_refuse_what_they_cannot_map(tokenizer):
    with pytest.raises(ValueError, match=r"a span must lie within the text's 3 characters, got 1\.\.9"):
        traces.token_spans("abc", [(1, 9)], tokenizer)
    with pytest.raises(ValueError, match=r"got 2\.\.2"):
        traces.token_spans("abc", [(2, 2)], tokenizer)
    with pytest.raises(ValueError, match="tokenizer must be a fast one"):
        traces.token_spans("abc", [(0, 1)], type("Slow", (), {"is_fast": False})())


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.jsonl.gz"])
def test_saved_traces_come_back_equal_and_the_file_is_the_same_each_time(tiny, space, tmp_path, name):
    kept = [tiny, traces.read("心不全\u2028 Liver", space, uid="2"), Trace("3", "", "", (), error="line 1")]
    path = tmp_path / "deep" / name
    traces.save(kept, path)
    assert traces.load(path) == kept
    assert isinstance(traces.load(path)[0].comparisons[0], Comparison)
    assert isinstance(traces.load(path)[0].shortlist, Span)
    first = path.read_bytes()
    traces.save(iter(kept), path)
    assert path.read_bytes() == first
    lines = (gzip.decompress(first) if name.endswith("gz") else first).decode().split("\n")
    assert json.loads(lines[0])["uid"] == "u1"


def test_a_save_that_fails_leaves_the_old_file(tiny, tmp_path):
    path = tmp_path / "traces.jsonl"
    traces.save([tiny], path)

    def broken():
        yield tiny
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        traces.save(broken(), path)
    assert traces.load(path) == [tiny]
    assert [file.name for file in tmp_path.iterdir()] == ["traces.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("cot"), "cot: Field required"),
        (lambda row: row.update(extra=1), "extra: Unexpected keyword argument"),
        (lambda row: row.update(uid=3), "uid: Input should be a valid string"),
        (lambda row: row.update(mentions=[[1, 2]]), "mentions"),
        (lambda row: row.update(mentions=[[0, 5, 9999]]), "must lie within its"),
    ],
)
def test_a_line_that_is_no_trace_is_refused_with_file_and_line(tiny, tmp_path, change, message):
    path = tmp_path / "traces.jsonl"
    traces.save([tiny, tiny], path)
    good, bad = path.read_text().splitlines()
    row = json.loads(bad)
    change(row)
    path.write_text(f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(ValueError, match=f"traces.jsonl, line 2: .*{message}"):
        traces.load(path)


def test_a_torn_file_is_refused(tiny, tmp_path):
    path = tmp_path / "traces.jsonl.gz"
    traces.save([tiny] * 50, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="traces.jsonl.gz, after line .*not a whole gzip file"):
        traces.load(path)
