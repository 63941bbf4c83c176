"""What goes wrong on the command line, in one line each, with an exit status.

Notes: 2 is bad input, 1 a failed notebook, 130 Ctrl-C, 143 SIGTERM (of a scheduler, or `timeout`), and 3 a fault of the
software: its traceback is kept in a file. CTD_DEBUG=1 shows every traceback.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from tqdm import tqdm
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ctd.book.kernel import RunFailed
from ctd.cache import cache_dir

FORESEEN = (ValueError, OSError, ImportError, RuntimeError, MemoryError)
LONGEST = 2000  # characters of a message


class OneLineErrors(TyperGroup):
    """Turns whatever a command raises into one line on stderr and an exit status."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if not args:  # which shows the help
            return super().make_context(info_name, args, parent, **extra)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except TyperException as error:
            refuse(error)

    def invoke(self, ctx: Any) -> Any:
        with signals_as_interrupts() as came:
            return self._invoke(ctx, came)

    def _invoke(self, ctx: Any, came: list[int]) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            how = f"ended by {signal.Signals(came[0]).name}" if came else "interrupted"
            fail(f"{how}: nothing half-made was kept, earlier runs are as they were", 128 + (*came, signal.SIGINT)[0])
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except TyperException as error:
            refuse(error)
        except RunFailed as error:
            fail(str(error), 1)
        except FORESEEN as error:
            fail(in_one_line(error), 2)
        except Exception as error:
            fail(unforeseen(error), 3)


@contextmanager
def signals_as_interrupts() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that kernels end and scratch folders are removed.

    Yields the numbers of those that came. A signal that is ignored (nohup) stays ignored.
    """
    came: list[int] = []
    command = os.getpid()

    def interrupt(number: int, _: Any) -> None:
        if os.getpid() != command:  # a fork that inherited this
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # asyncio has its own way with it

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            if before[number] == signal.SIG_DFL:
                signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse(error: Any) -> None:
    """Say what is wrong with the words of a command."""
    context = getattr(error, "ctx", None)
    command = " ".join(["ctd", *([context.info_name] if context is not None and context.parent is not None else [])])
    fail(f"{error.format_message().rstrip('.')} (see: {command} --help)", 2)


def fail(line: str, status: int) -> None:
    """Print a line and leave, or go on with the exception where CTD_DEBUG asks for it."""
    if os.environ.get("CTD_DEBUG"):
        raise
    for bar in list(getattr(tqdm, "_instances", ())):  # else the line would stand behind it
        bar.close()
    typer.echo(f"error: {' '.join(line.split())[:LONGEST]}", err=True)
    raise typer.Exit(status)


def in_one_line(error: BaseException) -> str:
    """What an error says, with the name of the file where the system only names its trouble."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error).strip() or type(error).__name__


def unforeseen(error: Exception) -> str:
    """What to do about an error that nobody thought of; its traceback is kept in the cache."""
    cause = f"{type(error).__name__}: {in_one_line(error)}"
    try:
        file = cache_dir("errors") / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        file.write_text("".join(traceback.format_exception(error)), "utf-8")
    except OSError:
        return f"unforeseen ({cause}). Run it again with CTD_DEBUG=1 and report what it then shows: this is our fault"
    return f"unforeseen ({cause}). This is our fault: report it with the command you typed and the file {_short(file)}"


def _short(file: Path) -> str:
    home = Path.home()
    return f"~/{file.relative_to(home)}" if file.is_relative_to(home) else str(file)
