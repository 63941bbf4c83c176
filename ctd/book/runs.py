"""From a notebook to a run: decide everything first, execute in a scratch folder, keep only what is whole.

Notes: a run folder holds the executed notebook, `results.json`, `figures/`, `looks.csv` and `manifest.json`; its key is
a digest of all that a result may depend on, so that an unchanged run is kept.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctd import cache_room
from ctd.book import chapters, home_folder, kernel
from ctd.book.kernel import RunFailed
from ctd.book.notebook_files import profile_values, read_notebook
from ctd.book.parameter_cells import read_parameters
from ctd.book.parameters import check_all
from ctd.book.provenance import files_digest, git_state, inputs_digest, notebook_digest, versions
from ctd.book.recorder import Recorder as Recorder
from ctd.book.results import RESULTS, read_json
from ctd.book.run_folder import MANIFEST, RUNS, RunFolder
from ctd.cache import ROOT, alone, atomic, digest, require_folders
from ctd.hardware import machine

KEY_PARTS = ("notebook_hash", "parameters", "ctd_hash", "inputs_hash")


@dataclass(frozen=True)
class Plan:
    """All that is decided before a kernel starts.

    notebook: the author's.
    profile: the name of a profile.
    defaults: parameters as the notebook has them.
    parameters: all of them, resolved.
    overrides: those that differ from the profile.
    folder: where the run goes.
    parts: what its key is made of, by `KEY_PARTS`.
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


def plan(
    notebook: Path, profile: str = "default", overrides: Mapping[str, Any] | None = None, out: Path | None = None
) -> Plan:
    """Resolve parameters (cell, then profile, then overrides) and the folder of a run, or refuse.

    Raises ValueError with every unknown name, wrong type and broken bound, in one line; FileNotFoundError for a missing
    notebook, and for a folder that is a link to nothing; NotADirectoryError for one below a file.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook {notebook}")
    node = read_notebook(notebook)
    parameters = read_parameters(node, notebook.name)
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    base, problems = check_all(parameters, profile_values(notebook, profile), f"profile {profile}")
    overriding, more = check_all(parameters, overrides or {}, "given")
    if problems or more:
        raise ValueError(
            f"{notebook.name} refuses {'; '.join([*problems, *more])}. What it takes: ctd params {notebook.stem}"
        )
    values = defaults | base
    changed = {name: value for name, value in overriding.items() if value != values[name]}
    resolved = {name: changed.get(name, value) for name, value in values.items()}
    if resolved.keys() >= {"dataset", "source"} and (resolved["source"] or "dataset" in changed):
        _check_source(notebook, resolved["dataset"], resolved["source"])
    suffix = f"-{digest([json.dumps(changed, sort_keys=True)])[:8]}" if changed else ""
    inputs = inputs_digest([resolved[name] for name in parameters if parameters[name].is_path])
    if notebook.stem == chapters.LEDGER:
        read = [path for path in RUNS.glob(f"*/{resolved['profile']}/{RESULTS}") if path.parts[-3] != notebook.stem]
        inputs = digest([inputs, *(part for path in sorted(read) for part in (path.parts[-3], path.read_bytes()))])
    parts = {
        "notebook_hash": notebook_digest(node),
        "parameters": resolved,
        "ctd_hash": files_digest(ROOT / "ctd"),
        "inputs_hash": inputs,
    }
    folder = out or RUNS / notebook.stem / f"{profile}{suffix}"
    require_folders(folder, "name another folder with --out")
    if folder.is_symlink() and not folder.exists():
        raise FileNotFoundError(f"{folder} is a link that leads nowhere: name another folder with --out")
    return Plan(notebook.resolve(), profile, defaults, resolved, changed, folder.absolute(), parts)


def _check_source(notebook: Path, dataset: str, source: str) -> None:
    """Refuse a source that a dataset of ours cannot be read from, before a kernel starts."""
    from ctd.data import readers  # a second to import

    if dataset not in readers.READERS:  # a notebook of the user's own may mean something else by the name
        return
    try:
        readers.check_source(dataset, source)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{notebook.name} refuses its source: {error}") from None


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

    force: execute it even where the run that is there is unchanged.
    Where another process makes the same run, it waits, and keeps what the other one made.
    Raises RunFailed when a cell fails, is too slow or kills the kernel, and when no results were recorded: the copy
    executed so far is then at `<folder>.failed/`. Raises ValueError when the folder is there and is not a run of
    this notebook.
    """
    with alone(todo.folder):
        unchanged = unchanged_run(todo)
        if not unchanged or force:
            _execute(todo)
    if unchanged and not force:
        return unchanged
    cache_room.keep_to_limit()
    return RunFolder(todo.folder)


