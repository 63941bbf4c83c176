"""Whether the ledger's own run still follows from the stored results."""

from __future__ import annotations

from pathlib import Path

from ctd.book import ledger, ledger_page, notebook_files, run_folder
from ctd.book.ledger import STEM


def check(profile: str, folder: Path | None = None) -> list[str]:
    """Where the ledger's own run no longer follows from the stored results, one line per claim; [] where all does.

    Compared are the verdicts that it recorded, and the rows, with their numbers, that its page shows.
    Raises FileNotFoundError where the ledger has no run, ValueError as `ledger.judge_claims` does.
    """
    folder = folder or run_folder.RUNS
    run = run_folder.find_run(str(folder / STEM / profile))
    now = {row.key: row for row in ledger.judge_claims(profile, folder)}
    recorded = {(row.claim or "", row.published_run): row.value for row in run.rows if row.metric == "verdict"}
    cells = notebook_files.read_notebook(run.notebook).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    page = "\n".join(str(shown) for output in outputs for shown in output.get("data", {}).values())
    problems = []
    for key in dict.fromkeys([*now, *recorded]):
        name = "verdict on " + " by ".join(filter(None, key))
        was = recorded.get(key, "not recorded")
        follows = str(now[key].verdict) if key in now else "no claim of the ledger"
        if was != follows:
            problems.append(f"{name} is {was!r} in {run.name}, and {follows!r} by the stored results")
        elif ledger_page.run(now[key]) not in page:
            problems.append(f"{name}: the page of {run.name} shows other numbers than the stored results")
    return [f"{problem}; mend: ctd run {STEM} --profile {profile} --force" for problem in problems]
