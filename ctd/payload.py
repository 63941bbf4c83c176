"""An object for other processes, as two files: a pickle that is read only if it is the sender's, and its arrays.

Notes: reading a pickle runs whatever its writer put there. So a process gets the digest of the pickle from its parent,
through a pipe, and reads the very bytes that it checked. The arrays and tensors are numbers and no more: they are
mapped into memory, so that processes share them.
"""

from __future__ import annotations

import io
import mmap
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ctd.cache import digest

if TYPE_CHECKING:
    import torch

ALIGNED = 64  # bytes: arrays begin at multiples of it
Place = tuple[int, int]  # offset and number of bytes in the file of arrays


@dataclass(frozen=True)
class Payload:
    """Where an object lies.

    folder: holds its pickle and its arrays.
    sha256: of the pickle, 64 hex digits.
    """

    folder: Path
    sha256: str

    def read(self) -> Any:
        """The object, its arrays mapped. Raises ValueError for another pickle than the one that was written."""
        raw = (self.folder / "pickle").read_bytes()
        if digest([raw]) != self.sha256:
            raise ValueError(f"{self.folder / 'pickle'} is not what was written there")
        places, structure = pickle.loads(raw)
        arrays = _mapped(self.folder / "arrays")
        buffers = [arrays[start : start + size] for start, size in places]
        return _Unpickler(io.BytesIO(structure), arrays, buffers).load()


def write(shared: Any, folder: Path) -> Payload:
    """Write an object into a folder.

    Raises what pickling raises, and OSError where the disk is full.
    """
    structure = io.BytesIO()
    with open(folder / "arrays", "wb") as file:
        pickler = _Pickler(structure, file)
        pickler.dump(shared)
    raw = pickle.dumps((pickler.places, structure.getvalue()))
    (folder / "pickle").write_bytes(raw)
    return Payload(folder, digest([raw]))


class _Pickler(pickle.Pickler):
    """Writes numpy's arrays and torch's storages into a file of their own."""

    def __init__(self, structure: BinaryIO, file: BinaryIO) -> None:
        super().__init__(structure, pickle.HIGHEST_PROTOCOL, buffer_callback=self._keep)
        self.file = file
        self.places: list[Place] = []  # of numpy's arrays
        self._storages: dict[int, tuple[Any, Place]] = {}  # each with its place; held, so that no other has its address

    def _keep(self, buffer: pickle.PickleBuffer) -> None:
        self.places.append(self._write(buffer.raw()))

    def _write(self, content: memoryview) -> Place:
        self.file.write(bytes(-self.file.tell() % ALIGNED))
        start = self.file.tell()
        self.file.write(content)
        return start, content.nbytes

    def persistent_id(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.TypedStorage | torch.UntypedStorage):
            return None
        dtype = value.dtype if isinstance(value, torch.TypedStorage) else None
        storage = value._untyped_storage if isinstance(value, torch.TypedStorage) else value
        if storage._cdata not in self._storages:
            place = self._write(_tensor(storage.cpu()).numpy().data)
            self._storages[storage._cdata] = storage, place
        return self._storages[storage._cdata][1], dtype, str(storage.device)


class _Unpickler(pickle.Unpickler):
    def __init__(self, structure: BinaryIO, arrays: memoryview, buffers: list[memoryview]) -> None:
        super().__init__(structure, buffers=buffers)
        self.arrays = arrays

    def persistent_load(self, reference: Any) -> Any:
        import torch

        (start, size), dtype, device = reference
        storage = torch.UntypedStorage(0)
        if size:
            storage = torch.frombuffer(self.arrays[start : start + size], dtype=torch.uint8).untyped_storage()
        if device != "cpu":
            storage = storage.to(device=torch.device(device))
        return storage if dtype is None else torch.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def _tensor(storage: torch.UntypedStorage) -> torch.Tensor:
    """The bytes of a storage."""
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _mapped(path: Path) -> memoryview:
    """A file's bytes, mapped; what is changed in memory is not changed in the file."""
    if not path.stat().st_size:
        return memoryview(bytearray())
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
