"""The store of compiled specializations: content-addressed, shared by any number of processes.

One entry a key, the key being the hash of everything that the code depends on::

    v1/ab/<key>.so      the library
    v1/ab/<key>.py      the source that it was compiled from
    v1/ab/<key>.json    spec, meta and digests: the commit record, written last and removed first
    v1/ab/<key>.lock    held (flock) by whoever builds the entry
    v1/tuning/          see :mod:`lncompile.tunings`

An entry without its record does not exist. Every byte that is read is checked against a digest, and the
library is opened from the very bytes that were checked, so damage can cost a rebuild but never give a
wrong result. Where the store cannot be used at all, specializations are built for this process alone.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from lncompile.cache_lock import locked
from lncompile.digest import digest
from lncompile.errors import CompilerBug

SCHEMA = "v1"

# The wait is bounded because a builder may have been suspended (Ctrl-Z) while it holds the lock; a build
# takes about a second, so a minute allows for a badly overloaded machine.
LOCK_PATIENCE_S = 60.0

# A hit renews the record's time, which `prune` goes by, this seldom: writing an inode on each costs more
# than the rest of the look-up.
_RENEW_AFTER_S = 86400.0

_RECORD_HEAD = b'{"sha256":"%s","record":'
_RECORD_TAIL = b"}\n"
_RECORD_BODY = slice(len(_RECORD_HEAD % (b"0" * 64)), -len(_RECORD_TAIL))

_Library = TypeVar("_Library")

_library_numbers = itertools.count(1)


class Damaged(Exception):
    """A committed entry that is not what was committed; ends as a miss or a line of ``verify``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Artifact(NamedTuple):
    """What a builder makes. ``meta`` must survive a trip through JSON."""

    library: bytes
    source: str
    meta: dict[str, Any]


class Entry(NamedTuple):
    """A compiled specialization whose bytes were verified.

    ``stored_at`` is the library's path in the store, for people to look at: load ``library``, or call
    ``open_library``, since the file may have changed since. None when the store could not keep it.
    """

    key: str
    library: bytes
    source: str
    meta: dict[str, Any]
    stored_at: str | None

    def open_library(self, dlopen: Callable[[str], _Library]) -> _Library:
        """Open the verified bytes with ``dlopen`` (such as ``ctypes.CDLL``), which is given a path.

        The path is of a private copy and is good during the call only. A copy in memory is what cannot be
        changed or truncated underneath a running kernel, and what a ``noexec`` file system cannot forbid.

        Raises:
            OSError: the system's loader refuses the library.
        """
        if hasattr(os, "memfd_create"):
            # Fails where memfd is forbidden (vm.memfd_noexec=2, seccomp) or /proc is not mounted.
            with suppress(OSError):
                return _open_from_memory(self.library, dlopen)
        return _open_from_private_file(self.library, dlopen)


def cache_dir() -> str:
    """The store's directory, as the environment says now.

    Raises:
        OSError: neither the environment nor the user's account names a directory.
    """
    chosen = os.environ.get("LNCOMPILE_CACHE_DIR")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise OSError(errno.ENOENT, "no home directory, and LNCOMPILE_CACHE_DIR is not set")
    return os.path.join(base, "lncompile")


def key_of(spec: Mapping[str, Any]) -> str:
    """SHA-256 (64 hex digits) of the spec as canonical JSON; tuples and lists are alike.

    Raises:
        CompilerBug: a mapping has a key that is not a string, which JSON would silently turn into one.
        TypeError: a value has no form in JSON.
    """
    return digest(canonical(spec))


def fetch(spec: Mapping[str, Any], build: Callable[[], Artifact]) -> Entry:
    """The entry of ``spec``, from the store if it holds a sound one, else built (once among processes).

    Never fails because of the store: what goes wrong there means that the entry is built, and kept if it
    can be. Whatever ``build`` raises passes through, and leaves nothing behind.
    """
    key = key_of(spec)
    entry = lookup(key)
    if entry is not None:
        return entry
    shard = _shard_to_write(key)
    if shard is None:
        return _build(spec, key, build, None)
    with locked(shard, key, LOCK_PATIENCE_S) as held:
        # Another process may have built it while this one waited.
        return lookup(key) or _build(spec, key, build, shard if held else None)


def lookup(key: str) -> Entry | None:
    """The entry of ``key``, or None when the store holds no sound one or must not be trusted."""
    try:
        directories = _directories(key)
        if any(distrust(directory) for directory in directories):
            return None
        entry = read_entry(directories[-1], key)
    except (OSError, Damaged):
        return None
    if entry is not None:
        renew(os.path.join(directories[-1], key + ".json"))
    return entry


def distrust(directory: str) -> str | None:
    """Why code from this directory must not be run, None if it may.

    Raises:
        OSError: the directory cannot be examined.
    """
    status = os.stat(directory)
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"mode {status.st_mode & 0o7777:04o} lets others write"
    return None


