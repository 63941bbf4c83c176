"""From a notebook to a run: decide everything first, execute in a scratch folder, keep only what is whole.

Notes: papermill executes, this module is strict around it. A run folder holds the executed notebook,
`results.json`, `figures/` and `manifest.json`; its key is a digest of all that a result may depend on, so that an
unchanged run is kept.
"""

from __future__ import annotations

import functools
import json
import logging
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book import results
from ctd.book.parameters import Parameter, check_all, near, read_parameters, read_yaml, table
from ctd.book.recorder import Recorder as Recorder
from ctd.book.results import RESULTS, Row, read_json
from ctd.cache import DATA, ROOT, atomic, digest, file_digest
from ctd.hardware import machine

if TYPE_CHECKING:  # these take a second to import
    import pandas as pd
    from nbformat import NotebookNode

RUNS = Path("runs")
PROFILES = "profiles.yml"
MANIFEST = "manifest.json"
KERNEL_LOG = "kernel.log"  # what the kernel's process says outside of cells; kept with a failed run
CELL_TIMEOUT = 7200  # seconds a cell may take
PACKAGES = (
    "torch", "transformers", "datasets", "faiss-cpu", "sentence-transformers", "numpy", "papermill",
)  # fmt: skip


class RunFailed(RuntimeError):
    """A notebook did not run to its end; one line says which cell, why, and where to look."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. kept: True when `run` found it unchanged and executed nothing."""

    path: Path
    kept: bool = False

    @functools.cached_property
    def manifest(self) -> Mapping[str, Any]:
        return read_json(self.path / MANIFEST)

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The results, in the order of recording."""
        return results.read(self.path / RESULTS)

    def frame(self) -> pd.DataFrame:
        """The results as a table; see `ctd.book.results.frame`."""
        return results.frame(self.rows)

    @property
    def stem(self) -> str:
        return Path(self.manifest["notebook"]).stem

    @property
    def name(self) -> str:
        """How a command line names it: `stem/profile` beneath `runs/`, else its path."""
        place = self.path.absolute()
        return str(place.relative_to(RUNS.absolute())) if place.is_relative_to(RUNS.absolute()) else str(self.path)

    @property
    def notebook(self) -> Path:
        """The executed copy."""
        return self.path / f"{self.stem}.ipynb"

    def stale(self) -> str:
        """Why running it again would execute it: "" when it would be kept."""
        try:
            now = plan(ROOT / self.manifest["notebook"], self.manifest["profile"], self.manifest["overrides"])
        except (ValueError, FileNotFoundError) as error:
            return " ".join(line.strip() for line in str(error).splitlines()[:2])
        if now.key == self.manifest["key"]:
            return ""
        changed = [what for what in KEY_PARTS if now.parts[what] != self.manifest[what]]
        return ", ".join(what.removesuffix("_hash") for what in changed) + " changed"


KEY_PARTS = ("notebook_hash", "parameters", "ctd_hash", "inputs_hash")


@dataclass(frozen=True)
class Plan:
    """All that is decided before a kernel starts.

    defaults: the cell's. parameters: all, resolved. overrides: what differs from the profile. parts: KEY_PARTS.
    """

    notebook: Path
    profile: str
    defaults: Mapping[str, Any]
    parameters: Mapping[str, Any]
    overrides: Mapping[str, Any]
    folder: Path
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return digest([json.dumps(self.parts, sort_keys=True)])


def find_notebook(name: str) -> Path:
    """A notebook by path, by stem or by number: `notebooks/01_x.ipynb`, `01_x` and `01` are the same.

    Looked for in `notebooks/` beneath the current directory, then in the repository's.
    Raises FileNotFoundError for none (with the nearest in spelling), ValueError for several.
    """
    if name.endswith(".ipynb"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no notebook {name}")
        return Path(name).resolve()
    known = {path.stem: path for path in notebooks()}
    found = [stem for stem in known if stem == name]
    found = found or [stem for stem in known if name.isdigit() and re.match(rf"0*{int(name)}_", stem)]
    if len(found) > 1:
        raise ValueError(f"{name} is the number of {len(found)} notebooks: {', '.join(found)}")
    if not found:
        raise FileNotFoundError(
            f"no notebook {name}{near(name, known)}; there are: {', '.join(known) or 'none in notebooks/'}"
        )
    return known[found[0]]


def notebooks() -> list[Path]:
    """All numbered notebooks, in order: `notebooks/` beneath the current directory, else the repository's."""
    here = [base / "notebooks" for base in (Path.cwd(), ROOT) if (base / "notebooks").is_dir()]
    return sorted(here[0].glob("[0-9]*_*.ipynb")) if here else []


