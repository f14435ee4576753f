"""CUDA targets by name. Imports nothing heavy: a cache hit needs it too."""

from __future__ import annotations

from typing import NamedTuple

from lncompile.errors import LncTypeError, LncValueError


class CudaTarget(NamedTuple):
    """An architecture: its name, its compute capability, and what its device has.

    The number of multiprocessors is that of the usual device: A100, A40, L40S, H100 SXM, B200 and RTX PRO
    6000. Launches go by that of the device they are made on. ``shared_bytes`` is the shared memory that a
    block can have, ``cluster_blocks`` the number of blocks that every device of its kind has room for in a
    cluster.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    cluster_blocks: int

    @property
    def arch(self) -> str:
        """The name that NVIDIA's tools use."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    def runs(self, code: CudaTarget, shared_bytes: int) -> bool:
        """Whether its devices run the code for a target, of which a block needs so much shared memory."""
        return (
            code.capability[0] == self.capability[0]
            and code.capability <= self.capability
            and shared_bytes <= self.shared_bytes
        )


TARGETS: dict[str, CudaTarget] = {
    target.name: target
    for target in (
        CudaTarget("cuda:sm_80", (8, 0), 108, 163 << 10, 1),
        CudaTarget("cuda:sm_86", (8, 6), 84, 99 << 10, 1),
        CudaTarget("cuda:sm_89", (8, 9), 142, 99 << 10, 1),
        CudaTarget("cuda:sm_90", (9, 0), 132, 227 << 10, 8),
        CudaTarget("cuda:sm_100", (10, 0), 148, 227 << 10, 8),
        CudaTarget("cuda:sm_120", (12, 0), 188, 99 << 10, 8),
    )
}


def is_cuda(name: object) -> bool:
    """Whether ``name`` names a CUDA target, known or not."""
    return isinstance(name, str) and name.partition(":")[0] == "cuda"


def find(name: object) -> CudaTarget:
    """The target called ``name``; ``cuda`` is the current device. ``LncError`` lists the names that exist."""
    if not isinstance(name, str):
        raise LncTypeError(f"target: expected a string such as 'cuda:sm_90'; got {name!r}")
    if name == "cuda":
        from lncompile.backends.cuda.device import current

        return serving(current().capability)
    if name not in TARGETS:
        raise LncValueError(f"target: expected cuda, {', '.join(TARGETS)}; got {name!r}")
    return TARGETS[name]


def places(name: str, shared_bytes: int) -> tuple[str, ...]:
    """The targets whose devices run the code for this one, of which a block needs so much shared memory."""
    return tuple(there.name for there in TARGETS.values() if there.runs(TARGETS[name], shared_bytes))


def serving(capability: tuple[int, int]) -> CudaTarget:
    """The target whose code a device of this compute capability runs: of its major version, not a newer one.

    Raises:
        LncValueError: there is none.
    """
    for target in reversed(TARGETS.values()):
        if target.capability[0] == capability[0] and target.capability <= capability:
            return target
    raise LncValueError(
        f"target: expected a device that runs the code of {', '.join(TARGETS)}; "
        f"got one of compute capability {capability[0]}.{capability[1]}"
    )
