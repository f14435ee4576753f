"""The tuner from end to end: candidates, records, interrupts, workers, the command line.

Times are made up, and most kernels are those of the heuristic, so that nothing depends on the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache as memoized
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers import compilation_of

import lncompile as lnc
from lncompile import cache_tools, tunings
from lncompile.autotune import tuner, workers
from lncompile.autotune.record import Tuning, from_json
from lncompile.autotune.workload import OfHost, Workload
from lncompile.builders import CpuBuilder
from lncompile.cache import Artifact
from lncompile.cli import main
from lncompile.compiler import Compilation
from lncompile.errors import LncError, LncValueError
from lncompile.kernel import Kernel

SHAPE = (6, 80)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(root))
    return root


def fresh() -> Any:
    """A norm that has no kernel in memory yet, the same in every process."""

    @lnc.norm("... [d]", weight="d")
    def centred(x: Any, weight: Any = 1.0) -> Any:
        return (x - lnc.mean(x)) * weight

    return centred


@memoized
def heuristic_artifact() -> Artifact:
    special, _ = tuner.requested(tuner.dispatcher_of(fresh()), SHAPE, "float32", "cpu", None, {})
    equation = tuner.dispatcher_of(fresh()).equation
    return CpuBuilder(equation, special).compilation(tuner.traced(equation, special)).artifact()


class Fake:
    """In place of compiling and of measuring: each candidate is the heuristic's library and has a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factors: dict[int, float] = {}
        self.failing: set[int] = set()
        self.other_bits: set[int] = set()
        self.interrupt_after: int | None = None
        self.compiled = 0
        self.measured = 0
        self.kernels: list[Kernel] = []
        monkeypatch.setattr(tuner, "compiled", self._compiled)
        monkeypatch.setattr(tuner, "Workload", self._workload)

    def _compiled(self, jobs: Sequence[Compilation], workers: int) -> Iterator[tuple[int, Artifact | str]]:
        for number in range(len(jobs)):
            self.compiled += 1
            yield number, "no registers left" if number in self.failing else heuristic_artifact()

    def _workload(self, kernel: Kernel, shape: tuple[int, ...], memory: OfHost) -> Fake:
        assert shape == SHAPE
        self.kernels = [kernel]
        return self

    def _number(self, kernel: Kernel) -> int:
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        return self.kernels.index(kernel)

    def has_same_bits(self, kernel: Kernel) -> bool:
        return self._number(kernel) not in self.other_bits

    def seconds(self, kernel: Kernel) -> tuple[float, ...]:
        self.measured += 1
        if self.measured == self.interrupt_after:
            raise KeyboardInterrupt
        factor = self.factors.get(self._number(kernel), 1.0)
        return 1e-3 * factor, 2e-3 * factor


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


def verdicts(tuning: Tuning) -> list[str]:
    return [trial.verdict for trial in tuning.trials]


def test_the_winner_is_kept_and_used(fake: Fake) -> None:
    fake.factors = {2: 0.7, 1: 1.4}
    norm = fresh()
    said: list[str] = []
    tuning = lnc.tune(norm, SHAPE, progress=lambda what, done, of: said.append(what))
    assert list(dict.fromkeys(said)) == ["emitting", "compiling", "measuring", "confirming"]
    assert verdicts(tuning)[:3] == ["heuristic", "slower", "fastest"]
    assert set(verdicts(tuning)[3:]) == {"no faster"}
    assert tuning.chosen is tuning.trials[2]
    assert tuning.chosen.ratio == pytest.approx(0.7)
    assert (tuning.chosen.forward_us, tuning.chosen.backward_us) == (700.0, 1400.0)
    assert tuning.schedule is not None
    assert tuning.chosen.changes.items() <= tuning.schedule.items()
    assert tuning.complete
    assert tuning.path is not None
    assert from_json(tunings.read(tuning.path) or {}, tuning.path) == tuning
    # In this process at the next call, in others at their first; the library is in the store already.
    for other in (norm, fresh()):
        other(np.ones(SHAPE, np.float32))
        shown = lnc.compile(other, shape=SHAPE).stages["schedule"]
        for name, value in tuning.chosen.changes.items():
            assert f"{name:<17} {value}\n" in shown


def test_the_heuristic_is_kept_where_nothing_is_faster(fake: Fake) -> None:
    tuning = lnc.tune(fresh(), SHAPE)
    assert set(verdicts(tuning)) == {"heuristic", "no faster"}
    assert tuning.schedule is None
    assert tuning.chosen is tuning.trials[0]
    assert tuning.complete
    assert cache_tools.info().entries == 1


def test_candidates_are_different_kernels(fake: Fake) -> None:
    tuning = lnc.tune(fresh(), SHAPE)
    changes = [trial.changes for trial in tuning.trials]
    assert changes[0] == {}
    assert all(changes[1:])
    assert fake.compiled == len(changes) > 2
    # With other bits there are more; nobody cares whether theirs are the same.
    fake.other_bits, fake.factors = {1}, {1: 0.5}
    tuning = lnc.tune(fresh(), SHAPE, any_bits=True)
    assert len(tuning.trials) > len(changes)
    assert verdicts(tuning)[1] == "fastest"


