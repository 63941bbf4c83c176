"""Where things stand in a passage's tokens, read back as text."""

from dataclasses import replace
from itertools import pairwise

import pytest

from ctd.data import readers
from ctd.data.readers import organism as vignettes
from ctd.reasoning import annotate, models, prompts, traces
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.token_spans import Span
from ctd.recipes import organism_texts
from ctd.text import stems, words


@pytest.fixture(scope="module")
def space():
    return vignettes.label_space()


@pytest.fixture(scope="module")
def tokenizer():
    return models.load("organism", dtype="float32").tokenizer


@pytest.fixture(scope="module")
def cases():
    return organism_texts.cases("test", 20)


@pytest.fixture(scope="module")
def case_traces(cases, space):
    return [organism_texts.trace(case, space, seed=0) for case in cases]


@pytest.fixture(scope="module")
def annotated_traces(cases, case_traces, space, tokenizer):
    anchors = [space.anchors(case.labels, 2) for case in cases]
    return annotate.annotate_traces(case_traces, [case.labels for case in cases], anchors, space, tokenizer)[0]


def text(tokenizer, annotated, span, shift=0):
    """What the tokens of a span say; shift 1 for a span of queries: what they predict."""
    return tokenizer.decode(annotated.ids[span.start + shift : span.end + shift])


def test_spans_say_what_they_are_of(annotated_traces, case_traces, space, tokenizer, cases):
    assert len(annotated_traces) == len(cases)
    for annotated, trace, case in zip(annotated_traces, case_traces, cases, strict=True):
        assert annotated.uid == case.uid
        assert tokenizer.decode(annotated.ids) == prompts.plain(case.text) + traces.format(trace)
        assert text(tokenizer, annotated, annotated.document).strip() == " ".join(case.text.split())
        assert text(tokenizer, annotated, annotated.cot, 1).strip() == trace.cot.strip()
        assert text(tokenizer, annotated, annotated.topics, 1).strip() == trace.cot.split("\n")[0].removeprefix(
            "Topics: "
        )
        late = text(tokenizer, annotated, Span(annotated.boundary, annotated.cot.end), 1)
        assert late.lstrip().startswith("Compare:")
        assert text(tokenizer, annotated, annotated.early, 1).strip().endswith(space.texts[trace.shortlisted[-1]])


def test_comparisons_name_both_labels_and_what_tells_them_apart(annotated_traces, case_traces, space, tokenizer, cases):
    compared, sides = 0, set()
    for annotated, trace, case in zip(annotated_traces, case_traces, cases, strict=True):
        whole = traces.format(trace)
        spoken = [whole[c.start : c.end].strip() for c in trace.comparisons]
        assert [text(tokenizer, annotated, pair.queries, 1).strip() for pair in annotated.comparisons] == spoken
        for pair, comparison in zip(annotated.comparisons, trace.comparisons, strict=True):
            compared += 1
            assert pair.gold in case.labels
            assert pair.near in case.denied
            for label, mentions in ((pair.gold, pair.gold_mentions), (pair.near, pair.near_mentions)):
                assert mentions
                for mention in mentions:
                    assert text(tokenizer, annotated, mention).strip("- []\n") == space.texts[label].strip("[]")
                    assert mention.end <= pair.queries.start + 1
            assert pair.gold_token != pair.near_token
            first = comparison.labels[0]
            assert len(pair.decided) == (first == pair.gold)
            sides.add(first == pair.gold)
            for query in pair.decided:
                assert annotated.ids[query + 1] == pair.gold_token
                assert query in range(*pair.queries)
                before = tokenizer.decode(annotated.ids[pair.queries.start + 1 : query + 1])
                assert "]]" not in before
            lines = [tokenizer.decode(tokenizer(f"- {space.texts[n]}\n")["input_ids"]) for n in (pair.gold, pair.near)]
            before = [line.split(tokenizer.decode([token]))[0] for line, token in zip(lines, pair[3:5], strict=True)]
            assert before[0].startswith(before[1]) or before[1].startswith(before[0])
    assert compared > 20
    assert sides == {True, False}