def read_notebook(path: Path) -> NotebookNode:
    """A notebook in format 4. Raises ValueError with one line when it is not one."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook ({str(error).splitlines()[0][:80]})") from None


def profile_values(notebook: Path, profile: str) -> dict[str, Any]:
    """What a profile sets for a notebook, from `profiles.yml` beside it, unchecked; {} when it says nothing.

    Raises ValueError for a profile that is not there, or a stem without a notebook.
    """
    path = notebook.parent / PROFILES
    profiles = read_yaml(path.read_text(), str(path)) if path.is_file() else {"default": {}}
    if not isinstance(profiles, dict):
        raise ValueError(f"{path} must map profiles to notebooks to parameters")
    if profile not in profiles:
        raise ValueError(f"no profile {profile}{near(profile, profiles)}; {path.name} has: {', '.join(profiles)}")
    stems = profiles[profile] or {}
    if not isinstance(stems, dict) or not all(isinstance(values, dict | None) for values in stems.values()):
        raise ValueError(f"{path}: profile {profile} must map notebooks to parameters")
    for stem in stems:
        if not (notebook.parent / f"{stem}.ipynb").is_file():
            raise ValueError(f"{path}: profile {profile} names {stem}, and there is no {stem}.ipynb beside it")
    return stems.get(notebook.stem) or {}


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares. Raises ValueError as `ctd.book.parameters.read_parameters` does."""
    return read_parameters(read_notebook(notebook), notebook.name)


