"""Records of tuning: which schedule was found best for a specialization on a machine.

They lie in the store of compiled kernels, one file for what a kernel's key has without a schedule and the
machine's fingerprint::

    v1/tuning/<key>.json

A record that is damaged, that is another key's or that lies where others may write does not exist, and the
heuristic decides. Without any record the store has no such directory, so looking for one costs a system call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from lncompile.cache import (
    SCHEMA,
    Damaged,
    cache_dir,
    canonical,
    distrust,
    key_of,
    read_record,
    renew,
    seal,
    write_file,
)
from lncompile.machine import machine

FOLDER = "tuning"

FILE_NAME = re.compile(r"[0-9a-f]{64}\.json(\.[0-9]+-[0-9a-f]{16}\.tmp)?")


def schedule_for(spec: Mapping[str, Any]) -> dict[str, int] | None:
    """The schedule that was found best for ``spec`` on this machine, None where the heuristic is."""
    record = find(spec)
    schedule = None if record is None else record.get("schedule")
    return schedule if isinstance(schedule, dict) else None


def find(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What :func:`keep` was given last for ``spec`` on this machine; None where that is not to be had."""
    try:
        directory = folder()
        if not os.path.isdir(directory) or any(distrust(path) for path in _parents(directory)):
            return None
        path = _path(directory, spec)
        found = read(path)
    except (OSError, Damaged):
        return None
    if found is not None:
        renew(path)
    return found


def keep(spec: Mapping[str, Any], tuning: Mapping[str, Any]) -> str | None:
    """Keep the result of tuning ``spec`` on this machine in place of an earlier one; its path.

    None where the store cannot keep it. Of several processes that do so at once, the last one's is kept.
    """
    try:
        directory = folder()
        os.makedirs(os.path.dirname(os.path.dirname(os.path.dirname(directory))), mode=0o700, exist_ok=True)
        for path in _parents(directory):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            if distrust(path):
                return None
        path = _path(directory, spec)
        write_file(path, seal(canonical({"spec": spec, "machine": machine(), "tuning": tuning})))
    except OSError:
        return None
    return path


def paths() -> Iterator[str]:
    """The files of all records, of all machines, and what interrupted writers left of others.

    Raises:
        OSError: there is no directory for a store.
    """
    directory = folder()
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(directory)):
            if FILE_NAME.fullmatch(name):
                yield os.path.join(directory, name)


def read(path: str) -> dict[str, Any] | None:
    """What was kept in the file ``path``, None where there is no such file.

    Raises:
        Damaged: the file is not what was written.
    """
    try:
        record = read_record(path)
    except FileNotFoundError:
        return None
    try:
        if os.path.basename(path) != key_of({"spec": record["spec"], "machine": record["machine"]}) + ".json":
            raise Damaged(path, "is the record of another key")
        tuning = record["tuning"]
    except (KeyError, TypeError) as error:
        raise Damaged(path, "is not a record of this store") from error
    if not isinstance(tuning, dict):
        raise Damaged(path, "is not a record of this store")
    return tuning


def folder() -> str:
    """The directory of the records.

    Raises:
        OSError: there is no directory for a store.
    """
    return os.path.join(cache_dir(), SCHEMA, FOLDER)


def _parents(directory: str) -> tuple[str, str, str]:
    """The store, its version of the layout, and the directory itself."""
    schema = os.path.dirname(directory)
    return os.path.dirname(schema), schema, directory


def _path(directory: str, spec: Mapping[str, Any]) -> str:
    return os.path.join(directory, key_of({"spec": spec, "machine": machine()}) + ".json")
