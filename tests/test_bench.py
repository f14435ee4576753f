"""The benchmarks' driver: contenders that work, fail, disagree, end, or are missing; results that add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.commands import bench
from benchmarks.grid import Case, cases
from benchmarks.rounds import load, processes, run, store
from benchmarks.rounds.processes import Contender, Gone
from benchmarks.rounds.store import Results
from lncompile.cli import main

CASE = Case("layer_norm", (4, 8), "rows", "float32", "forward")
SETTINGS = run.Settings(rounds=3, seconds=0.001)

#: What a fake contender answers to a request.
Answers = Mapping[str, Callable[[], dict[str, Any]]]


class FakeProcess:
    """Answers as it is told; ``asked`` are the requests of all fakes in order."""

    def __init__(self, name: str, answers: Answers, asked: list[tuple[str, str]]) -> None:
        self.name, self.answers, self.asked = name, answers, asked
        self.versions = {name: "1.0"}
        self.pid = os.getpid()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append((self.name, do))
        usual: Answers = {
            "prepare": lambda: {"ok": {"statements": {"": "f(x)"}, "samples": [[1.0, 2.0]]}},
            "measure": lambda: {"ok": {"": 5.0}},
        }
        return {**usual, **self.answers}.get(do, lambda: {"ok": None})()

    def close(self) -> None:
        self.asked.append((self.name, "close"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[store.Cell, list[tuple[str, str]]]]:
    """Runs one case with fakes, given by name and answers, or a reason for being absent."""

    def measure(fakes: Mapping[str, Answers | str]) -> tuple[store.Cell, list[tuple[str, str]]]:
        asked: list[tuple[str, str]] = []

        def start(contender: Contender, threads: int, mode: str) -> Any:
            answers = fakes[contender.name]
            return answers if isinstance(answers, str) else FakeProcess(contender.name, answers, asked)

        monkeypatch.setattr(run, "start", start)
        results = Results({})
        contenders = [Contender(name, name) for name in fakes]
        done = run.run(results, [CASE], contenders, 1, "mapped", SETTINGS, lambda _: None, "", lambda: None)
        assert done == 1
        return results.cells[0], asked

    return measure


def raises(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


def test_rounds_alternate(measured: Any) -> None:
    cell, asked = measured({"a": {}, "b": {}})
    assert [name for name, do in asked if do == "measure"] == ["a", "b", "b", "a", "a", "b"]
    assert cell.rounds == 3
    assert cell.times == {"a": {"": [5.0] * 3}, "b": {"": [5.0] * 3}}
    assert cell.versions == {"a": {"a": "1.0"}, "b": {"b": "1.0"}}
    assert [entry for entry in asked if entry[1] == "close"] == [("a", "close"), ("b", "close")]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("missing: torch is not installed in python", "missing: torch is not installed in python"),
        ({"prepare": lambda: {"failed": "ValueError: no"}}, "failed: ValueError: no"),
        ({"prepare": lambda: {"not offered": "no gradients"}}, "not offered: no gradients"),
        ({"prepare": raises(Gone("ended with signal SIGKILL"))}, "failed: ended with signal SIGKILL"),
        ({"measure": raises(Gone("no answer within 300 s"))}, "failed: no answer within 300 s"),
        ({"measure": lambda: {"failed": "MemoryError: "}}, "failed: MemoryError: "),
        (
            {"prepare": lambda: {"ok": {"statements": {"": "f(x)"}, "samples": [[1.0, 2.1]]}}},
            "failed: its result is not that of the others",
        ),
    ],
)
def test_who_is_absent_is_listed_and_others_go_on(measured: Any, answers: Any, reason: str) -> None:
    cell, _ = measured({"a": {}, "b": answers, "c": {}})
    assert cell.absent == {"b": reason}
    assert cell.time("b") is None
    assert cell.time("a").rounds == cell.time("c").rounds == 3


def test_interrupted_rounds_are_kept(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answers = iter([{"ok": {"": 1.0}}, {"ok": {"": 2.0}}])

    def measure() -> dict[str, Any]:
        found = next(answers, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(run, "start", lambda *_: FakeProcess("a", {"measure": measure}, asked))
    results, kept = Results({}), []
    with pytest.raises(KeyboardInterrupt):
        run.run(
            results,
            [CASE],
            [Contender("a", "a")],
            1,
            "mapped",
            SETTINGS,
            lambda _: None,
            "",
            lambda: kept.append(results.cells[0].times["a"][""].copy()),
        )
    assert kept == [[1.0, 2.0]]
    assert asked[-1] == ("a", "close")


def test_a_process_that_keeps_ending_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answers = {"prepare": raises(Gone("ended"))}
    monkeypatch.setattr(run, "start", lambda *_: FakeProcess("a", answers, asked))
    results = Results({})
    shapes = [(rows, 8) for rows in range(1, 7)]
    wanted = list(cases(["layer_norm"], shapes, phases=["forward"]))
    run.run(results, wanted, [Contender("a", "a")], 1, "mapped", SETTINGS, lambda _: None, "", lambda: None)
    assert [do for _, do in asked].count("prepare") == 4
    assert results.cells[-1].absent == {"a": "failed: its process ended 4 times"}


def test_a_python_that_is_not_there() -> None:
    reason = processes.start(Contender("torch", "torch", "/no/such/python"), 1, "mapped")
    assert reason == "missing: /no/such/python: No such file or directory"


def test_a_python_that_ends_at_once() -> None:
    reason = processes.start(Contender("torch", "torch", "/bin/false"), 1, "mapped")
    assert reason == "failed: ended with exit code 1"


def test_what_else_runs_is_noticed() -> None:
    quiet, busy = load.Watch([]), subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        watch, known = load.Watch([]), load.Watch([busy.pid])
        time.sleep(0.5)
        alone, both = known.others(), watch.others()
    finally:
        busy.kill()
        busy.wait()
    if alone is not None and both is not None:
        assert both >= alone
    assert quiet.others() is None or 0 <= quiet.others() <= 1
    assert load.Watch([]).others() is None, "too short"


def test_the_other_memory_of_a_mode() -> None:
    contender = Contender("numpy", "numpy", path="/checkout")
    mapped = processes.environment(contender, 1, "mapped", {"PYTHONPATH": "/other"})
    assert mapped["PYTHONPATH"] == "/checkout:/other"
    assert mapped["OMP_NUM_THREADS"] == mapped["LNCOMPILE_NUM_THREADS"] == "1"
    assert "MALLOC_MMAP_MAX_" in mapped
    assert "MALLOC_MMAP_MAX_" not in processes.environment(contender, 1, "called", {})


def test_cases_where_they_make_sense() -> None:
    found = {(case.norm, case.layout) for case in cases(shapes=[(64, 2048)])}
    assert found == {
        ("layer_norm", "rows"),
        ("rms_norm", "rows"),
        ("batch_norm", "first"),
        ("group_norm", "first"),
    }
    images = {(case.norm, case.layout) for case in cases(shapes=[(2, 32, 3, 5)])}
    assert len(images) == 6
    assert not list(cases(["group_norm"], [(2, 33, 3, 5)])), "32 groups of 33 channels"
    assert next(iter(cases(["batch_norm"], [(2, 32, 3, 5)]))).bytes == 2 * 4 * 2 * 32 * 15


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """File and output of a run with processes: NumPy, lncompile, the copy, and one that is missing."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    arguments = (
        "bench --norm layer_norm --shape 3x64 --rounds 2 --seconds 0.001 --threads 1 --no-plots "
        "--mode mapped --only numpy,lncompile,jax --python jax=/no/such/python"
    )
    result = CliRunner().invoke(main, [*arguments.split(), "--json", str(path)])
    assert result.exit_code == 0, result.output
    return path, result.output


