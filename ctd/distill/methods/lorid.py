"""LoRID: one expert reasons at once, one recalls Phase 1, and one goes on from it; the two answers must agree."""

from __future__ import annotations

from dataclasses import replace

from ctd.distill.methods.answering import AnsweringStudent, phase_1, phase_2
from ctd.reasoning.rank_answers import Prediction

KNOWLEDGE, REASONING = "knowledge", "reasoning"


def agreeing(student: AnsweringStudent, tries: int = 4) -> list[Prediction]:
    """Three experts: one reasons at once, one writes Phase 1 and one goes on from it, until both ways agree.

    The first try takes the likeliest tokens, the others are sampled. Where no try agrees, the first answer of the
    experts of the two phases stands.

    tries: how often a document is answered at most.
    Raises ValueError for fewer than one.

    Source: LoRID, arXiv:2508.13037. Its knowledge is Phase 1 here, and the shares of steps and the rank are ours.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    knowledge, reasoning = student.experts[KNOWLEDGE], student.experts[REASONING]
    answers: dict[int, Prediction] = {}
    spent = [0] * len(student.documents)
    open_rows = list(range(len(spent)))
    for number in range(int(tries)):
        temperature = 1.0 if number else 0.0
        at_once = student.write(replace(student.request, temperature=temperature), rows=open_rows, seed=number)
        recalled = student.write(phase_1(student.request, temperature), knowledge, open_rows, number)
        gone_on = student.write(phase_2(student.request, recalled, temperature), reasoning, open_rows, number)
        agreed = set()
        for row, *written in zip(open_rows, at_once, recalled, gone_on, strict=True):
            spent[row] += sum(text.n_tokens for text in written)
            if set(written[0].ranking) == set(written[2].ranking):
                agreed.add(row)
            if row in agreed or not number:
                answers[row] = written[2]
        open_rows = [row for row in open_rows if row not in agreed]
        if not open_rows:
            break
    return [replace(answers[row], n_tokens=tokens) for row, tokens in enumerate(spent)]
