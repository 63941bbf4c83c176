"""The commands that run, show, compare, check and keep the notebooks of the book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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
        Path | None, typer.Option("-f", "--file", help="A parameter file, as ctd init writes it; -p overrides it.")
    ] = None,
    profile: Profile = "default",
    out: Annotated[Path | None, typer.Option(help="Folder for the run; by default runs/NOTEBOOK/PROFILE.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again even if nothing has changed.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Run all notebooks, several at a time.")] = False,
    jobs: Jobs = 0,
) -> None:
    """Run notebooks and store their results. A notebook whose run is up to date is skipped.

    All parameters are checked before anything runs. If one notebook fails, the others still run.
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
    """List a notebook's parameters: type, default, allowed values and meaning."""
    rows = [
        (parameter.name, parameter.type, repr(parameter.default), parameter.bound, parameter.help)
        for parameter in notebook_files.parameters_of(notebook_files.find_notebook(notebook)).values()
    ]
    show_table(("parameter", "type", "default", "bound", "meaning"), rows, as_json)


@app.command("list", epilog="Examples:  ctd list  |  ctd list --json")
def list_(as_json: Json = False) -> None:
    """List the runs in runs/: when they ran, for how long, how many results they have, and whether they are stale."""
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
    """Show how a run was made, and its results."""
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
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="The run to compare it with.")],
    as_html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
    as_markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print changed results as Markdown; RUN_A and RUN_B may be folders of runs."),
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
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help=RUN_HELP + " All runs if none is named.")
    ] = None,
    write_golden: Annotated[
        bool, typer.Option("--write-golden", help="Store the numbers of these runs as the golden results.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run notebooks again; compare outputs, pictures and numbers with the stored run and with the golden results."""
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


@app.command(epilog="Example:  ctd keep runs/mine mechanistic-organism")
def keep(
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    name: Annotated[str, typer.Argument(help="Name of its folder in data/results.")],
) -> None:
    """Publish a run with the book: its chapter and the ledger of claims show it beside the reader's own run."""
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
        typer.Option("--check", help="Compare with the verdicts in the run of 17_claims; exit code 1 if one differs."),
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rule of each claim as well.")] = False,
    as_json: Json = False,
) -> None:
    """Print the ledger of claims: each claim, our verdict and numbers, and the published number.

    Nothing is run. The numbers are those stored in runs/*/PROFILE; a claim without numbers is "not run".
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
    out: Annotated[Path, typer.Option(help="Folder for html/ and build.log.")] = Path("book/_build"),
    jobs: Jobs = 0,
) -> None:
    """Prepare the data and the label index, run every notebook and build the book; print the time of each stage."""
    from ctd.book import progress
    from ctd.book.build import make_book

    page, stages, outcomes = make_book(profile, out, jobs)
    show_table(progress.COLUMNS, progress.rows(outcomes))
    show_table(("stage", "took", ""), stages.rows())
    if page is None:
        raise typer.Exit(1)
    typer.echo(f"the book ({profile} profile): {page}")
