"""A directory of libraries, verified: which of its kernels run here, and opening them. Without a compiler."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lncompile import interface
from lncompile.aot import directory as directories
from lncompile.aot.python import specialization_of
from lncompile.backends.cpu.calls import PhaseRunner
from lncompile.backends.cpu.target import TARGETS, host
from lncompile.cache import Entry
from lncompile.errors import LncValueError
from lncompile.kernel import Kernel, Signature
from lncompile.specialize import LazyStages, Specialization, abi, runs_here


class Shelved(NamedTuple):
    """A kernel of a directory: its manifest's entry, what it was compiled for, and the best target here."""

    record: Mapping[str, Any]
    special: Specialization


class Shelf:
    """The kernels of a directory that this machine runs, the best target of each."""

    def __init__(self, directory: directories.Path) -> None:
        """Read the manifest and check every file.

        Raises:
            LncValueError: a file is missing or altered, the libraries expect another lncompile in the
                process, or none of them is for this machine.
        """
        self._manifest = directories.read(directory)
        self.directory = os.path.abspath(os.fspath(directory))
        self.kernels = self._serving()

    def open(self, shelved: Shelved, signature: Signature) -> Kernel:
        """The kernel, from the bytes of its library that are checked once more."""
        record = shelved.record
        name = record["library"]
        data = directories.read_file(self.directory, self._manifest, name)
        try:
            library = Entry("", data, "", {}, None).open_library(ctypes.CDLL)
        except OSError as error:
            raise LncValueError(f"{os.path.join(self.directory, name)}: cannot be loaded: {error}") from error
        python = record["python"]
        offered = interface.from_json(python["interface"])
        runners = PhaseRunner(library, offered.forward), PhaseRunner(library, offered.backward)
        target = shelved.special.target
        return Kernel(signature, offered, target, python["returns_tuple"], *runners, LazyStages((), str))

    def _serving(self) -> list[Shelved]:
        here = host()
        best: dict[object, Shelved] = {}
        foreign: list[str] = []
        ranks = list(TARGETS)
        for record in self._manifest["kernels"]:
            if "python" not in record:
                continue
            fitting = [name for name in record["targets"] if name in TARGETS and runs_here(TARGETS[name])]
            foreign += [name for name in record["targets"] if name not in fitting]
            if not fitting:
                continue
            self._check_abi(record["python"]["abi"])
            special = specialization_of(record["python"], max(fitting, key=ranks.index))
            key = (record["norm"], tuple(record["python"]["identities"]))
            other = best.get(key)
            if other is None or ranks.index(other.special.target) < ranks.index(special.target):
                best[key] = Shelved(record, special)
        if not best:
            built = ", ".join(dict.fromkeys(foreign)) or "nothing"
            raise LncValueError(
                f"{self.directory}: expected kernels for this machine, {here.name}; got {built}"
            )
        return list(best.values())

    def _check_abi(self, built_for: object) -> None:
        if built_for != abi():
            version = self._manifest["versions"]["lncompile"]
            raise LncValueError(
                f"{self.directory}: was built by lncompile {version} for another ABI than this lncompile's; "
                "build it again"
            )
