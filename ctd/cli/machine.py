"""The commands that say what can be done here: with a model, and on this machine."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ctd.cli.base import FILES, OWN, Json, app, print_json, show_table


@app.command(
    "check-model", rich_help_panel=OWN, epilog="Examples:  ctd check-model smollm2-mesh  |  ctd check-model my-model"
)
def check_model(
    name: Annotated[str, typer.Argument(help="smollm2-mesh, organism, or the folder or Hugging Face id of a model.")],
    as_json: Json = False,
) -> None:
    """Check a model, and show what the book can do with it: let it write, score its heads, patch its heads.

    Each thing that cannot be done comes with its reason. The exit code is 1 if the model cannot even write.
    """
    from ctd.mechanism import self_check
    from ctd.reasoning import architecture, teachers

    language_model: Any = teachers.load(name).language_model
    model = language_model.model
    problems = {finding.part: finding for finding in reversed(self_check.check(language_model)) if finding.problem}
    answers = {part: f"no: {self_check.refusal(name, finding)}" for part, finding in problems.items()}
    if "writes" in problems:
        answers["heads"] = "not checked"
    elif "heads" not in problems:
        sizes = architecture.shape(model)
        answers["heads"] = f"yes: {sizes.layers} layers of {sizes.heads} heads of {sizes.head_size} dimensions"
    rows = [("class", type(model).__name__), ("dtype", str(model.dtype).removeprefix("torch."))]
    rows.append(("tokens that fit", f"{architecture.context(model) or 'not said'}"))
    rows += [(title, answers.get(part, "yes")) for part, title in self_check.PARTS.items()]
    print_json(dict(rows)) if as_json else show_table(("model", name), rows)
    if "writes" in problems:
        raise typer.Exit(1)


@app.command(
    rich_help_panel=FILES, epilog="Examples:  ctd machine  |  ctd machine --again  |  CTD_DTYPE=float32 ctd machine"
)
def machine(
    again: Annotated[bool, typer.Option("--again", help="Measure again instead of using stored measurements.")] = False,
    as_json: Json = False,
) -> None:
    """Show the measured speed of this machine, the number type that models compute in, and the number of workers."""
    from ctd import hardware, workers

    speeds = hardware.speeds(again)
    if as_json:
        print_json(
            {**hardware.machine(), "workers": workers.available(), "speeds": [asdict(speed) for speed in speeds]}
        )
        return
    show_table(
        ("matrix product", "dtype", "threads", "GFLOP/s"),
        [(f"{speed.work}, {hardware.ROWS[speed.work]} rows", speed.dtype, str(speed.threads), f"{speed.gflops:.0f}")
         for speed in speeds],
    )  # fmt: skip
    facts = hardware.machine()
    typer.echo(f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB of memory")
    why = "CTD_DTYPE" if os.environ.get("CTD_DTYPE") else f"bfloat16 is {hardware.gain():.2f} times as fast on a thread"
    typer.echo(f"models on the processor compute in {hardware.dtype()} ({why}); set CTD_DTYPE=float32 or bfloat16")
    typer.echo(f"very large label spaces are embedded in {'int8' if hardware.int8_is_fast() else 'that dtype too'}")
    typer.echo(f"{workers.available()} workers side by side, one thread each; set CTD_WORKERS to another number")
