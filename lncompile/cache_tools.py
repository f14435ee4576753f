"""Looking after the store: what is in it, is it sound, and throwing entries and records of tuning away.

Only files that the store itself wrote are counted or removed, whatever else lies in its directory.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lncompile import tunings
from lncompile.cache import SCHEMA, Damaged, cache_dir, distrust, read_entry, remove_entry
from lncompile.cache_lock import locked
from lncompile.errors import LncValueError

# Far above the longest build, for file systems whose locks do not reach other machines.
_LEFTOVER_AGE_S = 3600.0

_DAY_S = 86400.0

_FILE_NAME = re.compile(r"([0-9a-f]{64})\.(so|py|json|lock|(?:so|py|json)\.[0-9]+-[0-9a-f]{16}\.tmp)")


@dataclass(frozen=True)
class Info:
    """What the store holds.

    ``bytes`` counts all its files, ``norms`` the sound entries by ``meta["norm"]``, ``tunings`` the records
    of tuning; ``problem`` says why the directory is not used, None if it is or is yet to be created.
    """

    path: str
    entries: int
    bytes: int
    norms: dict[str, int]
    leftovers: int
    problem: str | None
    tunings: int = 0


@dataclass(frozen=True)
class Damage:
    """A file of a committed entry that is not what was committed."""

    path: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """``leftovers`` are the harmless remains of interrupted builds, or the files of one under way."""

    entries: int
    damaged: tuple[Damage, ...]
    leftovers: tuple[str, ...]
    tunings: int = 0


@dataclass(frozen=True)
class Removal:
    """What was removed; ``kept`` counts the keys that are being built or could not be removed."""

    entries: int
    leftovers: int
    bytes: int
    kept: int
    tunings: int = 0


@dataclass(frozen=True)
class _File:
    path: str
    kind: str
    size: int
    modified: float


@dataclass(frozen=True)
class _Slot:
    """The files of one key."""

    shard: str
    key: str
    files: tuple[_File, ...]

    @property
    def record(self) -> _File | None:
        return next((file for file in self.files if file.kind == "json"), None)

    @property
    def leftovers(self) -> tuple[_File, ...]:
        entry_kinds = ("json", "so", "py") if self.record else ()
        return tuple(file for file in self.files if file.kind not in entry_kinds)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def info() -> Info:
    """Count what the store holds.

    Raises:
        OSError: there is no directory for a store, or it cannot be read.
    """
    slots = list(_slots())
    records, partial = _tunings()
    norms: Counter[str] = Counter()
    for slot in slots:
        with suppress(Damaged):
            entry = read_entry(slot.shard, slot.key)
            if entry is not None and entry.meta.get("norm"):
                norms[entry.meta["norm"]] += 1
    return Info(
        path=cache_dir(),
        entries=sum(slot.record is not None for slot in slots),
        bytes=sum(slot.size for slot in slots) + sum(file.size for file in records + partial),
        norms=dict(sorted(norms.items())),
        tunings=len(records),
        leftovers=sum(len(slot.leftovers) for slot in slots) + len(partial),
        problem=_problem(),
    )


def verify() -> Verification:
    """Check every byte of every entry and every record of tuning.

    Changes nothing: the next use of a damaged entry rebuilds it, and a damaged record is as good as none.

    Raises:
        OSError: there is no directory for a store, or it cannot be read.
    """
    slots = list(_slots())
    damaged = [damage for slot in slots if (damage := _damage(slot)) is not None]
    records, partial = _tunings()
    for file in records:
        try:
            tunings.read(file.path)
        except Damaged as damage:
            damaged.append(Damage(damage.path, damage.reason))
    leftovers = [file for slot in slots for file in slot.leftovers] + partial
    return Verification(
        entries=sum(slot.record is not None for slot in slots),
        tunings=len(records),
        damaged=tuple(damaged),
        leftovers=tuple(file.path for file in leftovers),
    )


def prune(max_bytes: int | None = None, max_age_days: float | None = None) -> Removal:
    """Remove what interrupted builds left, entries unused for so long, and the least recently used ones
    until the rest fits into ``max_bytes``. None is no limit. Use is recorded to the day. Records of tuning
    go by their age alone: they are small, and take a minute to make.

    Raises:
        LncValueError: a limit is negative.
        OSError: there is no directory for a store, or it cannot be read.
    """
    for name, limit in (("max_bytes", max_bytes), ("max_age_days", max_age_days)):
        if limit is not None and limit < 0:
            raise LncValueError(f"{name}: expected a number of at least 0, got {limit}")
    now = time.time()
    slots = list(_slots())
    entries = sorted((slot.record.modified, slot.key, slot) for slot in slots if slot.record is not None)
    total = sum(slot.size for _, _, slot in entries)
    unwanted: set[str] = set()
    for used, key, slot in entries:
        too_old = max_age_days is not None and now - used > max_age_days * _DAY_S
        too_much = max_bytes is not None and total > max_bytes
        if too_old or too_much:
            unwanted.add(key)
            total -= slot.size
    return _remove(
        slots,
        entry_goes=lambda slot: slot.key in unwanted,
        tuning_goes=lambda file: max_age_days is not None and now - file.modified > max_age_days * _DAY_S,
        leftover_goes=lambda file: now - file.modified > _LEFTOVER_AGE_S,
    )


def clear() -> Removal:
    """Remove everything that the store wrote but what is being built at this moment.

    Raises:
        OSError: there is no directory for a store, or it cannot be read.
    """
    return _remove(
        list(_slots()),
        entry_goes=lambda slot: True,
        tuning_goes=lambda file: True,
        leftover_goes=lambda file: True,
    )


def _slots() -> Iterator[_Slot]:
    top = os.path.join(cache_dir(), SCHEMA)
    for shard_name in _names(top):
        shard = os.path.join(top, shard_name)
        by_key: dict[str, list[_File]] = {}
        for name in _names(shard):
            match = _FILE_NAME.fullmatch(name)
            if match is None or not name.startswith(shard_name):
                continue
            # Whatever else is using the store may have removed it by now.
            with suppress(FileNotFoundError):
                path = os.path.join(shard, name)
                status = os.stat(path)
                file = _File(path, match[2], status.st_size, status.st_mtime)
                by_key.setdefault(match[1], []).append(file)
        for key, files in by_key.items():
            yield _Slot(shard, key, tuple(files))


def _tunings() -> tuple[list[_File], list[_File]]:
    """The records of tuning, and what interrupted writers of them left."""
    files = []
    for path in tunings.paths():
        with suppress(FileNotFoundError):
            status = os.stat(path)
            files.append(_File(path, path.rpartition(".")[2], status.st_size, status.st_mtime))
    return [file for file in files if file.kind == "json"], [file for file in files if file.kind == "tmp"]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _problem() -> str | None:
    top = os.path.join(cache_dir(), SCHEMA)
    shards = (os.path.join(top, name) for name in _names(top))
    for directory in (cache_dir(), top, *shards):
        with suppress(FileNotFoundError):
            reason = distrust(directory)
            if reason:
                return f"{directory} {reason}"
    return None


def _damage(slot: _Slot) -> Damage | None:
    try:
        read_entry(slot.shard, slot.key)
    except Damaged:
        # Replacing an entry takes its record away first: reading it again tells damage from a rebuild
        # that was seen half-way.
        try:
            read_entry(slot.shard, slot.key)
        except Damaged as damage:
            return Damage(damage.path, damage.reason)
    return None


def _remove(
    slots: list[_Slot],
    entry_goes: Callable[[_Slot], bool],
    tuning_goes: Callable[[_File], bool],
    leftover_goes: Callable[[_File], bool],
) -> Removal:
    entries = leftovers = freed = kept = tuned = 0
    for slot in slots:
        whole = slot.record is not None and entry_goes(slot)
        stale = [file for file in slot.leftovers if leftover_goes(file)]
        if not whole and not stale:
            continue
        with locked(slot.shard, slot.key, patience_s=0) as held:
            if not held or not _remove_files(slot, whole, stale):
                kept += 1
                continue
        entries += whole
        leftovers += len(stale)
        freed += sum(file.size for file in (slot.files if whole else stale))
    records, partial = _tunings()
    for file in records + partial:
        is_record = file.kind == "json"
        if not (tuning_goes if is_record else leftover_goes)(file):
            continue
        try:
            os.unlink(file.path)
        except FileNotFoundError:
            continue
        except OSError:
            kept += 1
            continue
        tuned += is_record
        leftovers += not is_record
        freed += file.size
    return Removal(entries, leftovers, freed, kept, tuned)


def _remove_files(slot: _Slot, whole: bool, stale: list[_File]) -> bool:
    try:
        if whole:
            remove_entry(slot.shard, slot.key)
        # What was uncommitted at the scan may have been committed before the lock was ours.
        committed = os.path.exists(os.path.join(slot.shard, slot.key + ".json"))
        for file in stale:
            if file.kind.endswith(".tmp") or (file.kind in ("so", "py") and not committed):
                with suppress(FileNotFoundError):
                    os.unlink(file.path)
    except OSError:
        return False
    return True
