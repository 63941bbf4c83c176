"""Forced answers: probabilities by a plain forward pass, where windows slide too, and what a fall is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from ctd.data.label_space import LabelSpace
from ctd.mechanism import forced_answers
from ctd.mechanism.cot_prefixes import prefixes
from ctd.mechanism.forced_answers import Question, falls, near_shares, weighed
from ctd.reasoning import free_text, trace_parser, traces
from ctd.reasoning.models import LanguageModel

GRID = np.array([0.0, 0.3, 0.6, 1.0])
SIZES = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}  # fmt: skip
QUESTION = Question("Document: a b c\n\n", "Topics: fruit\nShortlist:\n- apple\n- pear\nCompare:", "apple", "pears!")


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": list(text.encode())}


def language_model(kind, config):
    torch.manual_seed(0)
    return LanguageModel("tiny", kind(config).eval(), Bytes(), "tiny")


@pytest.fixture(params=["full", "sliding"])
def model(request):
    if request.param == "full":
        return language_model(LlamaForCausalLM, LlamaConfig(**SIZES))
    return language_model(MistralForCausalLM, MistralConfig(**SIZES, sliding_window=16))


def plain(model, question, cut):
    """The share by one whole forward pass a label."""
    before = question.prompt + traces.OPEN + cut + traces.CLOSE + traces.ANSWER
    logprobs = [logprob(model, before, label) for label in (question.gold, question.near)]
    return 1 / (1 + np.exp(logprobs[0] - logprobs[1]))


def logprob(model, before, label):
    """ln p of a label's line behind a text."""
    before, named = (model.tokenizer(text)["input_ids"] for text in (before, traces.item_line(label)))
    with torch.no_grad():
        logits = model.model(torch.tensor([before + named])).logits[0].log_softmax(-1)
    return logits[len(before) - 1 : -1].gather(1, torch.tensor(named)[:, None]).sum().item()


def test_a_share_is_that_of_plain_forward_passes(model):
    shares = near_shares(model, [QUESTION], GRID)
    expected = [plain(model, QUESTION, cut) for cut in prefixes(QUESTION.cot, GRID)]
    np.testing.assert_allclose(shares, [expected], rtol=1e-3)
    assert np.ptp(expected) > 1e-4


def test_a_model_that_reasons_by_itself_is_made_to_answer_in_its_own_form(model):
    space = LabelSpace("fruit", ["a", "p"], ["apple", "pear"], 2)
    text = "<think>It is red. An apple fits better than a pear.</think>\nLabels:\n- apple\n"
    trace, _ = free_text.read(text, free_text.ShownLabels(space, [0, 1], lambda _: 0), "u", "red")
    trace = replace(trace, prompt="Which?\n")
    question = forced_answers.question(trace, trace.cot, "apple", "pear", natural=True)
    assert question.asked("It is red.") == "Which?\n<think>It is red.\n</think>\n\nLabels:\n"
    plain_text = replace(question, begun="")
    assert plain_text.asked("It is red. ") == "Which?\nIt is red.\n\nLabels:\n"
    tuned = forced_answers.question(trace, trace.cot, "apple", "pear", natural=False)
    assert tuned.asked("cut") == "Which?\n<think>\ncut\n</think>\nAnswer:\n"
    shares = near_shares(model, [question, tuned], GRID)
    expected = []
    for cut in prefixes(trace.cot, GRID):
        logprobs = [logprob(model, question.asked(cut), label) for label in ("apple", "pear")]
        expected.append(1 / (1 + np.exp(logprobs[0] - logprobs[1])))
    np.testing.assert_allclose(shares[0], expected, rtol=1e-3)
    assert np.abs(shares[0] - shares[1]).max() > 1e-4


def test_labels_exchanged_give_the_rest_and_no_cot_gives_nothing(model):
    other = Question(QUESTION.prompt, QUESTION.cot, QUESTION.near, QUESTION.gold)
    empty = Question(QUESTION.prompt, " ", "apple", "pear")
    shares = near_shares(model, [QUESTION, other, empty], GRID)
    np.testing.assert_allclose(shares[0] + shares[1], 1, rtol=1e-5)
    assert np.isnan(shares[2]).all()


def test_a_fall_is_from_the_boundary_to_the_end():
    shares = np.array([[0.2, 0.4, 0.6, 0.1], [0.2, np.nan, 0.6, 0.1], [0.2, 0.4, 0.6, 0.1]])
    drops = falls(shares, np.array([0.45, 0.5, np.nan]), GRID)
    np.testing.assert_allclose(drops, [0.5 - 0.1, np.nan, np.nan])


def test_what_is_weighed_is_a_gold_label_against_another():
    space = LabelSpace("fruit", list("abcd"), ["apple", "pear", "plum", "fig"], 4)
    pairs = [("apple", "pear"), ("plum", "fig"), ("fig", "apple")]
    lines = [f"{traces.mark(gold)} rather than {traces.mark(near)}." for gold, near in pairs]
    trace = trace_parser.parse(traces.write("fruit", ["apple"], lines, ["apple"]), space)
    assert weighed(trace, {2}) == (2, 3)
    assert weighed(trace, {0, 1}) == (0, 3), "two gold labels are not weighed against a near miss"
    assert weighed(trace, {0, 1, 2, 3}) is None


def test_a_curve_is_the_mean_over_documents_that_have_one():
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.5, 0.6], [np.nan] * 4])
    table = forced_answers.curve("own", shares, GRID)
    assert table["estimate"].tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert set(table["n"]) == {2}


def test_falls_are_compared_over_the_documents_that_are_known_in_all():
    table = forced_answers.fallen({"own": np.array([0.4, 0.2, np.nan]), "shuffled": np.array([0.1, 0.3, 0.2])})
    assert table[["text", "control", "baseline", "n"]].fillna("").values.tolist() == [
        ["own", "", "", 2], ["shuffled", "shuffled", "", 2], ["own minus shuffled", "", "shuffled", 2],
    ]  # fmt: skip
    assert table["value"].tolist() == pytest.approx([0.3, 0.2, 0.1])
    nothing = np.full(2, np.nan)
    assert forced_answers.fallen({"own": nothing, "shuffled": nothing}).empty
