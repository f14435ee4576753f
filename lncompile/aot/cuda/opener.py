"""Kernels for devices out of a directory, without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lncompile.backends.cuda.target import TARGETS

if TYPE_CHECKING:
    from lncompile.device_kernel import DeviceKernel
    from lncompile.kernel import Signature

#: Counts changes of what the plans of launches mean.
_ABI = 3


def abi() -> list[object]:
    """What plans of launches are read as."""
    return [_ABI]


def opened(
    record: Mapping[str, Any], target: str, signature: Signature, read: Callable[[str], bytes]
) -> DeviceKernel:
    """The kernel for an architecture, from cubins that ``read`` gives by the names of their files."""
    from lncompile.backends.cuda.packed import Code, packed
    from lncompile.device_kernel import DeviceKernel

    calls = [*record["forward"], *record["backward"]]
    # PTX, and what ptxas says of it, are not needed to run the code.
    library, contents = packed([Code(call["entry"], "", read(call["cubin"])) for call in calls])
    python = record["python"]
    meta = {name: python[name] for name in ("interface", "returns_tuple", "forward", "backward")}
    return DeviceKernel(signature, library, meta | {"contents": contents}, {}, TARGETS[target])
