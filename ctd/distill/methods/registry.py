"""The registry of methods: one line each. Command line, notebooks, keys and tests read it."""

from __future__ import annotations

from collections.abc import Callable

from ctd.distill.methods.choosing import accepted, best_by_steps, hard_but_solved, in_between
from ctd.distill.methods.chunks import chunk_examples, shortened
from ctd.distill.methods.copt import both_orders, where_unsure
from ctd.distill.methods.dac import dac
from ctd.distill.methods.dasd import cool_samples, divergent_samples, mixed_policy
from ctd.distill.methods.ddk import ddk
from ctd.distill.methods.dear import phase_2, pointwise
from ctd.distill.methods.divergences import forward_kl, jensen_shannon, reverse_kl, skew
from ctd.distill.methods.genssd import chosen_by_student
from ctd.distill.methods.hard import disturbed_examples
from ctd.distill.methods.lelp import lelp
from ctd.distill.methods.lorid import KNOWLEDGE, REASONING, agreeing
from ctd.distill.methods.mechanistic import mechanistic
from ctd.distill.methods.method import WEIGHTS, Known, Method, Need, Recipe, Stage
from ctd.distill.methods.pairs import flawed_pairs, kto, orpo, redi, sampled_pairs
from ctd.distill.methods.pgkd import where_it_fails
from ctd.distill.methods.planning import best_of_plans
from ctd.distill.methods.pld import pld, pld_labels
from ctd.distill.methods.policy import kdrl, own_samples, rlvr, trrd
from ctd.distill.methods.pst import answers_before_reasoning, pst
from ctd.distill.methods.semcot import paused_answers, pauses, semcot
from ctd.distill.methods.shortening import by_difficulty, retraced
from ctd.distill.methods.taid import Taid
from ctd.distill.methods.texts import answer_examples, answer_first, plans, right_traces, trace_examples
from ctd.distill.methods.tgeo import all_but_held, tgeo
from ctd.distill.methods.told import opsd, own_texts_told, told_traces
from ctd.distill.methods.trg import trg
from ctd.distill.methods.tsd import tsd
from ctd.distill.methods.warmup import toy_examples
from ctd.distill.methods.writers import by_writer, few_traces
from ctd.distill.token_loss import Loss

TEACHER = frozenset[Need]({"distribution"})
STATES = frozenset[Need]({"hidden"})
GOLD = frozenset[Need]({"gold"})
SAMPLES = frozenset[Need]({"samples"})
OPEN = "Frontier open-source LLMs, arXiv:2410.18588"


def of_rounds(
    loss: Callable[..., Loss], examples: Recipe, source: str, known: Known, first: Recipe = trace_examples
) -> Method:
    """A method of three rounds of the student's own texts; their shares and rate are ours.

    first: the recipe of the stage before them, which teaches the format.
    """
    rounds = [Stage(loss=loss, examples=examples, share=0.2, rate=0.1)] * 2
    return Method(
        loss=loss,
        examples=examples,
        before=(Stage(examples=first, share=0.4), *rounds),
        rate=0.1,
        needs=GOLD,
        cost=3.0,
        whole_traces=False,
        source=source,
        known=known,
    )


