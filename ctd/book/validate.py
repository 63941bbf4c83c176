"""Does a run still say what it said? Its executed copy is run again and compared, and its numbers with golden ones.

Notes: nbval compares the printed output of every cell; we refuse to pass when it compared nothing, check pictures
ourselves (nbval does not look at them), and compare every recorded number. Times and memory are never compared.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from ctd.book import home_folder, results
from ctd.book.kernel import CELL_TIMEOUT, LAST, cells_to_run, kernel_environment
from ctd.book.notebook_files import read_notebook
from ctd.book.recorder import FIGURES
from ctd.book.results import RESULTS, ResultKey, Row, Value
from ctd.book.run_folder import RunFolder
from ctd.cache import DATA, atomic

if TYPE_CHECKING:
    from nbformat import NotebookNode

GOLDEN = DATA / "golden"
NBVAL = (
    "--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}",
    "--quiet", "--color=no", "--rootdir=.", "-p", "no:cacheprovider", "-c", os.devnull,
)  # fmt: skip
SAME = 1e-6  # relative; what a second execution on the same machine may differ by
FRACTION_TOLERANCE = 0.01  # absolute
OTHER_TOLERANCE = 0.05  # relative
MACHINE_UNITS = re.compile(r"second|minute|hour|[KMG]i?B\b")
UNCOMPARED = re.compile(r"^\s*#\s*(NBVAL_SKIP|NBVAL_IGNORE_OUTPUT)\s*$", re.MULTILINE)


class GoldenRow(ResultKey):
    """A number that every run under a profile must find.

    value: the number, or a text.
    tolerance: how far a run may be from it, in its own unit.
    """

    value: Value
    tolerance: float = Field(ge=0)


@dataclass(frozen=True)
class Report:
    """What was looked at, and every complaint.

    cells: how many cells have an output that nbval compared.
    numbers: how many results were compared.
    golden: whether there are golden results for such a run.
    problems: the complaints, one line each.
    """

    cells: int
    numbers: int
    golden: bool
    problems: list[str]


def validate(run: RunFolder, golden: Path | None = None) -> Report:
    """Execute a run's copy again, elsewhere, and compare outputs, pictures and numbers; then with golden results.

    golden: folder of `<stem>.<profile>.json` (`data/golden/`), which bind runs without overrides; a profile without
    such a file is not bound.
    Raises FileNotFoundError for a run that lacks its copy or results, ImportError without nbval.
    """
    if find_spec("nbval") is None:
        raise ImportError("validate needs nbval: pip install nbval==0.11.0")
    notebook = read_notebook(run.notebook)
    code = [cell for cell in cells_to_run(notebook) if cell.cell_type == "code"]
    problems = [
        f"cell [{number}] was never executed (no execution count): the copy is stripped"
        for number, cell in enumerate(code, start=1)
        if cell.execution_count is None and cell.source.strip()
    ]
    compared = sum(map(is_compared, code))
    if not compared:
        problems.append("no cell was compared: no executed cell has printed output")
    problems += broken_pictures(code, run.path / FIGURES)
    if not problems:
        problems += executed_again(run)
    bound = not run.manifest["overrides"] and golden_path(run, golden or GOLDEN).is_file()
    if bound:
        problems += golden_problems(run, golden or GOLDEN)
    return Report(compared, len(comparable(run.rows)), bound, problems)


def is_compared(cell: NotebookNode) -> bool:
    """Whether nbval compares anything of a code cell that could tell two executions apart."""
    skipped = {"nbval-skip", "nbval-ignore-output"} & set(cell.metadata.get("tags", ()))
    if cell.execution_count is None or skipped or UNCOMPARED.search(cell.source):
        return False
    texts = [text for output in cell.outputs for text in _texts(output)]
    return any(text.strip() and not text.startswith(("<Figure size", "<IPython.core")) for text in texts)


def _texts(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "stream":
        yield output.text
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/") and isinstance(content, str):
            yield content


def broken_pictures(code: Iterable[NotebookNode], figures: Path) -> list[str]:
    """Pictures in cells and in a folder that do not open, one line each."""
    pictures = {path.name: path.read_bytes() for path in sorted(figures.glob("*.png"))}
    problems = []
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if encoded := output.get("data", {}).get("image/png"):
                try:
                    pictures[f"the picture of cell [{number}]"] = base64.b64decode(encoded, validate=False)
                except binascii.Error:
                    problems.append(f"the picture of cell [{number}] is damaged")
    return problems + [f"{name} is damaged" for name, content in pictures.items() if not _opens(content)]


def _opens(picture: bytes) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def executed_again(run: RunFolder) -> list[str]:
    """Complaints of nbval, and numbers that a second execution records otherwise."""
    with tempfile.TemporaryDirectory(prefix="ctd-validate-") as scratch:
        copy, again = Path(scratch) / "run", Path(scratch) / "again"
        shutil.copytree(run.path, copy)
        home_folder.rewrite_notebook(copy / run.notebook.name, home_folder.with_home)
        _end_early(copy / run.notebook.name)
        again.mkdir()
        verdicts = Path(scratch) / "nbval.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *NBVAL, f"--junitxml={verdicts}", run.notebook.name],
            cwd=copy,
            env=os.environ | kernel_environment(again, run.manifest["seed"]) | {"PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
        )
        if not verdicts.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            return [f"nbval did not run: {last}"]
        cells = list(ElementTree.parse(verdicts).getroot().iter("testcase"))
        problems = [problem for cell in cells if (problem := _complaint(cell))]
        if problems or done.returncode:
            return problems or [f"nbval ended with exit code {done.returncode}: {done.stdout.strip()[-200:]}"]
        if not (again / RESULTS).is_file():
            return [f"run again, it wrote no {RESULTS}"]
        home_folder.rewrite_json(again / RESULTS)
        return differences(run.rows, RunFolder(again).rows)


def _end_early(copy: Path) -> None:
    """Where a run ended as untestable, drop the cells below that one, and expect it to end there again."""
    import nbformat

    node = read_notebook(copy)
    *_, last = node.cells = cells_to_run(node)
    if LAST in last.metadata.get("tags", []):
        last.metadata["tags"] += ["raises-exception", "nbval-ignore-output"]
        nbformat.write(node, copy)


def _complaint(cell: ElementTree.Element) -> str:
    """One line about a cell that nbval failed; "" for one that passed."""
    failure = next((part for part in cell if part.tag in ("failure", "error")), None)
    if failure is None:
        return ""
    number = int(cell.get("name", "Cell 0").split()[-1]) + 1
    text = re.sub(r"#x1B\[[\d;]*m", "", failure.text or "")
    match = re.search(r"^Cell \d+: (.*)", text, re.MULTILINE)
    detail = [line.strip() for line in text.partition("Traceback:\n")[2].splitlines() if line.strip()]
    sides = [line for line in detail if " == " in line and not line.startswith("assert")]
    if sides:
        detail = [f"{detail[0]}, stored == again: {sides[0]}"]
    return f"cell [{number}]: {match[1] if match else 'nbval failed'}: {detail[-1][:300] if detail else 'no detail'}"


def comparable(rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    """The results that must not depend on the machine's speed or memory, by identity."""
    return {row.identity: row for row in rows if not MACHINE_UNITS.search(row.unit)}