def test_sentences_and_lines_of_the_shortlist_stand_side_by_side(annotated_traces, case_traces, space, tokenizer):
    for annotated, trace in zip(annotated_traces, case_traces, strict=True):
        assert (annotated.sentences[0].start, annotated.sentences[-1].end) == annotated.document
        assert all(left.end == right.start for left, right in pairwise(annotated.sentences))
        texts = [text(tokenizer, annotated, span) for span in annotated.sentences]
        assert [sentence.strip(" .") for sentence in texts] == trace.document.removesuffix(".").split(". ")
        lines = [f"- {space.texts[label]}\n" for label in trace.shortlisted]
        assert [text(tokenizer, annotated, span) for span in annotated.shortlist] == lines


def test_anchors_are_spelt_and_found_in_the_document_by_their_stems(annotated_traces, space, tokenizer, cases):
    for annotated, case in zip(annotated_traces, cases, strict=True):
        names = [space.texts[node] for node in space.anchors(case.labels, 2)]
        assert tokenizer.decode(annotated.anchors).split() == " ".join(names).split()
        anchor_stems = {stem for name in names for stem in stems(name)}
        for mention in annotated.anchor_mentions:
            assert annotated.document.start <= mention.start < mention.end <= annotated.document.end
            assert {word.stem for word in words(text(tokenizer, annotated, mention))} & anchor_stems
    assert sum(len(annotated.anchor_mentions) for annotated in annotated_traces) > len(annotated_traces)


def test_stages_divide_the_cot(annotated_traces):
    for annotated in annotated_traces:
        stages = annotated.stages(5)
        assert stages[0].start == annotated.cot.start
        assert stages[-1].end == annotated.cot.end
        assert all(a.end == b.start for a, b in pairwise(stages))


def test_what_has_no_passage_is_counted_by_its_reason(case_traces, space, tokenizer, cases):
    empty = replace(case_traces[1], cot="", shortlist=None, comparisons=(), mentions=())
    gold = [cases[n].labels for n in range(4)]
    anchors = [space.anchors(labels, 2) for labels in gold]
    anchors[2] = []
    some = [case_traces[0], empty, *case_traces[2:4]]
    annotated, left_out = annotate.annotate_traces(some, gold, anchors, space, tokenizer)
    assert [passage.uid for passage in annotated] == [cases[0].uid, cases[3].uid]
    assert left_out == {annotate.NO_COT: 1, annotate.NO_ANCHOR: 1}
    longest = len(annotated[0].ids)
    annotated, left_out = annotate.annotate_traces(
        case_traces[:1], gold[:1], anchors[:1], space, tokenizer, longest - 1
    )
    assert not annotated
    assert left_out == {annotate.TOO_LONG: 1}
    for trace, above, reason in ((empty, [1], "has no CoT"), (case_traces[0], [], "has no anchor")):
        with pytest.raises(ValueError, match=reason):
            annotate.annotate_trace(trace, gold[0], above, space, tokenizer)


def test_a_free_form_trace_has_its_boundary_in_the_middle_and_no_comparisons(case_traces, space, tokenizer, cases):
    free = replace(case_traces[0], cot="I think of many things here.\n", shortlist=None, comparisons=(), mentions=())
    annotated = annotate.annotate_trace(
        free, cases[0].labels, [int(space.anchors(cases[0].labels, 2)[0])], space, tokenizer
    )
    assert annotated.topics.start == annotated.topics.end
    assert annotated.boundary - annotated.cot.start == round(0.5 * (annotated.cot.end - annotated.cot.start))
    assert annotated.comparisons == ()


@pytest.mark.parametrize("decides", ["answer", "gold"])
def test_passages_of_a_task_are_those_of_its_traces(decides, cases, space, tokenizer):
    task = readers.load("organism", n_documents=300).sample("test", 12, 0)
    by_uid = {case.uid: case for case in organism_texts.cases("test", 60)}
    written = [organism_texts.trace(by_uid[uid], space, 0) for uid in task.documents["test"]["uid"]]
    predictions = [Prediction(trace, trace.answered[:1], (), 0, True, 1, 1) for trace in written]
    annotated_traces, left_out = annotate.annotate_task(task, predictions, tokenizer, 2, 1, decides)
    assert [annotated.uid for annotated in annotated_traces] == [trace.uid for trace in written]
    assert not left_out
    for annotated, trace in zip(annotated_traces, written, strict=True):
        labels = by_uid[annotated.uid].labels
        (above,) = space.anchors(labels, 2)[:1]
        assert tokenizer.decode(annotated.anchors).strip() == space.texts[above]
        deciding = set(labels) if decides == "gold" else {trace.answered[0]}
        assert [pair.gold for pair in annotated.comparisons] == [label for label in labels if label in deciding]
