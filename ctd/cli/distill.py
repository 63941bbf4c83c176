"""The commands that teach a student: `ctd distill`, and what it may be asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ctd.cli.base import OWN, Json, app, show_table


@app.command(
    rich_help_panel=OWN,
    epilog="Examples:  ctd distill organism my-student  |  ctd distill smollm2-mesh out --dataset mesh --clusters 256 "
    "--topic-depth 0 --layers 15 --max-tokens 512  |  accelerate launch --multi_gpu $(which ctd) distill ...",
)
def distill(
    teacher: Annotated[
        str, typer.Argument(help="smollm2-mesh, organism, organism-planted, or the folder or id of a model.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to create, for weights, labels, model card and loss curve.")],
    dataset: Annotated[str, typer.Option(help="The task, by its name in the notebooks.")] = "organism",
    source: Annotated[
        str, typer.Option(help="Your own data, for the datasets mimic, xmc and records: a folder, file or name.")
    ] = "",
    text_column: Annotated[str, typer.Option(help="For records: the column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="For records: the column that holds the labels.")] = "labels",
    method: Annotated[
        str, typer.Option(help="How the student is taught; ctd methods lists the names.")
    ] = "mechanistic",
    layers: Annotated[int, typer.Option(help="Number of layers of the student, taken evenly from the teacher's.")] = 3,
    student_heads: Annotated[
        int, typer.Option(help="Heads in a layer, for a student that starts from random weights.")
    ] = 0,
    student: Annotated[
        str, typer.Option(help="Start from this model instead; it must have the teacher's tokenizer.")
    ] = "",
    traces: Annotated[int, typer.Option(help="Number of training documents that the teacher reasons about.")] = 256,
    steps: Annotated[int, typer.Option(help="Number of optimizer steps.")] = 110,
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a step, padding included.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    max_tokens: Annotated[int, typer.Option(help="Tokens that the teacher may write about a document.")] = 320,
    heads: Annotated[int, typer.Option(help="Teacher heads for each phase; 0 for the heads planted in it.")] = 4,
    ranked_by: Annotated[
        Literal["paper", "mass"], typer.Option(help="Choose heads by the paper's scores or by attention mass.")
    ] = "paper",
    matching: Annotated[
        Literal["depth", "apart", "score"], typer.Option(help="How teacher heads are matched to student heads.")
    ] = "depth",
    loss_forms: Annotated[
        Literal["original", "mended"],
        typer.Option(help="Loss terms as in the published runs (original), or without their faults (mended)."),
    ] = "original",
    control: Annotated[
        str, typer.Option(help="A control taught instead of the chosen heads; ctd methods lists them.")
    ] = "none",
    patience: Annotated[
        int, typer.Option(help="Stop after this many validations without a lower loss; 0 for never.")
    ] = 0,
    weights: Annotated[
        tuple[float, float, float, float, float, float],
        typer.Option(help="Weights of attention, write and interaction for Phase 1, then for Phase 2; the text has 1."),
    ] = (1.0, 0.1, 0.1, 1.0, 0.1, 0.1),
    base_loss: Annotated[str, typer.Option(help="The method whose loss the mechanistic terms are added to.")] = "cot",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting of the method; may be repeated."),
    ] = None,
    anneal_fraction: Annotated[
        float, typer.Option(help="Fraction of the steps over which the weights fall to 0; 0 keeps them.")
    ] = 0.0,
    live: Annotated[
        bool, typer.Option("--live", help="Run the teacher in every step instead of storing what it computes.")
    ] = False,
    clusters: Annotated[int, typer.Option(help="Cluster the labels into this many topics; 0 for no clusters.")] = 0,
    topic_depth: Annotated[
        int, typer.Option(help="Level of the label tree whose nodes are the topics; 0 is the highest.")
    ] = 2,
    encoder: Annotated[str, typer.Option(help="wordllama, minilm or a sentence-transformers model.")] = "wordllama",
    test: Annotated[int, typer.Option(help="Test documents that student and teacher answer for the model card.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed for drawing the traces and their order.")] = 0,
    teaching: Annotated[str | None, typer.Option("--teaching", hidden=True)] = None,
    words: Annotated[str | None, typer.Option("--words", hidden=True)] = None,
    fade: Annotated[float | None, typer.Option("--fade", hidden=True)] = None,
) -> None:
    """Teach one student what a teacher says or what its heads compute; save it as a folder that transformers loads.

    Any notebook takes the folder as its teacher: ctd run 02 -p teacher=OUT.
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


@app.command(rich_help_panel=OWN, epilog="Examples:  ctd methods  |  ctd distill organism my-student --method fkl")
def methods(as_json: Json = False) -> None:
    """List the ways to teach a student: what each does, its settings, what it needs, its cost and its source.

    The cost is the training time for the same number of steps, where cot costs 1. A method that carries the mechanistic
    terms may be the --base-loss of the method mechanistic. The last row is not a way to teach: chapter 14 compares with
    it. A second table lists the controls of the method mechanistic (--control).
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
