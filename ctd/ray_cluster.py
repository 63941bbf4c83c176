"""A Ray cluster: to be connected to it, and pieces of work on it in the place of this machine's processes.

Notes: `CTD_RAY` names the address for `ctd.workers.run`, which all that embeds, writes, records and teaches goes
through. Nodes read and write what lies in the cache, so `CTD_CACHE` must be a folder that they share.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
        reason = " ".join(str(error).split())[:300]
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({reason}): begin one with `ray start --head`, or name the address "
            "that it printed"
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
    Raises what the function raises, and what `connect` raises.
    """

    def work(shared: Any, piece: Any) -> Any:
        return function(shared, piece)

    ray = connect(address)
    task, stored = ray.remote(work).options(num_cpus=1, max_retries=RETRIES), ray.put(shared)
    running = [task.remote(stored, piece) for piece in pieces]
    try:
        for piece, reference in zip(pieces, running, strict=True):
            yield ray.get(reference)
            if bar is not None:
                bar.update(size(piece))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)  # which does nothing to one that is done
