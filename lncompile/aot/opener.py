"""What reads kernels back, a kind of target each: the counterpart of ``backend.py``, without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lncompile.aot.cpu.opener import opened as opened_for_cpu
from lncompile.aot.cuda.opener import abi as cuda_abi
from lncompile.aot.cuda.opener import opened as opened_for_cuda
from lncompile.backends.cpu.target import TARGETS
from lncompile.backends.cuda.target import TARGETS as CUDA_TARGETS
from lncompile.backends.cuda.target import places as cuda_places
from lncompile.builders import runs_here
from lncompile.kernel import Signature
from lncompile.keys import abi

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel

#: The bytes of a file of the directory, checked, by its name.
Read = Callable[[str], bytes]


class Opener(NamedTuple):
    """How kernels for one kind of target come out of a directory.

    Attributes:
        targets: those that are known, the least demanding first.
        serves: whether a known one is for this machine.
        places: where the arrays are that a kernel for a target takes; for those in one place the last is the
            best.
        abi: what kernels have to be built for.
        opened: the kernel of a manifest's entry for one of its targets.
    """

    targets: tuple[str, ...]
    serves: Callable[[str], bool]
    places: Callable[[str, Mapping[str, Any]], tuple[str, ...]]
    abi: Callable[[], list[object]]
    opened: Callable[[Mapping[str, Any], str, Signature, Read], AnyKernel]

    def best(self, targets: list[str]) -> str | None:
        """The target among these that suits this machine best."""
        return next((name for name in reversed(self.targets) if name in targets and self.serves(name)), None)


OPENERS = {
    "cpu": Opener(
        targets=tuple(TARGETS),
        serves=lambda name: runs_here(TARGETS[name]),
        places=lambda _, record: ("cpu",),
        abi=abi,
        opened=opened_for_cpu,
    ),
    "cuda": Opener(
        targets=tuple(CUDA_TARGETS),
        # Which one does is known when arrays come: there may be several devices, or none yet.
        serves=lambda _: True,
        places=lambda name, record: cuda_places(name, record["shared_bytes"]),
        abi=cuda_abi,
        opened=opened_for_cuda,
    ),
}