def plan(
    notebook: Path, profile: str = "default", overrides: Mapping[str, Any] | None = None, out: Path | None = None
) -> Plan:
    """Resolve parameters (cell, then profile, then overrides) and the folder of a run, or refuse.

    Raises ValueError with every unknown name, wrong type and broken bound, and the list of valid parameters;
    FileNotFoundError for a missing notebook.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook {notebook}")
    node = read_notebook(notebook)
    parameters = read_parameters(node, notebook.name)
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    base, problems = check_all(parameters, profile_values(notebook, profile), f"profile {profile}")
    given, more = check_all(parameters, overrides or {}, "given")
    if problems or more:
        raise ValueError(
            "\n  ".join([f"{notebook.name} refuses:", *problems, *more]) + f"\nits parameters are:\n{table(parameters)}"
        )
    values = defaults | base
    changed = {name: value for name, value in given.items() if value != values[name]}
    resolved = {name: changed.get(name, value) for name, value in values.items()}
    suffix = f"-{digest([json.dumps(changed, sort_keys=True)])[:8]}" if changed else ""
    parts = {
        "notebook_hash": notebook_digest(node),
        "parameters": resolved,
        "ctd_hash": files_digest(ROOT / "ctd"),
        "inputs_hash": inputs_digest([resolved[name] for name in parameters if parameters[name].is_path]),
    }
    folder = (out or RUNS / notebook.stem / f"{profile}{suffix}").absolute()
    return Plan(notebook.resolve(), profile, defaults, resolved, changed, folder, parts)


def run(
    notebook: Path,
    profile: str = "default",
    overrides: Mapping[str, Any] | None = None,
    out: Path | None = None,
    force: bool = False,
) -> RunFolder:
    """Run a notebook, or keep the run that is there when nothing it depends on has changed.

    Raises what `plan` and `execute` raise.
    """
    return execute(plan(notebook, profile, overrides, out), force)


def execute(todo: Plan, force: bool = False) -> RunFolder:
    """Execute a plan into its folder, which is replaced only by a run that came to its end.

    Raises RunFailed when a cell fails, is too slow or kills the kernel, and when no results were recorded: the copy
    executed so far is then at `<folder>.failed/`. Raises ValueError when the folder is there and is not a run of
    this notebook.
    """
    previous = _previous(todo)
    if previous and not force and previous.manifest["key"] == todo.key:
        return RunFolder(todo.folder, kept=True)
    started, clock = datetime.now(UTC), time.perf_counter()
    code = git_state()
    failed = todo.folder.with_name(f"{todo.folder.name}.failed")
    with atomic(todo.folder) as scratch:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        copy = scratch / f"{todo.notebook.stem}.ipynb"
        try:
            _papermill(todo, copy)
            _require_whole(copy)
        except RunFailed as failure:
            shutil.rmtree(failed, ignore_errors=True)
            shutil.move(scratch, failed)
            raise RunFailed(f"{todo.notebook.stem}: {failure}; see {failed / copy.name}") from None
        (scratch / KERNEL_LOG).unlink(missing_ok=True)
        recorded = read_json(scratch / RESULTS)
        manifest = {
            "notebook": _relative(todo.notebook),
            "profile": todo.profile,
            "overrides": todo.overrides,
            "seed": todo.parameters["seed"],
            **code,
            **todo.parts,
            "key": todo.key,
            "versions": versions(),
            "hardware": machine() | {"gpu": recorded["gpu"]},
            "start": started.isoformat(timespec="seconds"),
            "duration_s": round(time.perf_counter() - clock, 2),
            "peak_memory_mib": recorded["peak_memory_mib"],
            "code_cells": sum(cell.cell_type == "code" for cell in read_notebook(copy).cells),
        }
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(failed, ignore_errors=True)
    return RunFolder(todo.folder)


def kernel_environment(folder: Path, seed: int) -> dict[str, str]:
    """What a notebook's kernel finds in its environment besides the caller's."""
    return {
        "CTD_RUN_DIR": str(folder),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": str(seed),
        "TQDM_DISABLE": "1",
    }


def _papermill(todo: Plan, copy: Path) -> None:
    """Execute the notebook into `copy`, saved after every cell. Raises RunFailed."""
    import papermill
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets import default

    class OwnKernel(AsyncKernelManager):
        """The interpreter that runs this, whatever kernel a user has installed under the name python3."""

        @default("transport_encryption")
        def _encrypt(self) -> str:  # a kernel in the clear warns on stderr
            return "auto"

        @property
        def kernel_spec(self) -> KernelSpec:
            environment = kernel_environment(copy.parent, todo.parameters["seed"])
            return KernelSpec(resource_dir=RESOURCES, **(get_kernel_dict() | {"env": environment}))

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            with (copy.parent / KERNEL_LOG).open("wb") as log:
                await super().start_kernel(**options, stdout=log, stderr=log)

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it repeats what we say in one line
    changed = {name: value for name, value in todo.parameters.items() if value != todo.defaults[name]}
    try:
        papermill.execute_notebook(
            _no_template(todo.notebook),
            _no_template(copy),
            parameters=changed,
            kernel_name="python3",
            language="python",
            cwd=str(copy.parent),
            execution_timeout=CELL_TIMEOUT,
            progress_bar={"desc": todo.notebook.stem, "leave": False, "disable": None},
            kernel_manager_class=OwnKernel,
        )
    except PapermillExecutionError as error:
        message = f"{error.ename}: {str(error.evalue).strip() or 'no message'}".splitlines()[0]
        raise RunFailed(f"cell [{error.exec_count}] raised {message[:300]}") from None
    except CellTimeoutError:
        raise RunFailed(f"cell [{_last_started(copy)}] took longer than {CELL_TIMEOUT} s") from None
    except DeadKernelError:
        raise RunFailed(f"the kernel died in cell [{_last_started(copy)}] (often: out of memory)") from None
    except RuntimeError as error:
        raise RunFailed(f"the kernel did not start ({error})") from None
    finally:
        _forget_paths(copy)


def _no_template(path: Path) -> str:
    """A path that papermill, which formats paths with the parameters, takes as it is."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_started(copy: Path) -> int:
    """The number, from 1 among code cells, of the last cell that papermill started."""
    cells = [cell for cell in read_notebook(copy).cells if cell.cell_type == "code"]
    return sum(cell.metadata.get("papermill", {}).get("start_time") is not None for cell in cells)


