"""Methods learn from the same traces, and arms refuse settings that mean nothing."""

from dataclasses import replace

import pytest

from ctd.distill import methods
from ctd.distill.methods import Arm
from tests.distill.conftest import COT, FULL


def test_every_arm_learns_the_same_traces(experiment):
    tokenizer = experiment.language_model.tokenizer
    whole = methods.trace_examples(experiment)
    assert len(whole) == len(experiment.annotated_traces) == 6
    for example, trace in zip(whole, experiment.traces, strict=True):
        text = tokenizer.decode(example.ids)
        assert text.endswith(f"{trace.answer[-1]}\n{tokenizer.eos_token}")
        assert tokenizer.decode(example.ids[: example.n_prompt]).endswith("<think>\n")
    for example, trace in zip(methods.answer_examples(experiment), experiment.traces, strict=True):
        learned = tokenizer.decode(example.ids[example.n_prompt :])
        assert learned == "".join(f"- {text}\n" for text in trace.answer) + tokenizer.eos_token
        assert "<think>" not in tokenizer.decode(example.ids)


def test_bad_arms_are_refused():
    with pytest.raises(ValueError, match=f"method must be one of {', '.join(methods.METHODS)}, got 'luck'"):
        Arm("luck", "luck")
    with pytest.raises(ValueError, match=f"base_loss must be one of {', '.join(methods.base_losses())}, got 'answer'"):
        replace(FULL, base_loss="answer")
    with pytest.raises(ValueError, match="base_loss is what the mechanistic terms are added to, and cot has none"):
        replace(COT, base_loss="fkl")
    with pytest.raises(ValueError, match="step_multiplier must be above 0, got 0"):
        replace(COT, step_multiplier=0)
