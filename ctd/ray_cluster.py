"""A Ray cluster: to be connected to it, and pieces of work on it in the place of this machine's processes.

Notes: `CTD_RAY` names the address for `ctd.workers.run`, which all that embeds, writes, records and teaches goes
through. Nodes read and write what lies in the cache, so `CTD_CACHE` must be a folder that they share.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from tqdm.auto import tqdm

CONNECTING = 10.0  # seconds until a head that does not answer counts as none
RETRIES = 2  # of a piece whose process or machine died


def connect(address: str) -> Any:
    """Be connected to a cluster, and return the library `ray`; where this process is connected already, it stays so.

    address: "auto" for the cluster that this machine belongs to, or one such as "ray://host:10001".
    Raises ModuleNotFoundError where Ray is not installed, and ConnectionError where no cluster answers.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a cluster takes Ray, which is not installed: pip install 'ctd[cluster]'") from error
    try:
        _require_answer(address)
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises many kinds
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({_line(error)}): begin one with `ray start --head`, or name the "
            "address that it printed"
        ) from error
    return ray


def _require_answer(address: str) -> None:
    """Raise OSError at once where nothing listens: Ray would go on asking for minutes."""
    place = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, colon, port = place.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECTING).close()
    elif address != "auto":
        raise ValueError("an address is auto, HOST:PORT or ray://HOST:PORT")


def run(
    address: str,
    function: Callable[[Any, Any], Any],
    pieces: Sequence[Any],
    shared: Any,
    bar: tqdm | None,
    size: Callable[[Any], int],
) -> Iterator[Any]:
    """What `ctd.workers.run` yields, each piece computed somewhere on a cluster; arguments as there.

    address: of the cluster.
    Raises what `connect` raises, and PicklingError where the nodes cannot be given what is shared. While it yields, it
    raises what the function raises, and RuntimeError where a piece's process died too often.
    """
    ray = connect(address)
    try:
        stored = [ray.put(shared)]
    except TypeError as error:
        raise pickle.PicklingError(_line(error.__cause__ or error)) from None
    task, name = ray.remote(_work).options(num_cpus=1, max_retries=RETRIES), uuid4().hex
    running = [task.remote(function, name, stored, piece) for piece in pieces]
    return _results(ray, pieces, running, bar, size)


def _results(
    ray: Any, pieces: Sequence[Any], running: Sequence[Any], bar: tqdm | None, size: Callable[[Any], int]
) -> Iterator[Any]:
    """The results of pieces that run on a cluster, in their order."""
    try:
        for piece, reference in zip(pieces, running, strict=True):
            try:
                result = pickle.loads(ray.get(reference))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                died = f"a piece of work died {RETRIES + 1} times on the cluster"
                raise RuntimeError(f"{died}, most often for want of memory ({_line(error)})") from None
            if bar is not None:
                bar.update(size(piece))
            yield result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)  # which does nothing to one that is done


def _work(function: Callable[[Any, Any], Any], name: str, stored: list[Any], piece: Any) -> bytes:
    """Do a piece in a process of a node, which keeps what is shared until it gets something else.

    name: of what is shared.
    stored: the reference to it, in a list, so that Ray does not read it for every piece.
    Returns the pickled result: arrays that Ray hands over itself cannot be changed.
    """
    global _read
    if not _read or _read[0] != name:
        import ray

        _read = None
        _read = name, ray.get(stored[0])
    return pickle.dumps(function(_read[1], piece), pickle.HIGHEST_PROTOCOL)


_read: tuple[str, Any] | None = None  # what is shared, with its name


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
