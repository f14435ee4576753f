"""``lncompile build``: what it writes, the same bytes every time; usage, failures and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import lncompile as lnc
from lncompile.aot import workers
from lncompile.aot.part import Part
from lncompile.backends.cpu.target import host
from lncompile.cli import main
from lncompile.errors import CompilerBug, LncValueError

Run = Callable[..., Result]

NORMS = """
import lncompile as lnc

@lnc.norm("... [d]")
def größe(x, *, factor=2.0):
    return x * factor
"""

KERNELS = """
[halved]
norm = "norms.py:größe"
shape = "4x8"
dtype = ["float32", {x = "float16"}]
constants = {factor = 0.5}

[doubled]
norm = "norms.py:größe"
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, in an empty directory, and compiles in one worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return lambda *arguments: CliRunner().invoke(main, ["build", *arguments, "-j", "1"])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_of_kernels(run: Run, tmp_path: Path) -> None:
    (tmp_path / "norms.py").write_text(NORMS, encoding="utf-8")
    (tmp_path / "kernels.toml").write_text(KERNELS, encoding="utf-8")
    result = run("kernels.toml", "--shape", "3x5", "-o", "dist", "--json", "--package", "mine")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    stems = ["doubled_5_float32", "halved_8_float16", "halved_8_float32"]
    files = [f"{stem}.{kind}" for stem in stems for kind in ("h", "so")]
    files += [
        "manifest.json",
        *(f"mine{end}" for end in ("-config-version.cmake", "-config.cmake", ".h", ".pc")),
    ]
    assert names(tmp_path / "dist") == sorted(files)
    assert told["files"] == {name: (tmp_path / "dist" / name).stat().st_size for name in files}
    assert {row["phase"] for row in told["report"]} == {"forward", "backward"}
    assert told["report"][0]["bytes_per_row"] == 2 * 8 * 4
    assert told["report"][0]["flops_per_row"] == 8
    loaded = lnc.load(tmp_path / "dist")
    assert (loaded.halved(np.ones((3, 8), np.float32)) == 0.5).all()
    assert (loaded.halved(np.ones((3, 8), np.float16)) == 0.5).all()
    assert (loaded.doubled(np.ones((3, 5), np.float32)) == 2).all()
    manifest = json.loads((tmp_path / "dist" / "manifest.json").read_text())
    assert (manifest["norm"], manifest["package"]) == (None, "mine")
    assert manifest["kernels"][0]["constants"] == {"factor": 0.5}


def test_the_report_and_a_second_build_over_the_first(run: Run, tmp_path: Path) -> None:
    result = run("l2_norm", "--shape", "3x4", "-o", "dist", "--report", "--static")
    assert result.exit_code == 0, result.output
    assert "flops per row" in result.output
    assert host().name in result.output
    assert "dist: 8 files" in result.output
    assert run("l2_norm", "--shape", "3x6", "-o", "dist").exit_code == 0
    assert "l2_norm_4_float32.a" not in names(tmp_path / "dist")
    assert "l2_norm_6_float32.so" in names(tmp_path / "dist")


USAGE = [
    ("layer_norm -o dist", "Missing option '--shape'"),
    ("--shape 3x4 -o dist", "Missing argument 'NORM...'"),
    ("layer_norm --shape 3x4", "Missing option '-o'"),
    ("nope --shape 3x4 -o dist", "no norm 'nope'"),
    ("layer_norm --shape 3x -o dist", "4096x1024"),
    ("layer_norm --shape 3x0 -o dist", "over zero features"),
    ("layer_norm --shape 3x4 --dtype int8 -o dist", "expected one of float16"),
    ("layer_norm --shape 3x4 --dtype x=float32,scale=float32 -o dist", "no array argument 'scale'"),
    ("layer_norm --shape 3x4 --target gpu -o dist", "expected cpu,"),
    ("layer_norm --shape 3x4 -c delta=1 -o dist", "no constant and no axis 'delta'"),
    ("layer_norm --shape 3x4 --package a-b -o dist", "letters, digits and underscores"),
    ("group_norm --shape 3x4x5 -c g=3 -o dist", "g"),
    ("none.toml -o dist", "none.toml"),
]


