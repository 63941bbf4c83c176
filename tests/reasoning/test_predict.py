"""What is asked of a teacher, and what is made of its words: nothing is lost, rankings follow certainty."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ctd.reasoning import predict, rank_answers, teachers
from ctd.reasoning.completions import Completion
from ctd.reasoning.models import LanguageModel
from ctd.retrieval.index import LabelIndex


class Whitespace:
    """A tokenizer of words, as far as `prompts.cut` asks for one."""

    chat_template = None
    is_fast = True
    bos_token_id = None

    def __call__(self, text, return_offsets_mapping=False, **_):
        ends = np.cumsum([len(word) + 1 for word in text.split()]) - 1
        return {"offset_mapping": [(0, end) for end in ends], "input_ids": text.split()}


@pytest.fixture
def index(space, encoder, own_cache):
    return LabelIndex.build(space, encoder)


def teacher(tuned=True, document_tokens=50):
    return teachers.Teacher(SimpleNamespace(tokenizer=Whitespace()), tuned, document_tokens, {}, None)


def completed(text, certainty=None):
    """A completion whose lines have the log-probabilities of `certainty`, others -1 each."""
    offsets, logprobs, start = [], [], 0
    for line in text.splitlines(keepends=True):
        offsets.append((start, start + len(line)))
        logprobs.append((certainty or {}).get(line.strip().removeprefix("- "), -1.0))
        start += len(line)
    return Completion(text, True, len(offsets), tuple(offsets), tuple(logprobs))


@pytest.fixture
def stub(monkeypatch):
    """What was asked; each prompt is answered with `stub.answer`."""
    note = SimpleNamespace(prompts=[], answer=completed(""))

    def generate(model, prompts, *_):
        note.prompts += prompts
        return [note.answer] * len(prompts)

    monkeypatch.setattr(predict, "generate", generate)
    monkeypatch.setattr(predict, "LabelLists", lambda space, tokenizer: None)
    return note


SMALL = {
    "vocab_size": 32, "hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
MEMORY = 2**24
REST = "Topics: heart\nShortlist:\n- Liver\n- Left heart\nCompare:\n</think>\nAnswer:\n- Liver\n- Left heart\n"


def test_a_whole_trace_is_read_and_ranked_by_certainty(stub, index):
    stub.answer = completed(REST, {"Liver": -3.0, "Left heart": -0.5})
    (prediction,) = predict.reason(teacher(), ["The left heart."], index, uids=["u1"])
    assert stub.prompts == ["Document: The left heart.\n<think>\n"]
    assert prediction.trace.error == ""
    assert prediction.trace.uid == "u1"
    assert prediction.trace.shortlisted == (3, 5)
    assert prediction.ranking == (5, 3)
    assert (prediction.n_items, prediction.n_exact) == (2, 2)


def by_line(text, certainty):
    """A completion whose lines have these log-probabilities, in order."""
    whole = completed(text)
    return replace(whole, logprobs=tuple(map(float, certainty)))


def test_a_label_is_as_sure_as_all_that_was_written_of_it(stub, index):
    """Lines: topics, shortlist, Liver, Left heart, compare, end, answer, Liver, Left heart."""
    stub.answer = by_line(REST, [0, 0, -4, -1, 0, 0, 0, -0.5, -2])
    (prediction,) = predict.reason(teacher(), ["d"], index)
    assert prediction.ranking == (5, 3)  # -3 before -4.5
    assert prediction.refined == (3, 5)  # -0.5 before -2
    late = REST.replace("- Liver\n- Left heart\nCompare", "- Left heart\nCompare")
    stub.answer = by_line(late, [0, 0, -9, 0, 0, 0, -0.5, -2])
    (prediction,) = predict.reason(teacher(), ["d"], index)
    assert prediction.ranking == (5, 3)  # what was not shortlisted comes last
    assert prediction.refined == (3, 5)


def test_a_text_out_of_format_is_ranked_by_its_answer(stub, index):
    stub.answer = by_line(REST.replace("</think>\n", ""), [0, 0, -4, -1, 0, 0, -0.5, -2])
    (prediction,) = predict.reason(teacher(), ["d"], index)
    assert prediction.trace.error
    assert prediction.ranking == prediction.refined == (3, 5)


def test_the_teacher_sees_as_much_of_a_document_as_it_was_trained_on(stub, index):
    (prediction,) = predict.reason(teacher(document_tokens=2), ["one two three four"], index)
    assert stub.prompts == ["Document: one two\n<think>\n"]
    assert prediction.trace.document == "one two"


def test_a_line_that_is_no_label_becomes_the_nearest_and_is_counted(stub, index):
    stub.answer = completed("x</think>\nAnswer:\n- liver / metabolism of\n- LIVER\n- Liver\n")
    (prediction,) = predict.reason(teacher(), ["d"], index)
    assert set(prediction.ranking) == {4, 3}
    assert (prediction.n_items, prediction.n_exact) == (3, 1)
    assert prediction.trace.error


@pytest.mark.parametrize("text", ["", "Answer:", "\N{SNOWMAN}" * 50, "- \n- \n", "<think>" * 9, "Answer:\n-   \n- \n"])
def test_nothing_that_is_written_loses_a_document(stub, index, text):
    stub.answer = completed(text)
    for mode in ("trace", "answer"):
        (prediction,) = predict.reason(teacher(), ["d"], index, predict.Request(mode))
        assert prediction.ranking == ()
        assert prediction.trace.document == "d"


def test_the_modes_begin_differently_and_the_candidates_stand_in_the_prompt(stub, index):
    predict.reason(teacher(), ["d"], index, predict.Request("answer"))
    predict.reason(teacher(), ["d"], index, predict.Request("candidates", [[3, 0]]))
    assert stub.prompts == ["Document: d\nAnswer:\n", "Document: d\nCandidates:\n- Liver\n- Calcium\n<think>\n"]


def test_a_model_that_was_not_tuned_is_told_the_format(stub, index):
    stub.answer = completed("<think>\nhm\n</think>\nAnswer:\n- Calcium\n")
    (prediction,) = predict.reason(teacher(tuned=False), ["the d"], index)
    assert "Shortlist:" in stub.prompts[0]
    assert "the d" in stub.prompts[0]
    assert prediction.ranking == (0,)


def test_a_shortlist_from_elsewhere_is_handed_over_behind_the_own_topics(stub, index):
    stub.answer = completed(REST)
    (prediction,) = predict.reason(teacher(), ["d"], index)
    begun = predict.with_shortlist(prediction.trace, [1, 2], index.space.texts)
    assert begun == "<think>\nTopics: heart\nShortlist:\n- Calcium/metabolism\n- Calcium/blood\nCompare:\n"
    stub.answer = completed("</think>\nAnswer:\n- Calcium/blood\n")
    (refined,) = predict.reason(teacher(), ["d"], index, predict.Request(beginnings=[begun]))
    assert stub.prompts[-1] == "Document: d\n" + begun
    assert refined.trace.shortlisted == (1, 2)
    assert refined.ranking == refined.refined == (2,)


def test_a_shortlist_that_was_handed_over_adds_nothing_to_what_was_written(stub, index):
    begun = "<think>\nTopics: heart\nShortlist:\n- Liver\n- Left heart\nCompare:\n"
    stub.answer = completed("</think>\nAnswer:\n- Liver\n- Left heart\n", {"Liver": -3.0, "Left heart": -0.5})
    (prediction,) = predict.reason(teacher(), ["d"], index, predict.Request(beginnings=[begun]))
    assert prediction.trace.error == ""
    assert prediction.ranking == prediction.refined == (5, 3)


def test_a_beginning_that_speaks_of_an_answer_has_none(stub, index):
    """The topics of a trace out of format may read so; what follows is still the shortlist that was handed over."""
    stub.answer = by_line("</think>\n", [-1])
    begun = ["<think>\nTopics: Answer:\nShortlist:\n- Liver\nCompare:\n"]
    (prediction,) = predict.reason(teacher(), ["d"], index, predict.Request(beginnings=begun))
    assert prediction.ranking == ()
    assert prediction.n_items == 0


def test_bad_input_is_one_line(index):
    with pytest.raises(ValueError, match="mode must be one of trace, candidates, answer, first, got 'guess'"):
        predict.Request("guess")
    with pytest.raises(ValueError, match="candidates= goes with mode 'candidates'"):
        predict.Request("candidates")
    with pytest.raises(ValueError, match=r"uids needs one entry a document \(1\), got 2"):
        predict.reason(teacher(), ["d"], index, uids=["a", "b"])


def test_the_summary_counts_every_document(stub, index):
    stub.answer = completed(REST)
    predictions = predict.reason(teacher(), ["a", "b"], index)
    facts = rank_answers.summary(predictions).set_index("fact")["value"]
    assert facts["documents"] == 2
    assert facts["in the format to the letter"] == 1.0
    assert facts["labels answered, mean"] == 2.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_keys_and_values_of_a_batch_fill_a_stated_part_of_an_accelerator_and_no_other_processor(dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=MEMORY))

    class Placed(LlamaForCausalLM):
        device = torch.device("cuda")

    model = Placed(LlamaConfig(**SMALL)).to(dtype)
    wide = predict._wide_batch_tokens(LanguageModel("tiny", model, None, "key"))
    cache = model(torch.arange(6)[None], use_cache=True).past_key_values
    of_six = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert wide * of_six / 6 == pytest.approx(MEMORY / predict.OF_MEMORY, rel=1e-3)
    Placed.device = torch.device("cpu")
    assert predict._wide_batch_tokens(LanguageModel("tiny", model, None, "key")) == 0
    assert predict._wide_batch_tokens(SimpleNamespace(tokenizer=None)) == 0
