"""A notebook in a kernel of its own: executed by papermill, which this module is strict around."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book.notebook_files import read_notebook
from ctd.book.results import RESULTS

if TYPE_CHECKING:  # it takes a second to import
    from jupyter_client.manager import AsyncKernelManager

KERNEL_LOG = "kernel.log"  # what the kernel's process says outside of cells; kept with a failed run


CELL_TIMEOUT = 7200  # seconds a cell may take


class RunFailed(RuntimeError):
    """A notebook did not run to its end; one line says which cell, why, and where to look."""


def kernel_environment(folder: Path, seed: int) -> dict[str, str]:
    """What a notebook's kernel finds in its environment besides the caller's."""
    return {
        "CTD_RUN_DIR": str(folder),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": str(seed),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, where its widgets are not installed
        "TQDM_DISABLE": "1",
    }


def execute_notebook(notebook: Path, copy: Path, parameters: Mapping[str, Any], seed: int) -> None:
    """Execute a notebook into a copy, saved after every cell.

    notebook: the author's.
    copy: where the executed copy goes; its folder is the kernel's working directory, and gets its log.
    parameters: those that differ from the defaults of the notebook.
    seed: of Python's hashes.
    Raises RunFailed.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it repeats what we say in one line
    try:
        papermill.execute_notebook(
            _no_template(notebook),
            _no_template(copy),
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            cwd=str(copy.parent),
            execution_timeout=CELL_TIMEOUT,
            progress_bar={"desc": notebook.stem, "leave": False, "disable": None},
            kernel_manager_class=_own_kernel(copy.parent, seed),
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


def _own_kernel(folder: Path, seed: int) -> type[AsyncKernelManager]:
    """A manager of kernels of the interpreter that runs this, whatever is installed under the name python3."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class OwnKernel(AsyncKernelManager):
        @default("transport_encryption")
        def _encrypt(self) -> str:  # a kernel in the clear warns on stderr
            return "auto"

        @property
        def kernel_spec(self) -> KernelSpec:
            environment = kernel_environment(folder, seed)
            return KernelSpec(resource_dir=RESOURCES, **(get_kernel_dict() | {"env": environment}))

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            with (folder / KERNEL_LOG).open("wb") as log:
                await super().start_kernel(**options, stdout=log, stderr=log)

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


def require_whole(copy: Path) -> None:
    """Raise RunFailed when a cell was left out (a quiet `sys.exit()`), or nothing was recorded."""
    code = [cell for cell in read_notebook(copy).cells if cell.cell_type == "code" and cell.source.strip()]
    if left := sum(cell.execution_count is None for cell in code):
        raise RunFailed(f"the notebook ended early: {left} of {len(code)} code cells were not executed")
    if not (copy.parent / RESULTS).is_file():
        raise RunFailed(f"it wrote no {RESULTS}: it needs `run = Recorder.start(seed)` and at its end `run.close()`")
