"""Targets of all kinds by name."""

from __future__ import annotations

from lncompile.backends.cpu.target import find as find_cpu
from lncompile.backends.cuda.target import find as find_cuda
from lncompile.backends.cuda.target import is_cuda


def kind_of(target: str) -> str:
    """What a target's name begins with: ``cpu`` of ``cpu:x86-64-v3``."""
    return target.partition(":")[0]


def full_name(target: str) -> str:
    """The name of a target: ``cpu`` is this machine, ``cuda`` the current device.

    ``LncError`` lists the names that exist, and says where there is no device.
    """
    return find_cuda(target).name if is_cuda(target) else find_cpu(target).name
