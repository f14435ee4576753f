"""Directories of libraries: written so that none is ever half there, and read with every byte checked.

The manifest is the commit record: written last, removed first. A directory that does not exist yet appears
whole, by a rename.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lncompile.aot.manifest import FORMAT, NAME, digest_of
from lncompile.cache import Damaged, read_bytes
from lncompile.digest import digest
from lncompile.errors import LncTypeError, LncValueError

Path = str | os.PathLike[str]


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put ``files``, a manifest among them, into ``directory``; those of an earlier build there go.

    Raises:
        LncValueError: a file with one of the names is there and is not of an earlier build.
        OSError: the file system refuses; what was there is as it was, or has no manifest.
    """
    # Behind a symbolic link, which no directory can take the place of.
    path = os.path.realpath(os.fspath(directory))
    earlier = _earlier(path, files)
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    partial = f"{path}.{os.getpid()}-{os.urandom(8).hex()}.tmp"
    os.mkdir(partial)
    try:
        for name, data in files.items():
            _write(os.path.join(partial, name), data)
        try:
            os.rename(partial, path)
        except OSError as error:
            # There with files in it, or a mount point or such: file by file.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM):
                raise
            _replace(partial, path, files, earlier)
    finally:
        _remove(partial)


def read(directory: Path) -> dict[str, Any]:
    """The manifest of ``directory``, after every file that it lists was checked.

    Raises:
        LncValueError: something is missing, truncated or altered, or of another format; it says what.
    """
    path = os.path.join(_checked(directory), NAME)
    try:
        text = _bytes(path)
    except FileNotFoundError:
        raise LncValueError(
            f"directory: expected one that lncompile build wrote; {os.fspath(directory)} has no {NAME}"
        ) from None
    try:
        found = json.loads(text)
        claimed = found.pop("sha256")
        form = found["format"]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise LncValueError(f"{path}: is no manifest of lncompile, or damaged") from None
    if form != FORMAT:
        raise LncValueError(f"{path}: expected format {FORMAT}; got {form!r}, of another lncompile")
    if claimed != digest_of(found):
        raise LncValueError(f"{path}: was altered since it was built: it does not match its own digest")
    for name in found["files"]:
        read_file(directory, found, name)
    return dict(found)


def read_file(directory: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a file of ``directory``, if they are what ``manifest`` says; ``LncError`` if not."""
    path = os.path.join(os.fspath(directory), name)
    expected = manifest["files"][name]
    try:
        data = _bytes(path)
    except FileNotFoundError:
        raise LncValueError(f"{path}: is missing; build it again") from None
    if len(data) != expected["bytes"]:
        raise LncValueError(
            f"{path}: expected {expected['bytes']} bytes; got {len(data)}: it is truncated or altered"
        )
    if digest(data) != expected["sha256"]:
        raise LncValueError(f"{path}: was altered since it was built: it does not match its digest")
    return data


def copy(source: Path, directory: Path) -> None:
    """Write a directory as it was built to another place, after every file of it was checked."""
    manifest = read(source)
    files = {name: read_file(source, manifest, name) for name in manifest["files"]}
    write(directory, files | {NAME: _bytes(os.path.join(os.fspath(source), NAME))})


def _checked(directory: Path) -> str:
    try:
        path = os.fspath(directory)
    except TypeError:
        raise LncTypeError(f"directory: expected a path; got {directory!r}") from None
    if not os.path.isdir(path):
        raise LncValueError(
            f"directory: expected one that lncompile build wrote; there is no directory {path}"
        )
    return path


def _bytes(path: str) -> bytes:
    try:
        return read_bytes(path)
    except Damaged as error:
        raise LncValueError(str(error)) from error


def _earlier(path: str, files: Mapping[str, bytes]) -> list[str]:
    """The files of an earlier build in the way, by name, the manifest first."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise LncValueError(f"directory: {path} is a file")
    listed: list[str] = []
    with suppress(LncValueError, OSError, ValueError, KeyError, TypeError):
        names = json.loads(_bytes(os.path.join(path, NAME)))["files"]
        # Names alone: a damaged manifest must not lead elsewhere.
        listed = [NAME, *(name for name in names if os.path.basename(name) == name != NAME)]
    for name in files:
        if name not in listed and os.path.lexists(os.path.join(path, name)):
            raise LncValueError(
                f"directory: {os.path.join(path, name)} is in the way; no earlier build wrote it"
            )
    return listed


def _replace(partial: str, path: str, files: Mapping[str, bytes], earlier: list[str]) -> None:
    for name in earlier:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(path, name))
    for name in sorted(files, key=lambda name: name == NAME):
        os.replace(os.path.join(partial, name), os.path.join(path, name))


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove(directory: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)
