"""The commands that teach a student: `ctd distill`, and what it may be asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ctd.cli.base import Json, app, show_table


@app.command(
    epilog="Examples:  ctd distill organism my-student  |  ctd distill smollm2-mesh out --dataset mesh --clusters 256 "
    "--topic-depth 0 --layers 15 --max-tokens 512  |  accelerate launch --multi_gpu $(which ctd) distill ..."
)
def distill(
    teacher: Annotated[str, typer.Argument(help="smollm2-mesh, organism, organism-planted, a model's folder or id.")],
    out: Annotated[Path, typer.Argument(help="Folder to be made: weights, labels, model card, loss curve.")],
    dataset: Annotated[str, typer.Option(help="Task, as in the notebooks.")] = "organism",
    source: Annotated[str, typer.Option(help="Your own data (mimic, xmc, records): folder, file or name.")] = "",
    text_column: Annotated[str, typer.Option(help="Column of the text (records).")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels (records).")] = "labels",
    method: Annotated[str, typer.Option(help="How it is taught, by a name that ctd methods lists.")] = "mechanistic",
    layers: Annotated[int, typer.Option(help="Of the student, taken evenly from the teacher's.")] = 3,
    student_heads: Annotated[int, typer.Option(help="In a layer, for a student from random weights.")] = 0,
    student: Annotated[str, typer.Option(help="A model with the teacher's tokenizer to begin with instead.")] = "",
    traces: Annotated[int, typer.Option(help="Training documents that the teacher reasons about.")] = 256,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 110,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a step.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 2e-3,
    max_tokens: Annotated[int, typer.Option(help="What the teacher may write about a document.")] = 320,
    heads: Annotated[int, typer.Option(help="The teacher's of each phase; 0 for those planted in it.")] = 4,
    ranked_by: Annotated[
        Literal["paper", "mass"], typer.Option(help="Which heads: by the paper's scores, or by attention mass.")
    ] = "paper",
    matching: Annotated[Literal["depth", "apart", "score"], typer.Option(help="Of heads to the student's.")] = "depth",
    loss_forms: Annotated[
        Literal["original", "mended"], typer.Option(help="Of the terms: the published runs', or without their faults.")
    ] = "original",
    control: Annotated[
        str, typer.Option(help="Taught in place of the chosen heads, to compare with: see ctd methods.")
    ] = "none",
    patience: Annotated[
        int, typer.Option(help="Validation losses that do not fall before the student stops; 0 for never.")
    ] = 0,
    weights: Annotated[
        tuple[float, float, float, float, float, float],
        typer.Option(help="Of attention, write and interaction in Phase 1, then in 2, against a loss of one token."),
    ] = (1.0, 0.1, 0.1, 1.0, 0.1, 0.1),
    base_loss: Annotated[str, typer.Option(help="The method that these terms are added to.")] = "cot",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting of the method. Repeatable."),
    ] = None,
    anneal_fraction: Annotated[
        float, typer.Option(help="Fraction of the steps over which these weights fall to 0; 0 for never.")
    ] = 0.0,
    live: Annotated[
        bool, typer.Option("--live", help="Run the teacher in every step, instead of keeping on disk what it computes.")
    ] = False,
    clusters: Annotated[int, typer.Option(help="Of labels, put above the label space as topics.")] = 0,
    topic_depth: Annotated[int, typer.Option(help="Level of the tree whose nodes are the topics.")] = 2,
    encoder: Annotated[str, typer.Option(help="wordllama, minilm or a sentence-transformers model.")] = "wordllama",
    test: Annotated[int, typer.Option(help="Test documents that student and teacher answer for the card.")] = 100,
    seed: Annotated[int, typer.Option(help="Draws traces and their order.")] = 0,
    teaching: Annotated[str | None, typer.Option("--teaching", hidden=True)] = None,
    words: Annotated[str | None, typer.Option("--words", hidden=True)] = None,
    fade: Annotated[float | None, typer.Option("--fade", hidden=True)] = None,
) -> None:
    """Teach one student what a teacher says or what its heads compute, and keep it as a folder that transformers loads.

    The folder is a teacher's name for every notebook: ctd run 02 -p teacher=OUT.
    """
    from ctd import cache_room
    from ctd.distill import export
    from ctd.distill.experiment import Plan
    from ctd.distill.loss_forms import FORMS
    from ctd.distill.losses import Weights
    from ctd.distill.methods import Arm
    from ctd.distill.train import processes

    method = _renamed("--teaching", teaching, "--method", method)
    base_loss = _renamed("--words", words, "--base-loss", base_loss)
    anneal_fraction = _renamed("--fade", fade, "--anneal-fraction", anneal_fraction)
    settings = tuple(_assigned(text) for text in setting or ())
    for option, values in (("--learning-rate", (learning_rate,)), ("--weights", weights)):
        if math.inf in values:
            raise ValueError(f"{option} must be finite, got {math.inf}")
    arm = Arm(
        out.name, method, Weights.of(weights), anneal_fraction, base_loss=base_loss, settings=settings,
        forms=FORMS[loss_forms], control=control,
    )  # fmt: skip
    plan = Plan(
        layers=layers, student_heads=student_heads, student=student, n_traces=traces, n_steps=steps,
        batch_tokens=batch_tokens, learning_rate=learning_rate, n_heads=heads, ranked_by=ranked_by,
        matching=matching, max_tokens=max_tokens, topic_depth=topic_depth, n_test=test, patience=patience,
    )  # fmt: skip
    lesson = export.Lesson(teacher, dataset, source, text_column, label_column, encoder, clusters)
    cache_room.limit()
    manifest = export.teach(lesson, out, arm, plan, seed, live)
    cache_room.keep_to_limit()
    if processes().is_main_process:
        typer.echo("{out}: {parameters:,} parameters, {steps} steps, loss {loss:.3f}".format(**manifest, out=out))


@app.command(epilog="Examples:  ctd methods  |  ctd distill organism my-student --method fkl")
def methods(as_json: Json = False) -> None:
    """List the ways to teach a student: what each does, its settings, what it needs, what it costs, its source.

    A cost is the time of a training at equal steps, times that of cot. Where a method carries the mechanistic terms, it
    may be a --base-loss of the method mechanistic. The last row is no method of a student: chapter 14 compares with it.
    A second table lists the controls of the method mechanistic (--control).
    """
    from ctd.distill import comparison, retrieval_arm
    from ctd.distill.controls import CONTROLS, summary
    from ctd.distill.methods import METHODS, base_losses

    carriers = base_losses()
    heads = ("name", "what it does", "settings", "needs", "cost", "carries the terms", "source", "known by")
    rows = [
        (
            name,
            method.summary,
            ", ".join(f"{setting}={value}" for setting, value in method.settings.items()) or "none",
            ", ".join(sorted(method.needs)) or "traces",
            f"{method.cost:g}",
            "yes" if name in carriers else "no",
            method.source,
            method.known,
        )
        for name, method in METHODS.items()
    ]
    without = retrieval_arm.SUMMARY, "none", "gold", "0", "no", retrieval_arm.SOURCE, retrieval_arm.KNOWN
    rows.append((comparison.RETRIEVAL, *without))
    show_table(heads, rows, as_json)
    if as_json:
        return
    show_table(("control", "what is taught"), [(name, summary(name)) for name in CONTROLS])


def _renamed(old: str, value: Any, new: str, default: Any) -> Any:
    """The value of an option by its old name, with a warning, or by its new one."""
    if value is None:
        return default
    typer.echo(f"warning: {old} is now {new}; the old name goes with the next version", err=True)
    return value


def _assigned(text: str) -> tuple[str, float | str]:
    """A setting and its value from NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    try:
        number = float(value)
    except ValueError:
        return name, value
    if not math.isfinite(number):
        raise ValueError(f"--set {name} must be finite, got {value}")
    return name, number
