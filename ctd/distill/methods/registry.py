"""The registry of methods: one line each. Command line, notebooks, keys and tests read it."""

from __future__ import annotations

from ctd.distill.methods.divergences import forward_kl, reverse_kl
from ctd.distill.methods.mechanistic import mechanistic
from ctd.distill.methods.method import Method, Need
from ctd.distill.methods.texts import answer_examples

TEACHER = frozenset[Need]({"distribution"})
OPEN = "Frontier open-source LLMs, arXiv:2410.18588"

METHODS = {
    "answer": Method(
        examples=answer_examples, mode="answer", cost=0.7, whole_traces=False, source=OPEN, known="abstract"
    ),
    "cot": Method(source=OPEN, known="abstract"),
    "fkl": Method(loss=forward_kl, needs=TEACHER, cost=1.1, source="Hinton et al. (2015), arXiv:1503.02531"),
    "rkl": Method(loss=reverse_kl, needs=TEACHER, cost=1.1, source="Gu et al. (2024), arXiv:2306.08543"),
    "mechanistic": Method(
        loss=mechanistic, needs=frozenset({"heads"}), cost=1.1, source="the paper, arXiv:2606.06840", known="abstract"
    ),
}