@pytest.mark.parametrize(("arguments", "said"), USAGE)
def test_wrong_usage(run: Run, tmp_path: Path, arguments: str, said: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert names(tmp_path) == []


TABLES = [
    ("x = 3", "kernels.toml: [x]", "expected a table"),
    ("[l2_norm", "kernels.toml", "Expected ']'"),
    ("", "kernels.toml", "it has none"),
    ("[l2_norm]\nshapes = '3x4'", "[l2_norm]", "got 'shapes'"),
    ("[l2_norm]\nshape = 3", "[l2_norm]", "'4096x1024'; got 3"),
    ("[l2_norm]\nshape = '3x4'\ndtype = 1", "[l2_norm]", "by argument; got 1"),
    ("[l2_norm]\nshape = '3x4'\ntarget = 1", "[l2_norm]", "'cpu:x86-64-v3'; got 1"),
    ("[l2_norm]\nshape = '3x4'\nconstants = 1", "[l2_norm]", "expected a table; got 1"),
    ("[l2_norm]\nnorm = 1", "[l2_norm]", "expected a name; got 1"),
    ("[nope]\nshape = '3x4'", "[nope]", "no norm 'nope'"),
    ("[l2_norm]\nshape = []", "[l2_norm]", "shape: expected one or several; got an empty list"),
    ("[l2_norm]\nshape = '3x4'\ndtype = []", "[l2_norm]", "dtype: expected one or several"),
    ("[l2_norm]\nshape = '3x4'\ntarget = []", "[l2_norm]", "target: expected one or several"),
    ("[l2_norm]", "[l2_norm]", "Missing option '--shape'"),
    ("[l2_norm]\nshape = '3x4'\nconstants = {nope = 1}", "[l2_norm]", "no axis 'nope'"),
    ("[l2_norm]\nshape = '3x4'\nconstants = {eps = 1979-05-27}", "[l2_norm]", "eps: expected a number"),
    ("[l2_norm]\nshape = '3x4'\ndtype = 'y=float32'", "[l2_norm]", "'y'"),
]


@pytest.mark.parametrize(("text", "where", "said"), TABLES)
def test_wrong_files_of_kernels(run: Run, tmp_path: Path, text: str, where: str, said: str) -> None:
    (tmp_path / "kernels.toml").write_text(text)
    result = run("kernels.toml", "-o", "dist")
    assert result.exit_code == 2, result.output
    output = " ".join(result.output.split())
    assert where in output
    assert said in output


def test_a_file_in_the_way_is_no_work_done(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "lnc_kernels.h").write_text("mine")
    result = run("l2_norm", "--shape", "3x4", "-o", "dist")
    assert result.exit_code == 1
    assert "lnc_kernels.h is in the way" in result.output
    assert names(tmp_path / "dist") == ["lnc_kernels.h"]


def _build(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lncompile", "build", "rms_norm", "--shape", "3x24", "-o", "dist"]
    directory.mkdir()
    return subprocess.Popen(
        [*command, *arguments],
        cwd=directory,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    ways = [
        ("one", ["-j", "1"], {"PYTHONHASHSEED": "1"}),
        ("another", ["-j", "3"], {"PYTHONHASHSEED": "2", "LNCOMPILE_CACHE_DIR": str(tmp_path / "cache")}),
    ]
    builds = [_build(tmp_path / name, "--static", *jobs, **variables) for name, jobs, variables in ways]
    for process in builds:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    one, another = (tmp_path / name / "dist" for name, *_ in ways)
    assert names(one) == names(another)
    for path in one.iterdir():
        assert path.read_bytes() == (another / path.name).read_bytes(), path.name


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    process = _build(tmp_path / "here")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():  # until it compiles
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode != 0, output
    assert names(tmp_path / "here") == []


# Worker processes


def _die() -> bytes:
    os._exit(7)


def _refuse() -> bytes:
    raise LncValueError("x: no")


class _CannotTravel(Exception):
    def __init__(self) -> None:
        super().__init__("stays", lambda: None)


def _odd() -> bytes:
    raise _CannotTravel


def test_parts_are_compiled_in_order_and_counted() -> None:
    parts = [Part(str(number), lambda number=number: bytes([number])) for number in range(7)]  # type: ignore[misc]
    done: list[int] = []
    assert workers.compiled(parts, 3, nullcontext(lambda: done.append(1))) == [
        bytes([number]) for number in range(7)
    ]
    assert len(done) == 7
    assert workers.compiled([], 3, nullcontext(lambda: None)) == []


@pytest.mark.parametrize(
    ("broken", "error", "said"),
    [
        (_die, CompilerBug, r"broken part: the compiler ended with exit code 7"),
        (_refuse, LncValueError, "x: no"),
        (_odd, CompilerBug, "broken part: _CannotTravel"),
    ],
)
def test_parts_that_fail(broken: Callable[[], bytes], error: type[Exception], said: str) -> None:
    parts = [Part("sound part", lambda: b""), Part("broken part", broken)]
    with pytest.raises(error, match=said):
        workers.compiled(parts, 2, nullcontext(lambda: None))
