"""The command line: exit codes, JSON, plain text where it is piped."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lncompile as lnc
from lncompile import __version__, cache_tools
from lncompile.backends.cpu.target import TARGETS
from lncompile.cli import main
from lncompile.interface import STAGES

Run = Callable[..., Result]

EQUATION = """
import lncompile as lnc
import neighbour

print("this script says something")

@lnc.norm("... [d]", weight="d")
def scale_norm(x, weight=1.0, *, eps=1e-6):
    return x * lnc.rsqrt(lnc.sum(lnc.square(x)) + eps) * weight * neighbour.ONE
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, with a cache of its own, in an empty directory."""
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    # Commands make modules of the current directory importable.
    monkeypatch.setattr(sys, "path", [*sys.path])
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def equation() -> Path:
    """A file with a norm that imports its neighbour."""
    Path("neighbour.py").write_text("ONE = 1.0\n")
    path = Path("my_norms.py")
    path.write_text(EQUATION)
    return path


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own, its output piped."""
    command = [sys.executable, "-m", "lncompile", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_without_arguments_shows_the_commands(run: Run) -> None:
    result = run()
    assert result.exit_code == 2
    assert all(f"  {command} " in result.output for command in ("demo", "explain", "cache", "doctor"))


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"lncompile {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("bogus", "No such command"),
        ("explain layer_norm", "--shape"),
        ("explain nope --shape 3x4", "layer_norm"),
        ("explain relu --shape 3x4", "no norm 'relu'"),
        ("explain layer_norm --shape 3x", "4096x1024"),
        ("explain layer_norm --shape -3x4", "4096x1024"),
        ("explain layer_norm --shape 3,4", "4096x1024"),
        ("explain layer_norm --shape 3x4 --dtype int8", "float16, bfloat16, float32, float64"),
        ("explain layer_norm --shape 3x4 --dtype y=float32", "'y'"),
        ("explain layer_norm --shape 3x4 --target cpu:z80", "cpu:x86-64-v2"),
        ("explain layer_norm --shape 3x4 --stage tokens", "source"),
        ("explain layer_norm --shape 3x4 -c ep=1", "eps"),
        ("explain layer_norm --shape 3x4 -c eps", "name=value"),
        ("explain layer_norm --shape 3x4 -c eps=tiny", "expected a number"),
        ("explain layer_norm --shape 3x4 -c eps={[]:1}", "expected a number"),
        ("explain layer_norm --shape 3x4 -c eps=1 -c eps=2", "one value of eps"),
        ("explain layer_norm --shape 3x4 --dtype x=float32,x=float16", "one dtype for x"),
        (f"explain layer_norm --shape 3x{'9' * 5000}", "4096x1024"),
        (f"cache prune --max-size {'9' * 400}", "fewer digits"),
        ("cache prune --max-age nan", "not a finite number"),
        ("build layer_norm --shape 3x4 -o ''", "expected a directory"),
        ("explain no_such_module:norm --shape 3x4", "no module no_such_module"),
        ("explain no/such/file.py:norm --shape 3x4", "no file no/such/file.py"),
        ("explain file.py --shape 3x4", "file.py:my_norm"),
        ("explain a-b:norm --shape 3x4", "neither a module nor a Python file"),
        ("cache prune --max-size lots", "500MB"),
        ("cache prune --max-age -1", "--max-age"),
        ("demo --epochs 0", "--epochs"),
        ("demo --input no_such_file.npy", "does not exist"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, said: str) -> None:
    result = run(*shlex.split(arguments.replace("{[]:1}", "'{[]:1}'")))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_a_mistake_in_an_equation_is_one_line(run: Run) -> None:
    Path("bad.py").write_text(
        "import lncompile as lnc\n@lnc.norm('... [d]')\ndef f(x):\n    return 1 / 0 * x\n"
    )
    result = run("explain", "bad.py:f", "--shape", "3x4")
    assert result.exit_code == 1
    assert result.stderr.endswith("bad.py:4: ZeroDivisionError: division by zero\n")
    assert result.stderr.count("\n") == 1


def test_a_module_that_leaves_is_a_failure(run: Run) -> None:
    Path("leaves.py").write_text("raise SystemExit(7)\n")
    result = run("explain", "leaves.py:f", "--shape", "3x4")
    assert (result.exit_code, result.stderr) == (1, "error: leaves.py: SystemExit: 7\n")


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("source.py", "x = 1"),
        ("source.py", "def foo(: pass"),
        ("llvm.ll", ""),
        ("llvm.ll", "no LLVM IR"),
    ],
)
def test_a_stage_that_replaces_another_and_does_not_compile(
    run: Run, monkeypatch: pytest.MonkeyPatch, stage: str, text: str
) -> None:
    Path("stages").mkdir()
    Path(f"stages/rms_norm.{stage}").write_text(text)
    monkeypatch.setenv("LNCOMPILE_OVERRIDE", "stages")
    result = run("explain", "rms_norm", "--shape", "2x24", "--stage", "asm")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: LNCOMPILE_OVERRIDE: a stage of rms_norm in it does not compile")