def test_what_fails_or_rounds_otherwise_is_no_contender(fake: Fake) -> None:
    fake.failing, fake.other_bits = {1}, {1}
    fake.factors = {1: 0.1}
    tuning = lnc.tune(fresh(), SHAPE)
    # The first candidate does not compile; the second, the next kernel, gives other bits.
    assert verdicts(tuning)[:3] == ["heuristic", "failed", "other bits"]
    assert tuning.schedule is None
    assert tuning.trials[2].forward_us is None


def test_a_heuristic_that_does_not_compile_is_a_bug(fake: Fake) -> None:
    fake.failing = {0}
    with pytest.raises(tuner.CompilerBug, match="no registers left"):
        lnc.tune(fresh(), SHAPE)
    assert list(tunings.paths()) == []


def test_an_interrupt_keeps_what_is_known(fake: Fake) -> None:
    fake.factors = {1: 1.5, 2: 0.8}
    # After three rounds of all.
    count = len(lnc.tune(fresh(), SHAPE).trials)
    cache_tools.clear()
    fake.measured, fake.interrupt_after = 0, 3 * count + 1
    with pytest.raises(KeyboardInterrupt):
        lnc.tune(fresh(), SHAPE)
    (path,) = tunings.paths()
    known = from_json(tunings.read(path) or {}, path)
    assert known is not None
    assert not known.complete
    assert verdicts(known)[:3] == ["heuristic", "slower", "unfinished"]
    assert known.trials[2].ratio == pytest.approx(0.8)
    assert known.schedule is None
    # The next run goes on: what was slower is not compiled again.
    fake.interrupt_after, fake.compiled, fake.factors = None, 0, {1: 0.8}
    tuning = lnc.tune(fresh(), SHAPE)
    assert fake.compiled == count - 1
    assert verdicts(tuning)[:3] == ["heuristic", "slower", "fastest"]
    assert tuning.trials[1] == known.trials[1]
    assert tuning.complete
    # Another one begins anew.
    fake.compiled = 0
    lnc.tune(fresh(), SHAPE)
    assert fake.compiled == count - 1, "all but the fastest, which is in the store"


def test_an_interrupt_leaves_the_schedule_in_use(fake: Fake) -> None:
    fake.factors = {1: 0.5, 2: 1.5}
    schedule = lnc.tune(fresh(), SHAPE).schedule
    fake.measured, fake.interrupt_after = 0, 60
    with pytest.raises(KeyboardInterrupt):
        lnc.tune(fresh(), SHAPE)
    (path,) = tunings.paths()
    record = tunings.read(path)
    assert record is not None
    assert (record["schedule"], record["complete"]) == (schedule, False)