def differences(first: Iterable[Row], second: Iterable[Row]) -> list[str]:
    """Results that are on one side only or differ in value or interval, one line each."""
    stored, again = comparable(first), comparable(second)
    problems = [
        f"{RESULTS} has {row.label}; run again, it is not recorded" for key, row in stored.items() if key not in again
    ]
    problems += [
        f"run again, {row.label} is recorded; {RESULTS} lacks it" for key, row in again.items() if key not in stored
    ]
    for key in stored.keys() & again.keys():
        row, other = stored[key], again[key]
        ends = [(row.value, other.value), *zip(row.interval or (), other.interval or (), strict=False)]
        same = all(close(a, b, SAME * abs(a) if isinstance(a, int | float) else 0) for a, b in ends)
        if not same or (row.interval_method, row.n) != (other.interval_method, other.n):
            problems.append(f"{row.label} is {_say(row)} in {RESULTS}; run again, it is {_say(other)}")
    return sorted(problems)


def close(value: Any, other: Any, tolerance: float) -> bool:
    """Two numbers within an absolute tolerance, or two equal texts or Nones."""
    if isinstance(value, int | float) and isinstance(other, int | float):
        return math.isclose(value, other, rel_tol=0, abs_tol=tolerance)
    return value == other


def golden_path(run: RunFolder, folder: Path) -> Path:
    return folder / f"{run.stem}.{run.manifest['profile']}.json"