def _execute(todo: Plan) -> None:
    cache_room.limit()  # refuses a setting that is no number before anything runs
    started, clock, code = datetime.now(UTC), time.perf_counter(), git_state()
    failed = todo.folder.with_name(f"{todo.folder.name}.failed")
    with atomic(todo.folder) as scratch:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        copy = scratch / f"{todo.notebook.stem}.ipynb"
        changed = {name: value for name, value in todo.parameters.items() if value != todo.defaults[name]}
        try:
            held_mib = kernel.execute_notebook(todo.notebook, copy, changed, todo.parameters["seed"])
            kernel.require_whole(copy)
        except RunFailed as failure:
            shutil.rmtree(failed, ignore_errors=True)
            shutil.move(scratch, failed)
            raise type(failure)(f"{todo.notebook.stem}: {failure}; see {failed / copy.name}") from None
        (scratch / kernel.KERNEL_LOG).unlink(missing_ok=True)
        home_folder.rewrite_notebook(copy)
        home_folder.rewrite_json(scratch / RESULTS)
        took = {"start": started.isoformat(timespec="seconds"), "duration_s": round(time.perf_counter() - clock, 2)}
        manifest = _manifest(todo, copy, {**code, **took}, held_mib)
        (scratch / MANIFEST).write_text(home_folder.without_home(json.dumps(manifest, indent=1)) + "\n")
        from ctd.book import looks  # pandas takes long to load

        seen = looks.of_run(RunFolder(scratch), f"{todo.notebook.stem}/{todo.folder.name}")
        looks.append(seen, scratch / looks.FILE, before=todo.folder / looks.FILE)
    shutil.rmtree(failed, ignore_errors=True)


def unchanged_run(todo: Plan) -> RunFolder | None:
    """The run that is there, where executing the plan would keep it. Raises ValueError as `execute` does."""
    previous = _previous(todo)
    return RunFolder(todo.folder, kept=True) if previous and previous.manifest["key"] == todo.key else None


def _manifest(todo: Plan, copy: Path, origin: Mapping[str, Any], held_mib: float) -> dict[str, Any]:
    """How a run was made.

    copy: the executed notebook.
    origin: its commit, its start and its duration.
    held_mib: the most memory that the kernel and its workers were seen to hold.
    """
    recorded = read_json(copy.parent / RESULTS)
    return {
        "notebook": str(todo.notebook.relative_to(ROOT) if todo.notebook.is_relative_to(ROOT) else todo.notebook),
        "profile": todo.profile,
        "overrides": todo.overrides,
        "seed": todo.parameters["seed"],
        **origin,
        **todo.parts,
        "key": todo.key,
        "versions": versions(),
        "hardware": machine() | {"gpu": recorded["gpu"]},
        "peak_memory_mib": round(max(recorded["peak_memory_mib"], held_mib), 1),
        "timings": recorded["timings"],
        "code_cells": sum(cell.cell_type == "code" for cell in read_notebook(copy).cells),
    }


def stale(run: RunFolder) -> str:
    """Why running it again would execute it: "" when it would be kept."""
    manifest = run.manifest
    try:
        now = plan(ROOT / Path(manifest["notebook"]).expanduser(), manifest["profile"], manifest["overrides"])
    except (ValueError, FileNotFoundError) as error:
        return " ".join(line.strip() for line in str(error).splitlines()[:2])
    if now.key == manifest["key"]:
        return ""
    parts = json.loads(home_folder.without_home(json.dumps(now.parts)))
    changed = [part for part in KEY_PARTS if parts[part] != manifest[part]]
    return ", ".join(part.removesuffix("_hash") for part in changed) + " changed"


def _previous(todo: Plan) -> RunFolder | None:
    """The whole run that is in the plan's folder, if any. Raises ValueError for a folder of something else."""
    folder = todo.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        previous = RunFolder(folder)
        ours = previous.stem == todo.notebook.stem
    except (OSError, ValueError, KeyError):
        ours = folder.parent == (RUNS / todo.notebook.stem).absolute()  # ours, and damaged
        previous = None
    if not ours:
        raise ValueError(f"{folder} exists and is not a run of {todo.notebook.stem}; choose another folder")
    whole = previous and previous.notebook.is_file() and (folder / RESULTS).is_file()
    return previous if whole else None