def _forget_paths(copy: Path) -> None:
    """Take this machine's folders out of a copy's metadata: the copy is offered for download."""
    import nbformat

    if copy.is_file():
        node = read_notebook(copy)
        for name in ("input_path", "output_path"):
            node.metadata.get("papermill", {}).pop(name, None)
        nbformat.write(node, copy)


def _require_whole(copy: Path) -> None:
    """Raise RunFailed when a cell was left out (a quiet `sys.exit()`), or nothing was recorded."""
    code = [cell for cell in read_notebook(copy).cells if cell.cell_type == "code" and cell.source.strip()]
    if left := sum(cell.execution_count is None for cell in code):
        raise RunFailed(f"the notebook ended early: {left} of {len(code)} code cells were not executed")
    if not (copy.parent / RESULTS).is_file():
        raise RunFailed(f"it wrote no {RESULTS}: it needs `run = Recorder.start(seed)` and at its end `run.close()`")


def _previous(todo: Plan) -> RunFolder | None:
    """The whole run that is in the plan's folder, if any. Raises ValueError for a folder of something else."""
    folder = todo.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        previous = RunFolder(folder)
        mine = previous.stem == todo.notebook.stem
    except (OSError, ValueError, KeyError):
        mine = folder.parent == (RUNS / todo.notebook.stem).absolute()  # ours, and damaged
        previous = None
    if not mine:
        raise ValueError(f"{folder} exists and is not a run of {todo.notebook.stem}; choose another folder")
    whole = previous and previous.notebook.is_file() and (folder / RESULTS).is_file()
    return previous if whole else None


def find_run(name: str) -> RunFolder:
    """A run by its folder, or as `stem/profile` beneath `runs/`.

    Raises FileNotFoundError with those that are there.
    """
    for folder in (Path(name), RUNS / name):
        if (folder / MANIFEST).is_file():
            return RunFolder(folder)
    known = [run.name for run in all_runs()]
    raise FileNotFoundError(f"no run {name}{near(name, known)}; there are: {', '.join(known) or 'none in runs/'}")


def all_runs(base: Path | None = None) -> list[RunFolder]:
    """The runs `<stem>/<profile>` beneath a folder (`runs/`), sorted; no failed or half-made ones."""
    found = sorted((base or RUNS).glob(f"*/*/{MANIFEST}"))
    return [RunFolder(path.parent) for path in found if not path.parent.name.startswith(".")]


def notebook_digest(node: NotebookNode) -> str:
    """SHA-256 of what the author wrote: kinds, sources and metadata of the cells; never outputs."""
    cells = [[cell.cell_type, cell.source, cell.metadata] for cell in node.cells]
    return digest([json.dumps(cells, sort_keys=True)])


def files_digest(*places: Path, without: Sequence[Path] = ()) -> str:
    """SHA-256 of files and of all files beneath folders: their names and bytes; compiled Python left out."""
    parts = []
    for file, base in _files(places):
        if "__pycache__" not in file.parts and not any(file.is_relative_to(skipped) for skipped in without):
            parts += [str(file.relative_to(base)), file_digest(file)]
    return digest(parts)


def inputs_digest(paths: Iterable[str]) -> str:
    """SHA-256 of what notebooks read: `data/`, the requirements, and size and time of files that parameters name.

    Golden results are no input.
    """
    shipped = files_digest(DATA, *sorted(ROOT.glob("requirements*.txt")), without=[DATA / "golden"])
    named = [
        f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}"
        for file, _ in _files(Path(path) for path in paths if Path(path).is_absolute())
    ]
    return digest([shipped, *named])


def _files(places: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    """Every file of files and folders, sorted, with the folder that its name is relative to."""
    for place in places:
        if place.is_file():
            yield place, place.parent
        else:
            yield from ((file, place) for file in sorted(place.rglob("*")) if file.is_file())


def git_state() -> dict[str, Any]:
    """{commit, dirty} of the repository; "unknown" and None where ctd does not lie in a repository of its own."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return {"commit": "unknown", "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that most decide a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _relative(notebook: Path) -> str:
    return str(notebook.relative_to(ROOT) if notebook.is_relative_to(ROOT) else notebook)