METHODS = {
    "answer": Method(
        examples=answer_examples, mode="answer", cost=0.7, whole_traces=False, source=OPEN, known="abstract"
    ),
    "cot": Method(source=OPEN, known="abstract"),
    "fkl": Method(
        loss=forward_kl, needs=TEACHER, cost=1.1, known="third party", source="Hinton et al. (2015), arXiv:1503.02531"
    ),
    "rkl": Method(
        loss=reverse_kl, needs=TEACHER, cost=1.1, known="third party", source="Gu et al. (2024), arXiv:2306.08543"
    ),
    "filtered": Method(examples=right_traces, needs=GOLD, source="our control", known="ours"),
    "jsd": Method(
        loss=jensen_shannon, needs=TEACHER, cost=1.1, known="code", source="Agarwal et al. (2024), arXiv:2306.13649"
    ),
    "skew": Method(tokens=skew, needs=TEACHER, cost=1.2, known="paper", source="Ko et al. (2024), arXiv:2402.03898"),
    "taid": Method(tokens=Taid, needs=TEACHER, cost=1.2, known="code", source="Shing et al. (2025), arXiv:2501.16937"),
    "pld": Method(tokens=pld, needs=TEACHER, cost=1.3, known="third party", source="arXiv:2506.12542"),
    "pld-labels": Method(
        loss=pld_labels,
        needs=TEACHER,
        cost=1.3,
        source="arXiv:2506.12542, applied to labels",
        searched={"weight": (0.03, 0.1, 0.3, 1.0)},
    ),
    "tsd": Method(loss=tsd, needs=TEACHER, cost=1.6, known="code", source="Kim and Baek (2026), arXiv:2603.13260"),
    "first": Method(
        examples=answer_first,
        mode="first",
        whole_traces=False,
        source="arXiv:2404.09170v2",
        known="third party",
        searched={"answer_weight": (0.3, 0.5, 0.7, 0.9)},
    ),
    "cwt": Method(
        examples=chunk_examples,
        whole_traces=False,
        source="Skip-Thinking, arXiv:2505.18642",
        known="third party",
        searched={"block": (2, 4, 8, 16)},
    ),
    "stt": Method(
        examples=shortened,
        before=(Stage(examples=chunk_examples),),
        cost=1.2,
        whole_traces=False,
        source="Skip-Thinking, arXiv:2505.18642",
        known="third party",
        searched={"block": (2, 4, 8, 16)},
    ),
    "efsft": Method(
        examples=plans, before=(Stage(),), source="Explore-Execute Chain, arXiv:2509.23946", known="third party"
    ),
    "warmup": Method(
        before=(Stage(examples=toy_examples),), source="Warm Up Before You Train, arXiv:2505.13718", known="abstract"
    ),
    "redi": Method(
        loss=redi,
        examples=sampled_pairs,
        before=(Stage(examples=right_traces, share=0.67),),
        rate=0.02,
        needs=GOLD | SAMPLES,
        cost=1.5,
        source="REDI, arXiv:2505.24850",
        known="paper",
        searched={"gap": (0.05, 0.1, 0.15, 0.2)},
    ),
    "orpo": Method(loss=orpo, examples=flawed_pairs, cost=2.0, source="R2Vul, arXiv:2504.04699", known="code"),
    "kto": Method(
        loss=kto,
        examples=flawed_pairs,
        before=(Stage(),),
        cost=1.8,
        source="Deliberation on Priors, arXiv:2505.15210",
        known="code",
    ),
    "pst": Method(
        loss=pst,
        examples=answers_before_reasoning,
        mode="answer",
        needs=STATES,
        cost=1.1,
        whole_traces=False,
        source="Chen et al. (2024), arXiv:2404.09170",
        known="third party",
        searched={"weight": (0.3, 1.0, 3.0, 10.0)},
    ),
    "semcot": Method(
        loss=semcot,
        examples=paused_answers,
        mode="answer",
        after_prompt=pauses,
        needs=STATES,
        cost=0.8,
        whole_traces=False,
        source="SemCoT, arXiv:2510.24940",
        known="code",
        searched={"share": (0.25, 0.5, 0.75, 0.9)},
    ),
    "trg": Method(
        loss=trg,
        needs=STATES | GOLD,
        cost=1.1,
        source="Token-level relationships, arXiv:2306.12442",
        known="abstract",
        searched={"weight": (0.1, 0.3, 1.0, 3.0)},
    ),
    "lelp": Method(
        loss=lelp,
        needs=STATES | GOLD,
        cost=1.1,
        source="LELP, arXiv:2409.20449",
        known="third party",
        searched={"weight": (0.03, 0.1, 0.3, 1.0)},
    ),
    "dac": Method(
        loss=dac,
        needs=TEACHER,
        cost=1.7,
        source="Multi-Granularity Semantic Revision, arXiv:2407.10068",
        known="third party",
    ),
    "ddk": Method(loss=ddk, needs=TEACHER, cost=1.2, source="Liu et al. (2024), arXiv:2407.16154", known="paper"),
    "dasd": Method(
        examples=mixed_policy,
        before=(Stage(examples=cool_samples, share=0.4), Stage(examples=divergent_samples, share=0.4)),
        needs=GOLD | SAMPLES,
        cost=1.4,
        whole_traces=False,
        source="DASD, arXiv:2601.09088",
        known="paper",
        searched={"factor": (1.25, 1.5, 1.75, 2.0)},
    ),
    "genssd": Method(
        examples=chosen_by_student,
        before=(Stage(),),
        needs=SAMPLES,
        cost=1.3,
        whole_traces=False,
        source="Gen-SSD, arXiv:2604.02819",
        known="third party",
        searched={"unlikeliest": (0.01, 0.05, 0.1, 0.2)},
    ),
    "dap": Method(
        examples=by_difficulty,
        needs=GOLD | SAMPLES,
        cost=0.9,
        whole_traces=False,
        source="LiteCoT, arXiv:2505.19716",
        known="abstract",
        searched={"easy": (0.5, 0.75, 0.9, 1.0)},
    ),
    "ded": Method(
        examples=hard_but_solved,
        needs=GOLD | SAMPLES,
        whole_traces=False,
        source="Beyond Scaling Law, arXiv:2508.09883",
        known="abstract",
        searched={"hardest": (0.25, 0.5, 0.75, 1.0)},
    ),
    "retro": Method(
        examples=retraced,
        needs=GOLD | SAMPLES,
        cost=0.9,
        whole_traces=False,
        source="Retro-Search, arXiv:2504.04383",
        known="abstract",
    ),
    "graded": Method(
        examples=in_between,
        needs=GOLD | SAMPLES,
        source="DeepDistill, arXiv:2504.17565",
        known="abstract",
        searched={"keep": (0.25, 0.5, 0.75, 1.0)},
    ),
    "prm": Method(
        examples=best_by_steps,
        needs=GOLD | SAMPLES,
        whole_traces=False,
        source="ReasonFlux-PRM, arXiv:2506.18896",
        known="abstract",
        searched={"steps": (0.25, 0.5, 0.75, 1.0)},
    ),
    "critic": Method(
        examples=accepted,
        needs=GOLD | SAMPLES,
        source="Symbolic Knowledge Distillation, arXiv:2110.07178",
        known="abstract",
        searched={"threshold": (0.2, 0.3, 0.4, 0.5)},
    ),
    "hard": Method(
        examples=disturbed_examples,
        before=(Stage(),),
        needs=SAMPLES,
        whole_traces=False,
        source="HARD, arXiv:2305.14890",
        known="abstract",
    ),
    "pgkd": Method(
        examples=where_it_fails,
        before=(Stage(share=0.34), Stage(examples=where_it_fails, share=0.33)),
        needs=GOLD,
        cost=1.5,
        whole_traces=False,
        source="PGKD, arXiv:2411.05045",
        known="abstract",
    ),
    "few": Method(
        examples=few_traces,
        whole_traces=False,
        source="Is Human-Written Data Enough, arXiv:2507.09850",
        known="abstract",
    ),
    "sources": Method(
        examples=by_writer,
        needs=GOLD,
        whole_traces=False,
        source="Not All Correct Answers Are Equal, arXiv:2505.14464",
        known="abstract",
    ),
    "tgeo": Method(
        loss=tgeo,
        examples=all_but_held,
        needs=TEACHER,
        cost=1.8,
        source="Trilateral Geometry, arXiv:2312.15112",
        known="third party",
        searched={"stride": (0.03, 0.1, 0.3, 1.0)},
    ),
    "pid": Method(
        examples=told_traces,
        needs=GOLD | SAMPLES,
        whole_traces=False,
        source="Privileged Information Distillation, arXiv:2602.04942",
        known="third party",
    ),
    "opsd": of_rounds(opsd, own_texts_told, "Privileged Information Distillation, arXiv:2602.04942", "third party"),
    "kdrl": of_rounds(kdrl, own_samples, "KDRL, arXiv:2506.02208", "third party"),
    "trrd": of_rounds(trrd, own_samples, "Reinforcement-aware Knowledge Distillation, arXiv:2602.22495", "third party"),
    "rlvr": of_rounds(rlvr, own_samples, "AlphaMed, arXiv:2505.17952", "abstract", few_traces),
    "dear": Method(
        examples=phase_2,
        before=(Stage(loss=pointwise),),
        needs=TEACHER,
        cost=1.2,
        source="DeAR, arXiv:2508.16998",
        known="code",
        searched={"label_weight": (0.03, 0.1, 0.3, 1.0)},
    ),
    "lorid": Method(
        before=(
            Stage(examples=plans, expert=KNOWLEDGE, share=0.33, rank=16),
            Stage(examples=phase_2, expert=REASONING, share=0.33, rank=16),
        ),
        rank=16,
        answers=agreeing,
        whole_traces=False,
        source="LoRID, arXiv:2508.13037",
        known="abstract",
    ),
    "copt": Method(
        examples=both_orders,
        answers=where_unsure,
        whole_traces=False,
        source="CopT, arXiv:2605.20075",
        known="code",
        searched={"threshold": (0.03, 0.1, 0.3, 1.0)},
    ),
    "plans": Method(answers=best_of_plans, source="RLAD (abstractions), arXiv:2510.02263", known="abstract"),
    "mechanistic": Method(
        loss=mechanistic,
        needs=frozenset({"heads"}),
        cost=1.1,
        source="the paper, arXiv:2606.06840",
        known="abstract",
        searched={WEIGHTS: (0.3, 1.0, 3.0, 10.0)},
    ),
}
