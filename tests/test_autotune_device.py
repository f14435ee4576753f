"""The tuner on a device, with fakes of CuPy, of the code that runs there and of the time that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kernels import standing_in
from fake_cupy import Device, installed, on_device
from test_autotune import fresh

import lncompile as lnc
from lncompile import tunings
from lncompile.autotune import tuner
from lncompile.autotune.places import Job, OnDevice
from lncompile.autotune.record import Tuning
from lncompile.autotune.workload import OfDevice, Workload
from lncompile.cache import Artifact
from lncompile.device_kernel import DeviceKernel
from lncompile.errors import LncValueError

SHAPE = (9, 64)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache that only this test sees, since what is compiled is no code."""
    root = tmp_path / "store"
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(root))
    with standing_in():
        yield root


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with installed(monkeypatch) as device:
        device.count = 1
        yield device


class Times:
    """In place of compiling in other processes, and of measuring: the time of each kernel, 1 unless told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factors: dict[int, float] = {}
        self.spilling: set[int] = set()
        self.kernels: list[DeviceKernel] = []
        monkeypatch.setattr(tuner, "compiled", self._compiled)
        monkeypatch.setattr(tuner, "Workload", self._workload)

    def _compiled(self, jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Artifact]]:
        for number, job in enumerate(jobs):
            artifact = job.artifact()
            if number in self.spilling:
                artifact.meta["contents"][0]["spills"] = 8
            yield number, artifact

    def _workload(self, kernel: DeviceKernel, shape: tuple[int, ...], memory: OfDevice) -> Times:
        assert isinstance(memory, OfDevice)
        self.kernels = [kernel]
        return self

    def has_same_bits(self, kernel: DeviceKernel) -> bool:
        self.kernels.append(kernel)
        return True

    def seconds(self, kernel: DeviceKernel) -> tuple[float, ...]:
        factor = self.factors.get(self.kernels.index(kernel), 1.0)
        return 1e-5 * factor, 2e-5 * factor


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def test_the_winner_is_kept_and_used(fake: Device, times: Times) -> None:
    times.factors = {1: 0.5}
    tuning = lnc.tune(fresh(), SHAPE, target="cuda")
    assert (tuning.target, tuning.threads, tuning.complete) == ("cuda:sm_90", None, True)
    assert tuning.chosen is tuning.trials[1]
    assert tuning.schedule == tuning.chosen.changes
    assert tuning.path is not None
    # By what is compiled from now on, and by calls on a device's arrays.
    shown = lnc.compile(fresh(), shape=SHAPE, target="cuda:sm_90").stages["schedule"]
    for name, value in tuning.chosen.changes.items():
        assert shown.count(f"{name:<17} {value}\n") == 2, "of both phases"
    other = lnc.compile(fresh(), shape=SHAPE, target="cuda:sm_80").stages["schedule"]
    assert other != shown


def test_a_norm_that_was_called_before_changes_its_kernel(fake: Device, times: Times) -> None:
    norm = fresh()
    x = on_device(np.ones(SHAPE, np.float32))
    norm(x)
    before = fake.launched[-1]
    dtype, wanted = {"x": "float32", "weight": None}, {"block_threads": 64}
    tried = [trial.changes for trial in lnc.tune(norm, SHAPE, dtype, target="cuda").trials]
    times.factors = {tried.index(wanted): 0.5}
    assert lnc.tune(norm, SHAPE, dtype, target="cuda").schedule == wanted
    norm(x)
    assert (before.block, fake.launched[-1].block) == (128, 64)


def test_candidates_are_different_kernels(fake: Device, times: Times) -> None:
    def changes(tuning: Tuning) -> list[dict[str, int]]:
        return [trial.changes for trial in tuning.trials]

    few, many = (changes(lnc.tune(fresh(), SHAPE, target="cuda", any_bits=any_bits)) for any_bits in (0, 1))
    assert few[0] == many[0] == {}
    assert {name for made in few for name in made} <= {"held_elements", "block_threads"}
    assert len(few) < len(many)
    # Fewer blocks are the same code, launched otherwise.
    assert {"threads_resident": 512} in many


def test_what_spills_is_no_contender(fake: Device, times: Times) -> None:
    times.factors, times.spilling = {1: 0.5}, {1}
    tuning = lnc.tune(fresh(), SHAPE, target="cuda")
    assert tuning.trials[1].verdict == "spills"
    assert tuning.trials[1].forward_us is None
    assert tuning.schedule is None or tuning.schedule != tuning.trials[1].changes


def test_another_architecture_cannot_be_measured(fake: Device, times: Times) -> None:
    with pytest.raises(LncValueError, match="target: expected one that can be measured here, on cuda:sm_90"):
        lnc.tune(fresh(), SHAPE, target="cuda:sm_80")


def test_the_workload_calls_kernels_on_the_device(fake: Device) -> None:
    dispatcher = tuner.dispatcher_of(fresh())
    special, _ = tuner.requested(dispatcher, SHAPE, "float16", "cuda:sm_90", None, {})
    place = OnDevice(dispatcher.equation, special, lambda: tuner.traced(dispatcher.equation, special))
    (first, *_) = place.candidates(1 << 20, any_bits=False)
    kernel = place.loaded(dispatcher.signature, first().job.artifact())
    workload = Workload(kernel, SHAPE, place.memory)
    fake.launched.clear()
    fake.waits = 0
    assert min(workload.seconds(kernel)) > 0
    assert {str(launch.entry) for launch in fake.launched} == {code.entry for code in kernel.codes}
    assert fake.waits == 6, "after every sample"
    assert workload.has_same_bits(kernel)


@pytest.mark.parametrize("schedule", [{"held_elements": 5}, {"lanes": 4}, {"held_elements": "0"}])
def test_a_record_of_something_else_is_not_used(fake: Device, schedule: dict[str, Any]) -> None:
    heuristic = lnc.compile(fresh(), shape=SHAPE, target="cuda:sm_90").stages["schedule"]
    dispatcher = tuner.dispatcher_of(fresh())
    special, _ = tuner.requested(dispatcher, SHAPE, "float32", "cuda:sm_90", None, {})
    place = OnDevice(dispatcher.equation, special, lambda: tuner.traced(dispatcher.equation, special))
    assert tunings.keep(place.spec, {"schedule": schedule})
    assert lnc.compile(fresh(), shape=SHAPE, target="cuda:sm_90").stages["schedule"] == heuristic
