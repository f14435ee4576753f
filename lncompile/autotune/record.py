"""What the tuner found, as it is kept in the store and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One schedule that was tried.

    Attributes:
        changes: its fields that differ from the heuristic's; none for the heuristic itself.
        verdict: ``heuristic``; ``fastest``, which is chosen; ``slower`` and ``no faster`` than the heuristic;
            ``other bits`` than its results'; ``failed`` to compile; ``spills`` registers of a device to its
            memory; ``unfinished`` when it was interrupted.
        forward_us: microseconds of a call, the median of rounds; None where it was not measured.
        backward_us: the same of a backward.
        ratio: time over that of the heuristic in the same round, the median of rounds, forward and backward
            alike.
    """

    changes: dict[str, int]
    verdict: str
    forward_us: float | None = None
    backward_us: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Tuning:
    """The result of tuning one specialization on this machine.

    Attributes:
        norm: the name of the equation.
        shape: of the first argument, which it was measured with; batch sizes do not restrict its use.
        dtypes: of the arguments that are present, by name.
        target: what it was compiled for.
        threads: how many it was measured with; None on a device.
        any_bits: whether schedules that change bits were tried.
        complete: False where it was interrupted.
        schedule: the fields of the schedule that is used from now on, on a device those that differ from the
            heuristic's; None where it is the heuristic's.
        trials: what was tried, the heuristic first.
        path: the record in the store; None where the store could not keep it.
    """

    norm: str
    shape: tuple[int, ...]
    dtypes: dict[str, str]
    target: str
    threads: int | None
    any_bits: bool
    complete: bool
    schedule: dict[str, int] | None
    trials: tuple[Trial, ...]
    path: str | None = None

    @property
    def chosen(self) -> Trial:
        """The trial whose schedule is used from now on."""
        return next((trial for trial in self.trials if trial.verdict == "fastest"), self.trials[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def from_json(data: Mapping[str, Any], path: str) -> Tuning | None:
    """The inverse of ``to_json`` for the record in the file ``path``; None where ``data`` is none."""
    try:
        trials = tuple(Trial(**trial) for trial in data["trials"])
        shape = tuple(data["shape"])
        found = Tuning(**{**data, "trials": trials, "shape": shape, "path": path})
    except (KeyError, TypeError):
        return None
    return found if trials else None