def read_golden(path: Path) -> dict[tuple[Any, ...], GoldenRow]:
    """The golden results of a file, by identity. Raises ValueError when the file has another shape."""
    entries = results.read_json(path)
    try:
        if not isinstance(entries, list):
            raise TypeError(f"it is no list, but {type(entries).__name__}")
        rows = [GoldenRow.model_validate(entry) for entry in entries]
    except (TypeError, ValidationError) as error:
        raise ValueError(
            f"{path} must be a list of results, each with a value and a tolerance ({results.one_line(error)})"
        ) from None
    return {row.identity: row for row in rows}


def golden_problems(run: RunFolder, folder: Path) -> list[str]:
    """Numbers outside the stated tolerance of golden ones, and results that are on one side only, one line each."""
    path, mend = golden_path(run, folder), "if it is right, run: ctd validate --write-golden"
    golden, rows = read_golden(path), comparable(run.rows)
    problems = [
        f"golden {row.label} is not among the results; {mend}" for key, row in golden.items() if key not in rows
    ]
    problems += [
        f"{row.label} has no golden result in {path.name}; {mend}" for key, row in rows.items() if key not in golden
    ]
    for key, row in rows.items():
        wanted = golden.get(key)
        if wanted is not None and not close(row.value, wanted.value, wanted.tolerance):
            problems.append(
                f"{row.label} must be {wanted.value!r} within {wanted.tolerance:g} (golden), got {_say(row)}"
            )
    return problems


def write_golden(run: RunFolder, folder: Path | None = None) -> Path:
    """Write a run's numbers as golden ones; a tolerance that is there stays. Returns the file.

    Raises ValueError for a run with overrides: golden results belong to a profile.
    """
    if run.manifest["overrides"]:
        raise ValueError(
            f"golden results belong to a profile; {run.name} has overrides {dict(run.manifest['overrides'])}"
        )
    path = golden_path(run, folder or GOLDEN)
    stated = read_golden(path) if path.is_file() else {}
    entries = []
    for key, row in comparable(run.rows).items():
        plain = row.plain()
        tolerance = stated[key].tolerance if key in stated else default_tolerance(row)
        identity = {name: plain[name] for name in results.IDENTITY if name in plain}
        entries.append(identity | {"value": row.value, "tolerance": tolerance})
    with atomic(path) as scratch:
        scratch.write_text(results.lines(entries) + "\n", "utf-8")
    return path


def default_tolerance(row: Row) -> float:
    """How far a number may be from its golden one: 0 for counts and texts, 0.01 for fractions, else 5 %."""
    if not isinstance(row.value, float):
        return 0
    return FRACTION_TOLERANCE if row.unit == "fraction" else float(f"{OTHER_TOLERANCE * abs(row.value):.3g}")


def _say(row: Row) -> str:
    interval = f" [{row.interval[0]}, {row.interval[1]}]" if row.interval else ""
    return f"{row.value!r}{interval} {row.unit}"
