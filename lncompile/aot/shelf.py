"""A directory of kernels, verified: which of them serve this machine, and the way to open them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lncompile.aot import directory as directories
from lncompile.aot.opener import OPENERS, Opener
from lncompile.aot.python import specialization_of
from lncompile.aot.target import kind_of
from lncompile.backends.cpu.target import host
from lncompile.errors import LncValueError
from lncompile.kernel import Signature
from lncompile.specialization import Specialization

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel


class Shelved(NamedTuple):
    """A kernel of a directory: its manifest's entry, what it was compiled for, and the best target here.

    ``places`` tell where the arrays are that it is best for: ``cpu``, or devices that run a target's code.
    """

    record: Mapping[str, Any]
    special: Specialization
    places: tuple[str, ...]


class Shelf:
    """The kernels of a directory that serve this machine: the best of each for its CPU, all for devices."""

    def __init__(self, directory: directories.Path) -> None:
        """Read the manifest and check every file.

        Raises:
            LncValueError: a file is missing or altered, the kernels expect another lncompile in the
                process, or none of them is for this machine.
        """
        self._manifest = directories.read(directory)
        self.directory = os.path.abspath(os.fspath(directory))
        self.kernels = self._serving()

    def open(self, shelved: Shelved, signature: Signature) -> AnyKernel:
        """The kernel, from the bytes of its files that are checked once more."""
        target = shelved.special.target
        return OPENERS[kind_of(target)].opened(shelved.record, target, signature, self._read)

    def _read(self, name: str) -> bytes:
        return directories.read_file(self.directory, self._manifest, name)

    def _serving(self) -> list[Shelved]:
        best: dict[tuple[str, str, object], Shelved] = {}
        foreign: list[str] = []
        for record in self._manifest["kernels"]:
            opener = OPENERS.get(kind_of(record["targets"][0]))
            if "python" not in record:
                continue
            target = opener and opener.best(record["targets"])
            if opener is None or target is None:
                foreign += record["targets"]
                continue
            self._check_abi(record["python"]["abi"], opener)
            shelved = Shelved(record, specialization_of(record["python"], target), ())
            for place in opener.places(target, record):
                key = (record["norm"], place, tuple(record["python"]["identities"]))
                other = best.setdefault(key, shelved)
                if opener.best([other.special.target, target]) != other.special.target:
                    best[key] = shelved
        if not best:
            built = ", ".join(dict.fromkeys(foreign)) or "nothing"
            raise LncValueError(
                f"{self.directory}: expected kernels for this machine, {host().name}; got {built}"
            )
        places: dict[int, list[str]] = {}
        for (_, place, _), shelved in best.items():
            places.setdefault(id(shelved), []).append(place)
        chosen = {id(shelved): shelved for shelved in best.values()}
        return [shelved._replace(places=tuple(places[at])) for at, shelved in chosen.items()]

    def _check_abi(self, built_for: object, opener: Opener) -> None:
        if built_for != opener.abi():
            version = self._manifest["versions"]["lncompile"]
            raise LncValueError(
                f"{self.directory}: was built by lncompile {version} for another ABI than this lncompile's; "
                "build it again"
            )
