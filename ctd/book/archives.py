"""A run as one file to take along: packed with the SHA-256 of each of its files, and checked when it is unpacked."""

from __future__ import annotations

import json
import zipfile
import zlib
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ctd.book.run_folder import MANIFEST, RunFolder
from ctd.cache import atomic, file_digest, require_free

HASHES = "SHA256.json"  # in the archive: the digest of each file by its name
SUFFIX = ".ctd.zip"
LARGEST = 2 * 2**30  # bytes of an unpacked run


def pack(run: RunFolder, out: Path) -> Path:
    """Pack a run.

    run: all files of its folder are packed, links left out.
    out: the archive.
    Raises FileExistsError where it is there, ValueError for a run that cannot be read.
    """
    require_free(out, "name another file with --out")
    _ = run.manifest, run.rows
    files = sorted(path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink())
    names = {path: path.relative_to(run.path).as_posix() for path in files}
    with atomic(out) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HASHES, json.dumps({names[path]: file_digest(path) for path in files}, indent=1))
        for path in files:
            archive.write(path, names[path])
    return out


def unpack(archive: Path, out: Path) -> RunFolder:
    """Unpack a run that `pack` packed, whole or not at all.

    archive: its file.
    out: the folder to be made.
    Raises FileExistsError where the folder is there, FileNotFoundError for an archive that is not there, and ValueError
    for a file that is no such archive, whose files are not those that were packed, or that would leave the folder.
    """
    require_free(out, "name another folder with --out")
    if not archive.is_file():
        raise FileNotFoundError(f"there is no archive {archive}; ctd pack makes one")
    try:
        with zipfile.ZipFile(archive) as packed:
            hashes = _hashes(packed, archive)
            with atomic(out) as scratch:
                scratch.mkdir(parents=True)
                for name, digest in hashes.items():
                    content = packed.read(name)
                    if sha256(content).hexdigest() != digest:
                        raise ValueError(f"{archive}: {name} is not the file that was packed; fetch the archive again")
                    path = scratch / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{archive} is no archive of ctd pack, or is damaged ({error}); fetch it again") from error
    return RunFolder(out)


def _hashes(packed: zipfile.ZipFile, archive: Path) -> dict[str, str]:
    """The digest of each file, after every check that can be made before a file is written."""
    names = [entry.filename for entry in packed.infolist()]
    if HASHES not in names or MANIFEST not in names:
        raise ValueError(f"{archive} is no archive of ctd pack: it lacks {HASHES} or {MANIFEST}")
    size = sum(entry.file_size for entry in packed.infolist())
    if size > LARGEST:
        raise ValueError(f"{archive} unpacks to {size / 2**30:.1f} GiB, and a run has at most {LARGEST / 2**30:.0f}")
    try:
        hashes = json.loads(packed.read(HASHES))
    except ValueError as error:
        raise ValueError(f"{archive}: {HASHES} is not JSON ({error}); fetch the archive again") from error
    if not isinstance(hashes, dict) or sorted([*hashes, HASHES]) != sorted(names):
        raise ValueError(f"{archive}: its files are not those that {HASHES} lists; fetch the archive again")
    for name in hashes:
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or name[-1] == "/":
            raise ValueError(f"{archive}: {name!r} would leave the folder; do not trust this archive")
    return hashes
