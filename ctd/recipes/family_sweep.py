"""Every decoder-only family of the library, checked on a tiny random model: what the book can do with it, and why not.

Notes: `python -m ctd.recipes.family_sweep` writes data/models.csv, which the book's page of models shows. A model of a
family has the same parts as its tiny one; what a checkpoint brings besides is checked on itself (`ctd check-model`).
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import transformers
from tqdm.auto import tqdm

from ctd.cache import DATA
from ctd.mechanism import self_check
from ctd.mechanism.self_check import Finding
from ctd.reasoning.models import LanguageModel
from ctd.recipes import tiny_models

TABLE = DATA / "models.csv"
EXACT, REFUSED = "exact", "refused"


class Outcome(NamedTuple):
    """What the book can do with a family.

    family: as the library calls it.
    model: its class.
    writes: whether it can write, "exact" or "refused".
    heads: likewise, whether its heads can be read and patched.
    reason: why the first of them is refused, "" where nothing is.
    """

    family: str
    model: str
    writes: str
    heads: str
    reason: str


def outcome(kind: str) -> Outcome:
    """What the book can do with a tiny model of a family. Raises what building it raises."""
    model, tokenizer = tiny_models.build(kind), tiny_models.tokenizer()
    findings = self_check.run(LanguageModel(kind, model, tokenizer, f"tiny {kind}"))
    problems = [finding for finding in findings if finding.problem and finding.part != "label lists"]
    writes = REFUSED if any(finding.part == "writes" for finding in problems) else EXACT
    heads = REFUSED if problems else EXACT
    return Outcome(kind, type(model).__name__, writes, heads, reason(problems))


def reason(problems: Sequence[Finding]) -> str:
    """Why something is refused, without the advice."""
    return problems[0].problem if problems else ""


def sweep(kinds: Iterable[str]) -> list[Outcome]:
    """The outcome of each family."""
    return [outcome(kind) for kind in tqdm(list(kinds), desc="checking families", unit=" families")]


def write(outcomes: Sequence[Outcome], path: Path = TABLE) -> None:
    """Write the table of the book."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["transformers", *Outcome._fields])
        table.writerows([transformers.__version__, *row] for row in outcomes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write data/models.csv: what the book can do with each family.")
    parser.add_argument("families", nargs="*", help="print these instead of writing the table")
    kinds = parser.parse_args().families
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    outcomes = sweep(kinds or tiny_models.families())
    if kinds:
        print(*outcomes, sep="\n")
    else:
        write(outcomes)