def test_real_contenders(real: tuple[Path, str]) -> None:
    path, output = real
    results = store.load(path)
    assert len(results.cells) == 2
    for cell in results.cells:
        assert set(cell.times) == {"lncompile", "limit", "numpy"}
        assert cell.absent == {"jax": "missing: /no/such/python: No such file or directory"}
        assert all(
            value > 0 for variants in cell.times.values() for line in variants.values() for value in line
        )
        assert len(cell.series("lncompile")) == 2
        assert cell.statements["lncompile"][""].endswith(("out=out)", "out=gradients)"))
    assert "jax, all cells: missing: /no/such/python: No such file or directory" in output
    assert "layer_norm 3×64 backward" in output


def test_rounds_are_added(real: tuple[Path, str], tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(real[0].read_bytes())
    common = (
        "--norm layer_norm --shape 3x64 --phase forward --threads 1 --mode mapped --only lncompile --no-plots"
    )
    arguments = [*common.split(), "--rounds", "3", "--seconds", "0.001", "--json", str(path)]
    assert CliRunner().invoke(bench, arguments).exit_code == 0
    cell = store.load(path).cells[0]
    assert cell.rounds == 5
    assert len(cell.series("lncompile")) == len(cell.series("limit")) == 5
    assert len(cell.times["numpy"][""]) == 2, "it took no part in the later rounds"
    before = path.read_bytes()
    assert CliRunner().invoke(bench, [*arguments, "--resume"]).exit_code == 0
    assert path.read_bytes() == before, "there are as many rounds already"


def test_time_is_up(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    arguments = f"--shape 3x64 --norm rms_norm --threads 1 --time 0 --no-plots --json {path}"
    result = CliRunner().invoke(bench, arguments.split())
    assert result.exit_code == 1
    assert "stopped after 0 s; what is complete is kept, cells left: 4" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--norm lay_norm", "expected one of layer_norm"),
        ("--shape 12", "expected sizes joined by x"),
        ("--threads 0", "expected numbers from 1"),
        ("--only tensorflow", "--only: expected one of lncompile"),
        ("--python tensorflow=x", "--python: expected one of lncompile"),
        ("--python torch", "expected NAME=PATH"),
        ("--lncompile other=/no/such/checkout", "expected a directory that holds lncompile"),
        ("--norm layer_norm --shape 1x2x3x4", "no norm has such a shape"),
    ],
)
def test_wrong_usage(arguments: str, message: str) -> None:
    result = CliRunner().invoke(main, ["bench", *arguments.split()])
    assert result.exit_code == 2
    assert message in result.output


def test_results_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    for text in ("{", "{}", '{"format": 99}', json.dumps({"format": 1, "cells": [{}]})):
        path.write_text(text)
        result = CliRunner().invoke(bench, ["report", "--json", str(path)])
        assert result.exit_code == 1
        assert "bench.json" in result.output
    path.write_text(store.dumps(Results({"cpu": "Other", "vectors": "", "cores": 4, "system": "Linux"})))
    result = CliRunner().invoke(bench, ["--json", str(path), "--no-plots"])
    assert result.exit_code == 1
    assert "holds results of another machine (Other, 4 cores, Linux)" in result.output


def test_help() -> None:
    for arguments in (["--help"], ["grid", "--help"], ["growth", "--help"], ["startup", "--help"]):
        result = CliRunner().invoke(main, ["bench", *arguments])
        assert result.exit_code == 0
        assert "Usage: lncompile bench" in result.output


def test_neither_installed_nor_in_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The package's attribute of that name is the command.
    monkeypatch.setattr(sys.modules["lncompile.cli.bench"], "_PACKAGE", tmp_path / "lncompile")
    result = CliRunner().invoke(main, ["bench"])
    assert result.exit_code == 1
    assert "the benchmarks are neither in" in result.output
