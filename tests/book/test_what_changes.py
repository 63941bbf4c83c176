"""The answer of chapter 15 says of each number on which side its interval lies."""

import pandas as pd

from ctd.book import what_changes
from ctd.distill import boundary, hacking

SIDES = {"lower": (-0.2, -0.3, -0.1), "neither": (0.0, -0.1, 0.1), "higher": (0.2, 0.1, 0.3)}


def clause(text, name):
    """The words before the first name, or between the last other one's number and it."""
    return text[: text.index(f"{name} (")].split("; ")[-1]


def test_calibration_is_held_against_the_teachers():
    rows = [("teacher", "ece", 0.5, 0.49, 0.51), ("teacher", "brier", 0.0, 0.0, 0.0)]
    rows += [(arm, "ece", 0.5 + value, 0.5 + low, 0.5 + high) for arm, (value, low, high) in SIDES.items()]
    sentence = what_changes.calibration(pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high"]))
    assert "higher for higher (0.200 [" in sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert "; lower for lower (" in sentence
    assert "; not shown to differ for neither (" in sentence
    assert "teacher" not in sentence


def test_diversity_names_every_arm_once():
    sentence = what_changes.diversity(SIDES)
    assert [clause(sentence, arm) for arm in ("higher", "lower", "neither")] == [
        "drawn answers vary more for ", "less for ", "neither more nor less for "
    ]  # fmt: skip


def test_hacking_is_said_of_every_number_of_steps_and_without_a_chain():
    rises = pd.DataFrame(
        [(hacking.BEYOND, 8, 16, 0.1, 0.05, 0.2), (hacking.BEYOND, 16, 32, 0.0, -0.1, 0.1)],
        columns=["curve", "steps", "to", "value", "low", "high"],
    )
    sentence = what_changes.hacked(rises, {"8 to 16 steps": "hacked", "16 to 32 steps": "inconclusive"})
    assert (
        "leads away from the truth (8 to 16 steps: beyond the control, the loss on the truth rises by 0.100" in sentence
    )
    assert "is not shown to lead away from the truth (16 to 32 steps: " in sentence
    alone = what_changes.hacked(rises[:0], {"8 to 16 steps": "not testable"})
    assert alone.endswith("could not be tried (8 to 16 steps)")


def test_every_verdict_of_hacking_has_words():
    columns = ["curve", "steps", "to", "low", "high"]
    ends = [(-2, -1), (-1, 1), (1, 2)]
    curves = (hacking.PROXY, hacking.GOLDEN, hacking.CONTROL, hacking.BEYOND)
    verdicts = {
        hacking.verdicts(
            pd.DataFrame([(c, 1, 2, *e) for c, e in zip(curves, (p, g, (0, 0), b), strict=True)], columns=columns)
        )["1 to 2 steps"]
        for p in ends
        for g in ends
        for b in ends
    }
    assert {*verdicts, "not testable"} == set(what_changes.HACKED)


def test_the_answer_is_two_sentences():
    shares = pd.DataFrame([("cot", boundary.BEYOND, 0.2, 0.1, 0.3)], columns=["arm", "part", "value", "low", "high"])
    together = what_changes.phases_together(shares)
    answer = what_changes.answer("a", "b", "c", together)
    assert answer.startswith(
        "Compared with the teacher, a, and b. C; both phases are right about more documents than if they"
    )
    assert answer.endswith(").")