def test_an_interrupt_before_anything_is_known_changes_nothing(fake: Fake) -> None:
    def interrupt(what: str, done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lnc.tune(fresh(), SHAPE, progress=interrupt)
    assert list(tunings.paths()) == []


def test_a_store_that_keeps_nothing(fake: Fake, store: Path) -> None:
    store.write_text("a file")
    fake.factors = {1: 0.5}
    tuning = lnc.tune(fresh(), SHAPE)
    assert tuning.path is None
    assert tuning.schedule is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (0, 80)}, "shape: "),
        ({"shape": (3, -1)}, "shape: "),
        ({"shape": 5}, "shape: "),
        ({"shape": SHAPE, "dtype": "int8"}, "dtype: "),
        ({"shape": SHAPE, "target": "cpu:sparc"}, "target: "),
        ({"shape": SHAPE, "eps": 1.0}, "eps"),
    ],
)
def test_wrong_arguments(fake: Fake, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(LncError, match=said):
        lnc.tune(fresh(), **arguments)
    assert fake.compiled == 0


def test_code_that_this_machine_does_not_run(fake: Fake) -> None:
    other = "cpu:x86-64-v2" if os.uname().machine == "aarch64" else "cpu:aarch64"
    with pytest.raises(LncValueError, match="target: expected one that can be measured here"):
        lnc.tune(fresh(), SHAPE, target=other)


def test_stages_that_are_replaced_are_not_tuned(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "centred.source.py").write_text("pass\n")
    monkeypatch.setenv("LNCOMPILE_OVERRIDE", str(tmp_path))
    with pytest.raises(LncValueError, match="LNCOMPILE_OVERRIDE"):
        lnc.tune(fresh(), SHAPE)


# Without fakes


@lnc.norm("b ... [d]", scale="b d", weight="d")
def several(x: Any, scale: Any, weight: Any = 1.0) -> Any:
    """Two outputs, several kinds of arguments."""
    square = lnc.mean(lnc.square(x))
    return x * lnc.rsqrt(square + 1.0) * (1 + scale) * weight, square


def test_the_workload_calls_kernels_of_every_form() -> None:
    dispatcher = tuner.dispatcher_of(several)
    dtype = {"x": "float16", "scale": "float32", "weight": None}
    special, _ = tuner.requested(dispatcher, (2, 3, 8), dtype, "cpu", None, {})
    kernel = dispatcher.compiled(special)
    workload = Workload(kernel, (2, 3, 8), OfHost())
    assert workload.bytes > 0
    forward, backward = workload.seconds(kernel)
    assert min(forward, backward) > 0
    assert workload.has_same_bits(kernel)
    workload._expected[0] = workload._expected[0] + np.float16(0.01)
    assert not workload.has_same_bits(kernel)


class Bomb:
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os._exit, (3,)


class Unsendable:
    """Cannot be sent to a process."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        raise RecursionError("too deep")


def test_workers_compile_and_survive_what_goes_wrong() -> None:
    good: Any = replace(compilation_of(lnc.rms_norm, {"...": 2, "d": 8}, "float32"), tuned=None)
    jobs: list[Any] = [Bomb(), Unsendable(), None, good, Bomb()]
    answers = dict(workers.compiled(jobs, 2))
    assert sorted(answers) == [0, 1, 2, 3, 4]
    for number, said in ((0, "failed"), (1, "too deep"), (2, "AttributeError"), (4, "failed")):
        answer = answers[number]
        assert isinstance(answer, str)
        assert said in answer
    assert answers[3] == good.artifact()


def test_workers_end_with_the_iterator() -> None:
    answers = workers.compiled([Bomb(), Bomb(), Bomb()], 1)  # type: ignore[list-item]
    next(answers)
    answers.close()  # type: ignore[attr-defined]


# The command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """Runs a command where ``norms.py`` has a norm."""
    text = "import lncompile as lnc\n@lnc.norm('... [d]', weight='d')\ndef centred(x, weight=1.0):\n"
    (tmp_path / "norms.py").write_text(text + "    return (x - lnc.mean(x)) * weight\n")
    monkeypatch.chdir(tmp_path)
    return lambda arguments: CliRunner().invoke(main, arguments.split())


TUNE = "tune norms.py:centred --shape 6x80"


def test_tune_and_show(run: Callable[[str], Result], fake: Fake) -> None:
    fake.factors = {1: 0.5}
    result = run(TUNE)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "centred 6x80" in result.stdout
    assert "50% less time than the heuristic's" in result.stdout
    shown = run("tune --show")
    assert (shown.exit_code, shown.stdout) == (0, result.stdout)
    assert run("tune norms.py:centred --show --shape 6x80").stdout == result.stdout
    # The same in JSON.
    (found,) = json.loads(run("tune --show --json").stdout)
    assert json.loads(run("tune --show --dtype float32 --json").stdout) == [found]
    assert run("tune --show --dtype float16").exit_code == 1
    assert (found["norm"], found["shape"], found["complete"]) == ("centred", [6, 80], True)
    assert [trial["verdict"] for trial in found["trials"]][:2] == ["heuristic", "fastest"]
    again = json.loads(run(f"{TUNE} --json").stdout)
    assert again == {**found, "path": again["path"]}
    said = run("cache info").stdout
    assert "tuned      1 (" in said
    assert "1 record of tuning" in run("cache verify").stdout
    assert run("cache clear").stdout.startswith("removed 1 record of tuning, 1 entry")


def test_tune_keeps_the_heuristic(run: Callable[[str], Result], fake: Fake) -> None:
    result = run(TUNE)
    assert result.exit_code == 0
    assert result.stdout.endswith("the heuristic's schedule is kept: none is faster beyond doubt\n")


def test_tune_is_interrupted(run: Callable[[str], Result], fake: Fake) -> None:
    fake.interrupt_after, fake.factors = 60, {1: 2.0}
    result = run(TUNE)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: interrupted")
    shown = run("tune --show")
    assert shown.exit_code == 0
    assert "slower" in shown.stdout
    assert shown.stdout.endswith("interrupted; the next run goes on from here\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("tune", 2, "--show"),
        ("tune layer_norm", 2, "--shape"),
        ("tune --shape 3x4", 2, "NORM"),
        ("tune nope --shape 3x4", 2, "nope"),
        ("tune layer_norm --shape 0x4", 2, "elements"),
        ("tune layer_norm --shape 3x4 --dtype int8", 2, "int8"),
        ("tune layer_norm --shape 3x4 -c ep=1", 2, "ep"),
        ("tune --show", 1, "nothing was tuned"),
        ("tune layer_norm --show", 1, "nothing was tuned"),
    ],
)
def test_exit_codes(run: Callable[[str], Result], fake: Fake, arguments: str, code: int, said: str) -> None:
    result = run(arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_a_result_that_cannot_be_kept_is_a_failure(
    run: Callable[[str], Result], fake: Fake, store: Path
) -> None:
    store.write_text("a file")
    result = run(TUNE)
    assert result.exit_code == 1
    assert "could not keep" in result.stderr