def test_stages_are_taken_from_a_directory_that_exists(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNCOMPILE_OVERRIDE", "stagse")
    result = run("explain", "rms_norm", "--shape", "2x24")
    assert result.exit_code == 1
    assert result.stderr == "error: LNCOMPILE_OVERRIDE: expected a directory; got 'stagse'\n"
    with pytest.raises(lnc.LncError, match="LNCOMPILE_OVERRIDE: expected a directory; got 'stagse'"):
        lnc.compile(lnc.rms_norm, shape=(2, 25))


@pytest.mark.usefixtures("run")
def test_stages_are_written_to_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNCOMPILE_DUMP", "some/where")
    kernel = lnc.compile(lnc.rms_norm, shape=(2, 26))
    written = {path.name: path.read_text() for path in Path("some/where").iterdir()}
    assert written == {f"rms_norm.{stage}.{STAGES[stage]}": kernel.stages[stage] for stage in STAGES}

    Path("file").write_text("mine")
    monkeypatch.setenv("LNCOMPILE_DUMP", "file")
    with pytest.raises(lnc.LncError, match="LNCOMPILE_DUMP: expected a directory to write to; got 'file'"):
        lnc.compile(lnc.rms_norm, shape=(2, 27))
    assert Path("file").read_text() == "mine"


def test_a_failure_is_one_line(run: Run) -> None:
    Path("bad.py").write_text("import lncompile as lnc\n@lnc.norm('... [d')\ndef f(x): return x\n")
    result = run("explain", "bad.py:f", "--shape", "3x4")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "bad.py:" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_module_that_cannot_be_imported(run: Run) -> None:
    Path("worse.py").write_text("1 / 0\n")
    result = run("explain", "worse.py:f", "--shape", "3x4")
    assert (result.exit_code, result.stderr) == (1, "error: worse.py: ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("stage", STAGES)
def test_explain_prints_the_stage_itself(run: Run, stage: str) -> None:
    result = run("explain", "layer_norm", "--shape", "3x20", "--stage", stage)
    assert result.exit_code == 0
    assert result.output.rstrip("\n") == lnc.compile(lnc.layer_norm, shape=(3, 20)).stages[stage].rstrip("\n")


def test_explain_all_stages_as_json(run: Run) -> None:
    result = run("explain", "rms_norm", "--shape", "3x20", "--stage", "all", "--json")
    found = json.loads(result.output)
    assert (found["norm"], found["shape"]) == ("rms_norm", [3, 20])
    assert list(found["stages"]) == list(STAGES)


def test_explain_dtypes_and_constants(run: Run) -> None:
    options = "--stage ir --dtype x=float32,weight=float64,bias=none -c eps=0.25"
    result = run("explain", "layer_norm", "--shape", "3x20", *options.split())
    assert result.exit_code == 0
    assert "0.25" in result.output
    assert "compute   float64" in result.output
    assert "bias" not in result.output


@pytest.mark.parametrize("target", TARGETS)
def test_explain_for_other_machines(run: Run, target: str) -> None:
    result = run("explain", "rms_norm", "--shape", "3x20", "--stage", "asm", "--target", target)
    assert result.exit_code == 0
    assert "lnc_rms_norm_forward" in result.output


@pytest.mark.parametrize(
    "name", ["my_norms.py:scale_norm", "./my_norms.py:scale_norm", "my_norms:scale_norm"]
)
def test_explain_a_norm_of_ones_own(equation_in_process: Callable[[str], str], name: str) -> None:
    assert equation_in_process(name).startswith("program scale_norm\n")


@pytest.fixture
def equation_in_process(run: Run, equation: Path) -> Callable[[str], str]:
    """The IR of a norm, printed by a process that has not imported the equation's module yet."""

    def explained(name: str) -> str:
        result = process("explain", name, "--shape", "3x20", "--stage", "ir")
        # What the file prints does not mix with the result.
        assert (result.returncode, result.stderr) == (0, "this script says something\n")
        return result.stdout

    return explained


def test_an_unknown_name_lists_the_norms_of_the_file(run: Run, equation: Path) -> None:
    result = run("explain", f"{equation}:other", "--shape", "3x20")
    assert result.exit_code == 2
    assert "its norms: scale_norm" in result.stderr


@pytest.mark.parametrize("command", ["explain layer_norm --shape 3x20 --stage all", "doctor", "cache info"])
def test_piped_output_is_plain(run: Run, command: str) -> None:
    result = process(*command.split(), TERM="xterm-256color", COLORTERM="truecolor")
    assert result.returncode == 0
    assert "\x1b" not in result.stdout + result.stderr


def test_cache_of_nothing(run: Run) -> None:
    info, verify = run("cache", "info", "--json"), run("cache", "verify", "--json")
    assert json.loads(info.output)["entries"] == 0
    assert json.loads(verify.output) == {
        "sound": True,
        "entries": 0,
        "damaged": [],
        "leftovers": [],
        "tunings": 0,
    }


@pytest.fixture
def filled(run: Run) -> Path:
    """The cache with one entry; its library."""
    assert process("explain", "rms_norm", "--shape", "3x20", "--stage", "ir").returncode == 0
    (library,) = Path(os.environ["LNCOMPILE_CACHE_DIR"]).rglob("*.so")
    return library


def test_cache_info(run: Run, filled: Path) -> None:
    found = json.loads(run("cache", "info", "--json").output)
    assert (found["entries"], found["norms"], found["problem"]) == (1, {"rms_norm": 1}, None)
    said = run("cache", "info").output
    assert os.environ["LNCOMPILE_CACHE_DIR"] in said
    assert "rms_norm (1)" in said


def test_verify_of_a_sound_cache(run: Run, filled: Path) -> None:
    leftover = filled.with_suffix(".so.1-0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    result = run("cache", "verify")
    assert result.exit_code == 0
    assert result.output == f"leftover: {leftover}\n1 entry, none damaged\n"


@pytest.mark.parametrize("suffix", [".so", ".py", ".json"])
def test_verify_names_what_is_damaged(run: Run, filled: Path, suffix: str) -> None:
    path = filled.with_suffix(suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = run("cache", "verify")
    assert result.exit_code == 1
    assert f"damaged: {path}: " in result.output
    found = run("cache", "verify", "--json")
    assert found.exit_code == 1
    assert [damage["path"] for damage in json.loads(found.output)["damaged"]] == [str(path)]
    # The next use repairs it.
    assert process("explain", "rms_norm", "--shape", "3x20", "--stage", "ir").returncode == 0
    assert run("cache", "verify").exit_code == 0


def test_prune_and_clear(run: Run, filled: Path) -> None:
    assert (
        json.loads(run("cache", "prune", "--max-size", "1GB", "--max-age", "1", "--json").output)["entries"]
        == 0
    )
    assert run("cache", "prune", "--max-size", "1kB").output.startswith("removed 1 entry and 0 leftovers")
    assert cache_tools.info().entries == 0
    assert json.loads(run("cache", "clear", "--json").output)["kept"] == 0


def test_doctor_is_content(run: Run) -> None:
    result = run("doctor", "--json")
    states = {check["name"]: check["state"] for check in json.loads(result.output)}
    assert result.exit_code == 0
    assert "fail" not in states.values()
    assert states["kernel"] == "ok"
    # What it compiled went into a cache of its own.
    assert cache_tools.info().entries == 0


def test_doctor_finds_what_is_wrong(run: Run) -> None:
    result = process("doctor", LNCOMPILE_NUM_THREADS="many")
    assert result.returncode == 1
    assert "fail  threads" in result.stdout


def test_doctor_finds_a_wrong_size_of_the_pool(run: Run) -> None:
    result = process("doctor", LNCOMPILE_POOL_BYTES="1GB")
    assert result.returncode == 1
    assert "fail  memory" in result.stdout
    assert "LNCOMPILE_POOL_BYTES" in result.stdout


def test_doctor_warns_of_a_cache_that_others_may_write_to(run: Run, filled: Path) -> None:
    Path(os.environ["LNCOMPILE_CACHE_DIR"]).chmod(0o777)
    result = run("doctor")
    assert result.exit_code == 0
    assert "warn  cache" in result.output


def test_a_cache_directory_that_is_a_file(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "file"))
    assert run("cache", "info").exit_code == 1
    assert run("doctor").exit_code == 0