def read_entry(shard: str, key: str) -> Entry | None:
    """The entry of ``key`` in the directory ``shard``, or None when none is committed.

    Raises:
        Damaged: some file of the entry is not what was committed.
    """
    path = os.path.join(shard, key)
    try:
        record = read_record(path + ".json")
    except FileNotFoundError:
        return None
    try:
        if key_of(record["spec"]) != key:
            raise Damaged(path + ".json", "is the record of another key")
        library = _read_checked(path + ".so", record["library"])
        source = _read_checked(path + ".py", record["source"]).decode()
        meta = record["meta"]
    except (KeyError, TypeError) as error:
        raise Damaged(path + ".json", "is not a record of this store") from error
    return Entry(key, library, source, meta, path + ".so")


def remove_entry(shard: str, key: str) -> None:
    """Remove what there is of an entry, the record first; the caller holds the lock.

    Raises:
        OSError: a file cannot be removed; the record is then the last that remains of a sound entry.
    """
    for suffix in (".json", ".so", ".py"):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(shard, key + suffix))


def _directories(key: str) -> tuple[str, str, str]:
    root = cache_dir()
    schema = os.path.join(root, SCHEMA)
    return root, schema, os.path.join(schema, key[:2])


def _shard_to_write(key: str) -> str | None:
    """The directory of ``key``, created if need be, or None when the store cannot be used."""
    try:
        root, *inner = _directories(key)
        os.makedirs(os.path.dirname(root), mode=0o700, exist_ok=True)
        for directory in (root, *inner):
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            if distrust(directory):
                return None
    except OSError:
        return None
    return directory


def _build(spec: Mapping[str, Any], key: str, build: Callable[[], Artifact], shard: str | None) -> Entry:
    artifact = build()
    source = artifact.source.encode()
    body = canonical(
        {
            "spec": spec,
            "meta": artifact.meta,
            "library": _digest(artifact.library),
            "source": _digest(source),
        }
    )
    stored = shard is not None and _commit(shard, key, artifact.library, source, seal(body))
    stored_at = os.path.join(shard, key + ".so") if shard is not None and stored else None
    # Read back, so that a fresh entry and a cached one have equal meta (JSON turns tuples into lists).
    return Entry(key, artifact.library, artifact.source, json.loads(body)["meta"], stored_at)


def _commit(shard: str, key: str, library: bytes, source: bytes, record: bytes) -> bool:
    """Write the files of an entry, all or none; whether the file system let us."""
    path = os.path.join(shard, key)
    try:
        remove_entry(shard, key)
        write_file(path + ".so", library)
        write_file(path + ".py", source)
        write_file(path + ".json", record)
    except BaseException as error:
        with suppress(OSError):
            remove_entry(shard, key)
        if isinstance(error, OSError):
            return False
        raise
    return True


def write_file(path: str, data: bytes) -> None:
    """Put a complete file in place, or none."""
    # Not tempfile: its import alone takes 6-11 ms.
    partial = f"{path}.{os.getpid()}-{os.urandom(8).hex()}.tmp"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def canonical(value: Mapping[str, Any]) -> bytes:
    """``value`` as JSON, the same bytes for equal values."""
    _require_string_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _require_string_keys(value: object) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise CompilerBug(f"the keys of a cache record are strings, got {name!r}")
            _require_string_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_string_keys(item)


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": digest(data)}


def seal(body: bytes) -> bytes:
    """Precede a record by its own digest, since a flipped bit may well leave it valid JSON."""
    return _RECORD_HEAD % digest(body).encode() + body + _RECORD_TAIL


def read_record(path: str) -> Any:
    """The content of a sealed record.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is not what was written.
    """
    data = read_bytes(path)
    body = data[_RECORD_BODY]
    if data != seal(body):
        raise Damaged(path, "does not match its own digest")
    return json.loads(body)


def _read_checked(path: str, expected: Mapping[str, Any]) -> bytes:
    try:
        data = read_bytes(path)
    except FileNotFoundError as error:
        raise Damaged(path, "is missing") from error
    if len(data) != expected["bytes"]:
        raise Damaged(path, f"has {len(data)} bytes, expected {expected['bytes']}")
    if digest(data) != expected["sha256"]:
        raise Damaged(path, "does not match its digest")
    return data


def read_bytes(path: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it cannot be read, or is no regular file.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Damaged(path, "is no regular file")
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(path, f"cannot be read: {error.strerror}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Like ``os.open``, which waits for a writer where ``path`` is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def renew(path: str) -> None:
    """Note that a record was used, for ``prune``."""
    with suppress(OSError):
        if time.time() - os.stat(path).st_mtime > _RENEW_AFTER_S:
            os.utime(path)


def _open_from_memory(library: bytes, dlopen: Callable[[str], _Library]) -> _Library:
    with open(os.memfd_create("lncompile"), "wb") as file:
        file.write(library)
        file.flush()
        return dlopen(f"/proc/self/fd/{_spelling(next(_library_numbers))}{file.fileno()}")


def _spelling(number: int) -> str:
    """A path prefix that leads nowhere else and differs for each number: its bits as ``./`` and ``/``.

    glibc returns the library that it loaded under the same name before, without looking at the file, and
    descriptor numbers are reused.
    """
    return f"{number:b}".replace("0", "/").replace("1", "./")


def _open_from_private_file(library: bytes, dlopen: Callable[[str], _Library]) -> _Library:
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="lncompile-", suffix=".so") as file:
        file.write(library)
        file.flush()
        return dlopen(file.name)
