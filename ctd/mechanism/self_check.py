"""What the book can do with a model, checked on the model itself before anything is written.

Notes: the answers are kept under the model's key. A model whose tokens or texts are not right is refused; one that
writes rightly and whose heads are not read exactly can still write.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import transformers

from ctd.cache import atomic, cache_dir, once
from ctd.keys import Maker
from ctd.mechanism import run_checks
from ctd.reasoning import architecture, token_checks
from ctd.reasoning.models import LanguageModel

SELF_CHECKS = Maker("self-checks", "ctd.mechanism.self_check", ("model", "torch", "transformers"))
Part = Literal["writes", "label lists", "heads"]
PARTS: dict[Part, str] = {
    "writes": "writes",
    "label lists": "lists are kept to labels",
    "heads": "heads are read and patched",
}


@dataclass(frozen=True)
class Check:
    """One thing that is checked.

    part: of what the book does with a model.
    what: the thing, as it is where all is well.
    run: says what is wrong, "" where nothing is.
    """

    part: Part
    what: str
    run: Callable[[LanguageModel], str]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    part: of what the book does with a model, as in `Check`.
    what: the thing that was checked, as it is where all is well.
    problem: what is wrong, "" where nothing is.
    """

    part: Part
    what: str
    problem: str


def _heads_are_read(language_model: LanguageModel) -> str:
    return architecture.problem(language_model.model)


CHECKS = (
    Check("writes", "every token is embedded", token_checks.embedding),
    Check("writes", "a token ends its texts", token_checks.end),
    Check("writes", "texts come back from their tokens", token_checks.text),
    Check("writes", "the prompt begins as its tokenizer begins a text", token_checks.chat),
    Check("writes", "no token depends on later ones", run_checks.later_tokens),
    Check("writes", "a padded text is read as alone", run_checks.padding),
    Check("writes", "what is written one by one is read as at once", run_checks.step_by_step),
    Check("writes", "texts of a batch are those of its logits", run_checks.written_as_read),
    Check("label lists", "lists decode to their labels", token_checks.label_lists),
    Check("heads", "patterns, values and writes are those of the model", _heads_are_read),
    Check("heads", "writes sum to what each layer adds", run_checks.writes),
    Check("heads", "heads that write are read as at once", run_checks.patterns_while_writing),
    Check("heads", "a run patched with itself stays as it is", run_checks.patched_with_itself),
    Check("heads", "a patch moves its head and no other", run_checks.patched_with_another),
)


def check(language_model: LanguageModel) -> list[Finding]:
    """What was found on a model, part by part; what was found before is read from the cache."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    path = cache_dir("self-checks") / f"{SELF_CHECKS.key(model=language_model, **versions)}.json"
    with once(path) as missing:
        if missing:
            findings = run(language_model)
            with atomic(path) as scratch:
                scratch.write_text(json.dumps([[finding.part, finding.what, finding.problem] for finding in findings]))
    return [Finding(*row) for row in json.loads(path.read_text())]


def run(language_model: LanguageModel) -> list[Finding]:
    """As `check`, whatever was found before.

    Behind the first problem of a part nothing more of it is checked, and nothing of heads that cannot write.
    """
    findings: list[Finding] = []
    with run_checks.conditions(language_model.model):
        for check in CHECKS:
            before = {finding.part for finding in findings if finding.problem}
            if check.part in before or (check.part == "heads" and "writes" in before):
                continue
            findings.append(Finding(check.part, check.what, _problem(check, language_model)))
    return findings


def require(language_model: LanguageModel, heads: bool = False) -> None:
    """Refuse a model that does not write rightly, or, with heads, whose heads cannot be read and patched exactly.

    Raises ValueError, which says in one line what is wrong and what can still be done.
    """
    for finding in check(language_model):
        if finding.problem and (finding.part == "writes" or (heads and finding.part == "heads")):
            raise ValueError(refusal(language_model.name, finding))


def refusal(name: str, finding: Finding) -> str:
    """One line for a problem of a model.

    name: of the model.
    finding: the problem.
    """
    if finding.part == "writes":
        return f"{name} cannot be asked: {finding.problem}"
    if finding.part == "label lists":
        return f"{name} cannot be kept to labels: {finding.problem}. It can write lists that are read leniently"
    return architecture.unfit(name, finding.problem)


def _problem(check: Check, language_model: LanguageModel) -> str:
    try:
        return check.run(language_model)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model's own code raises
        return f"it cannot be run ({' '.join(f'{type(error).__name__}: {error}'.split())[:200]})"
