"""The commands that run, compare and check the notebooks of the book, teach students, and show the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ctd.book import notebook_files, run_folder, runs
from ctd.book.run_folder import RunFolder
from ctd.cli.base import RUN_HELP, Jobs, Json, Profile, app, print_json, show_table


@app.command(
    epilog="Examples:  ctd run 01  |  ctd run 01 -p n_documents=500 -p 'ks=[10, 100]'  |  ctd run --all --profile smoke"
)
def run(
    notebooks: Annotated[
        list[str] | None, typer.Argument(metavar="NOTEBOOK...", help="Path, name or number (01) of a notebook.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="NAME=VALUE", help="Set a parameter; the value is YAML. Repeatable."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help="Parameter file, as ctd init writes it; -p goes before it.")
    ] = None,
    profile: Profile = "default",
    out: Annotated[Path | None, typer.Option(help="Folder of the run, instead of runs/STEM/PROFILE.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run even when nothing has changed.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All notebooks, side by side.")] = False,
    jobs: Jobs = 0,
) -> None:
    """Run notebooks and keep what they found. An unchanged run is kept as it is.

    Parameters are checked, all of them, before anything runs. Where one fails, the others go on.
    """
    from ctd.book import progress

    if every == bool(notebooks):
        raise ValueError("name the notebooks to run, or give --all (one of the two)")
    chosen = notebook_files.notebooks() if every else [notebook_files.find_notebook(name) for name in notebooks or ()]
    if not chosen:
        raise FileNotFoundError("there are no notebooks in notebooks/")
    if out and len(chosen) > 1:
        raise ValueError(f"--out is the folder of one run, and {len(chosen)} notebooks are to run")
    plans = [planned(path, profile, parameter or (), file, out) for path in chosen]
    outcomes = list(progress.shown(plans, force, jobs))
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def planned(
    notebook: Path, profile: str, assignments: Sequence[str], file: Path | None = None, out: Path | None = None
) -> runs.Plan:
    """What a run of a notebook will be: its profile, then a parameter file, then the assignments of -p."""
    from ctd.book import parameter_files
    from ctd.book.parameters import parse_assignments

    parameters = notebook_files.parameters_of(notebook)
    values = parameter_files.read(file, parameters) if file else {}
    return runs.plan(notebook, profile, values | parse_assignments(parameters, assignments), out)


@app.command(epilog="Example:  ctd params 01")
def params(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="Path, name or number.")], as_json: Json = False
) -> None:
    """List the parameters of a notebook: type, default, bound, meaning."""
    rows = [
        (parameter.name, parameter.type, repr(parameter.default), parameter.bound, parameter.help)
        for parameter in notebook_files.parameters_of(notebook_files.find_notebook(notebook)).values()
    ]
    show_table(("parameter", "type", "default", "bound", "meaning"), rows, as_json)


@app.command("list", epilog="Examples:  ctd list  |  ctd list --json")
def list_(as_json: Json = False) -> None:
    """List the runs in runs/: when and how long they ran, how much they found, and whether they are stale."""
    rows = []
    for run in run_folder.all_runs():
        try:
            started = run.manifest["start"].replace("T", " ").removesuffix("+00:00")
            duration = f"{run.manifest['duration_s']:.1f} s"
            state = runs.stale(run) or "current"
            rows.append((run.stem, run.path.name, started, duration, str(len(run.rows)), state))
        except (ValueError, OSError, KeyError, TypeError) as error:
            rows.append((run.path.parent.name, run.path.name, "", "", "", f"damaged ({error})"))
    if not rows and not as_json:
        typer.echo("no runs in runs/; make one with: ctd run 00")
        return
    show_table(("notebook", "profile", "started (UTC)", "duration", "results", "state"), rows, as_json)


@app.command(epilog="Example:  ctd show 01_retrieval_shortlists/smoke")
def show(run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)], as_json: Json = False) -> None:
    """Show how a run was made and what it found."""
    from ctd.book.compare import say

    folder = run_folder.find_run(run)
    if as_json:
        results = [row.model_dump(exclude_none=True) for row in folder.rows]
        print_json({"manifest": dict(folder.manifest), "results": results})
        return
    rows = []
    for name, value in folder.manifest.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {entry}".strip(), str(inner)) for entry, inner in entries]
    show_table(("made", "value"), rows)
    show_table(
        ("result", "value", "interval over", "n"),
        [(row.label, say(row), row.interval_over or "", "" if row.n is None else str(row.n)) for row in folder.rows],
    )


@app.command(
    epilog="Examples:  ctd compare 01_retrieval_shortlists/smoke 01_retrieval_shortlists/default"
    "  |  ctd compare runs/mine runs/other --html > difference.html  |  ctd compare runs-before runs --markdown"
)
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help=RUN_HELP)],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another run.")],
    as_html: Annotated[bool, typer.Option("--html", help="Print a page for a browser.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print changed results as Markdown; the two may be folders of runs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two runs: parameters, code, versions, hardware, and results with their units."""
    from ctd.book.compare import differences, joined, page

    if as_markdown:
        from ctd.book import changes as changed_results

        typer.echo(changed_results.summary(Path(first), Path(second)), nl=False)
        return
    pair = run_folder.find_run(first), run_folder.find_run(second)
    changes = differences(*pair)
    if as_json or as_html:
        print_json([asdict(change) for change in changes]) if as_json else typer.echo(page(*pair, changes))
        return
    for section in dict.fromkeys(change.section for change in changes):
        rows = [(d.what, d.first, d.second, d.note) for d in changes if d.section == section]
        show_table((section, *(run.name for run in pair), "change"), rows)
    differing = sum(change.section == "results" for change in changes)
    total = len(list(joined(*pair)))
    typer.echo(f"{total - differing} of {total} results are the same" if total else "neither run has results")


