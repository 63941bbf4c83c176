"""A notebook in a kernel of its own: executed by papermill, which this module is strict around."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book import peak_memory
from ctd.book.notebook_files import read_notebook
from ctd.book.results import RESULTS
from ctd.mechanism.untestable import NotTestable

if TYPE_CHECKING:  # it takes long to import
    from nbformat import NotebookNode

KERNEL_LOG = "kernel.log"  # what the kernel's process says outside of cells; kept with a failed run
LAST = "not-testable"  # the tag of a cell after which nothing was run
CELL_TIMEOUT = 7200  # seconds a cell may take
_managers: list[Any] = []  # of the kernels that run


class RunFailed(RuntimeError):
    """A notebook did not run to its end; one line says which cell, why, and where to look."""


class KernelDied(RunFailed):
    """The kernel's process ended in the middle of a cell."""


def kernel_environment(folder: Path, seed: int) -> dict[str, str]:
    """What a notebook's kernel finds in its environment besides the caller's."""
    return {
        "CTD_KERNEL_STARTED": f"{time.time():.2f}",
        "CTD_RUN_DIR": str(folder),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": str(seed),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, where its widgets are not installed
        "TQDM_DISABLE": "1",
    }


def execute_notebook(notebook: Path, copy: Path, parameters: Mapping[str, Any], seed: int) -> float:
    """Execute a notebook into a copy, saved after every cell.

    notebook: the author's.
    copy: where the executed copy goes; its folder is the kernel's working directory, and gets its log.
    parameters: those that differ from the defaults of the notebook.
    seed: of Python's hashes.
    Returns the most memory, in MiB, that the kernel and its workers were seen to hold; 0 where that cannot be seen.
    Raises RunFailed.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    in_main_thread = threading.current_thread() is threading.main_thread()
    kernel_manager = _own_kernel(copy.parent, seed)
    _managers.append(kernel_manager)
    for logger in ("papermill", "asyncio"):  # they repeat what we say in one line
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        with peak_memory.watched(lambda: getattr(kernel_manager.process, "pid", None)) as peak:
            papermill.execute_notebook(
                _no_template(notebook),
                _no_template(copy),
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                execution_timeout=CELL_TIMEOUT,
                progress_bar=in_main_thread and {"desc": notebook.stem, "leave": False, "disable": None},
                kernel_manager_class=kernel_manager,
            )
        return peak.mib
    except PapermillExecutionError as error:
        if error.ename == NotTestable.__name__:
            _say_why(copy)
            return peak.mib
        message = f"{error.ename}: {str(error.evalue).strip() or 'no message'}".splitlines()[0]
        raise RunFailed(f"cell [{error.exec_count}] raised {message[:300]}") from None
    except CellTimeoutError:
        raise RunFailed(f"cell [{_last_started(copy)}] took longer than {CELL_TIMEOUT} s") from None
    except RuntimeError as error:
        if kernel_manager.was_ended:
            raise KeyboardInterrupt from None
        if isinstance(error, DeadKernelError):
            raise KernelDied(f"the kernel died in cell [{_last_started(copy)}] (often: out of memory)") from None
        raise RunFailed(f"the kernel did not start ({error})") from None
    finally:
        _managers.remove(kernel_manager)
        _forget_paths(copy)


def end_all() -> None:
    """End every kernel that runs: `execute_notebook` then raises KeyboardInterrupt, in each thread that waits in it."""
    for manager in list(_managers):
        manager.was_ended = True
        if manager.process is not None:
            with suppress(OSError):
                os.killpg(manager.process.pid, signal.SIGKILL)


def _own_kernel(folder: Path, seed: int) -> Any:
    """A manager of kernels of the interpreter that runs this, whatever is installed under the name python3."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    from ctd.book import preloaded

    class OwnKernel(AsyncKernelManager):
        process: Any = None
        was_ended = False

        @default("transport_encryption")
        def _encrypt(self) -> str:  # a kernel in the clear warns on stderr
            return "auto"

        @property
        def kernel_spec(self) -> KernelSpec:
            return preloaded.kernel_spec(kernel_environment(folder, seed))

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            preloaded.wait()
            with (folder / KERNEL_LOG).open("wb") as log:
                await super().start_kernel(**options | {"cwd": str(folder)}, stdout=log, stderr=log)
            OwnKernel.process = self.provisioner.process  # type: ignore[union-attr]

    return OwnKernel


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


def _say_why(copy: Path) -> None:
    """Show the reason for which a chapter ended early in place of an error, and take out papermill's own cells."""
    import nbformat

    node = read_notebook(copy)
    node.cells = [cell for cell in node.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    for cell in node.cells:
        cell.metadata.get("papermill", {}).pop("exception", None)
        for place, output in enumerate(cell.get("outputs", [])):
            if output.output_type == "error":
                why = f"**Not testable:** {output.evalue}. The cells below were not run."
                cell.outputs[place] = nbformat.v4.new_output("display_data", {"text/markdown": why})
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), LAST]
    node.metadata.get("papermill", {}).pop("exception", None)
    nbformat.write(node, copy)


def cells_to_run(copy: NotebookNode) -> list[NotebookNode]:
    """The cells of an executed copy, as far as the one that found its question untestable, if there is one."""
    places = (place for place, cell in enumerate(copy.cells) if LAST in cell.metadata.get("tags", []))
    return copy.cells[: next(places, len(copy.cells)) + 1]


def require_whole(copy: Path) -> None:
    """Raise RunFailed when a cell was left out (a quiet `sys.exit()`), or nothing was recorded."""
    code = [cell for cell in cells_to_run(read_notebook(copy)) if cell.cell_type == "code" and cell.source.strip()]
    if n_left_out := sum(cell.execution_count is None for cell in code):
        raise RunFailed(f"the notebook ended early: {n_left_out} of {len(code)} code cells were not executed")
    if not (copy.parent / RESULTS).is_file():
        raise RunFailed(f"it wrote no {RESULTS}: it needs `run = Recorder.start(seed)` and at its end `run.close()`")