@app.command(
    epilog="Examples:  ctd validate  |  ctd validate 00_label_spaces/smoke"
    "  |  ctd validate --write-golden 00_label_spaces/smoke"
)
def validate(
    chosen: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help=RUN_HELP + " All, if none.")] = None,
    write_golden: Annotated[
        bool, typer.Option("--write-golden", help="Take the numbers of these runs as the golden results.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run executed copies again: compare outputs, pictures and numbers, and numbers with the golden results."""
    from ctd.book import validate as validation

    folders: Sequence[RunFolder] = [run_folder.find_run(name) for name in chosen] if chosen else run_folder.all_runs()
    if not folders:
        raise FileNotFoundError("no runs in runs/ to validate; make one with: ctd run 00")
    if write_golden:
        for folder in folders:
            if chosen or not folder.manifest["overrides"]:
                typer.echo(f"{folder.name}: written to {validation.write_golden(folder)}")
        return
    failed = 0
    reports = []
    for folder in folders:
        report = validation.validate(folder)
        failed += bool(report.problems)
        reports.append({"run": folder.name, **asdict(report)})
        if as_json:
            continue
        verdict = "FAILED" if report.problems else "ok"
        bound = "with golden results" if report.golden else "no golden results for such a run"
        typer.echo(f"{folder.name}: {verdict}, {report.cells} cells and {report.numbers} numbers compared, {bound}")
        for problem in report.problems:
            typer.echo(f"  {problem}", err=True)
    if as_json:
        print_json(reports)
    if failed:
        raise typer.Exit(1)


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
    may be a --base-loss of the method mechanistic. A second table lists the controls of that method (--control).
    """
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
    show_table(heads, rows, as_json)
    if as_json:
        return
    show_table(("control", "what is taught"), [(name, summary(name)) for name in CONTROLS])


@app.command("check-model", epilog="Examples:  ctd check-model smollm2-mesh  |  ctd check-model my-model")
def check_model(
    name: Annotated[str, typer.Argument(help="smollm2-mesh, organism, a model's folder or its id on the hub.")],
    as_json: Json = False,
) -> None:
    """Load a model, check it on itself, and say what the book can do with it: write, score and patch its heads.

    What cannot be measured is said with the reason. Exit code 1 for a model that cannot even write.
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


@app.command(epilog="Example:  ctd keep runs/mine mechanistic-organism")
def keep(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    name: Annotated[str, typer.Argument(help="Of the folder in data/results.")],
) -> None:
    """Keep a run with the book: its chapter and the ledger of claims show it beside the reader's own."""
    from ctd.book import published_runs

    typer.echo(f"kept as {published_runs.keep(run_folder.find_run(run), name).path}")
    typer.echo(
        "The ledger of claims judges it too. Before you commit: make book PROFILE=smoke, look at its verdicts, then "
        "ctd validate --write-golden 17_claims/smoke"
    )


@app.command(epilog="Examples:  ctd claims  |  ctd claims --profile smoke  |  ctd claims --check")
def claims(
    profile: Profile = "default",
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with what the run of 17_claims shows; exit code 1 where one differs."),
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="Say each claim's rule as well.")] = False,
    as_json: Json = False,
) -> None:
    """Print the claims ledger: each claim, the verdict that follows from our numbers, and the published one.

    Nothing is run: the numbers are those recorded in runs/*/PROFILE. A claim without them is "not run".
    """
    from ctd.book import ledger, ledger_check

    notebook_files.profile_values(notebook_files.find_notebook(ledger.STEM), profile)  # refuses an unknown profile
    if check:
        problems = ledger_check.check(profile)
        for problem in problems:
            typer.echo(problem, err=True)
        if problems:
            raise typer.Exit(1)
        typer.echo(f"{ledger.STEM}/{profile}: all verdicts follow from the stored results")
        return
    rows = ledger.judge_claims(profile)
    if as_json:
        show_table(ledger.COLUMNS, [row.cells for row in rows], as_json)
        return
    for line in ledger.lines(rows, rules):
        typer.echo(line)
    typer.echo(", ".join(f"{count} {verdict}" for verdict, count in ledger.counts(rows).items()))


@app.command(epilog="Example:  ctd book --profile smoke")
def book(
    profile: Profile = "default",
    out: Annotated[Path, typer.Option(help="Folder that gets html/ and build.log.")] = Path("book/_build"),
    jobs: Jobs = 0,
) -> None:
    """Prepare data and label index, run every notebook, build the book; say where it is and what each stage took."""
    from ctd.book import progress
    from ctd.book.build import make_book

    page, stages, outcomes = make_book(profile, out, jobs)
    show_table(progress.COLUMNS, progress.rows(outcomes))
    show_table(("stage", "took", ""), stages.rows())
    if page is None:
        raise typer.Exit(1)
    typer.echo(f"the book ({profile} profile): {page}")


@app.command(epilog="Examples:  ctd machine  |  ctd machine --again  |  CTD_DTYPE=float32 ctd machine")
def machine(
    again: Annotated[bool, typer.Option("--again", help="Measure again instead of reading what was kept.")] = False,
    as_json: Json = False,
) -> None:
    """Show what was measured of this machine, what models compute in here, and how many workers there are."""
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
    typer.echo(f"{workers.available()} workers side by side, one thread each; set CTD_WORKERS to another number")


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
        return name, float(value)
    except ValueError:
        return name, value
