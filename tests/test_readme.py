"""What the README shows is what happens."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lncompile.cli import main

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
TEXTS = [text for language, text in BLOCKS if language == "text"]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to run the examples in, with a cache of its own."""
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_norms.py").write_text(PYTHON[0])
    return tmp_path


def test_examples_print_what_stands_below_them(directory: Path) -> None:
    names: dict[str, Any] = {}
    for code, expected in zip(PYTHON, TEXTS, strict=False):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(directory / "my_norms.py"), "exec"), names)
        assert printed.getvalue() == expected


def test_the_derived_backward(directory: Path) -> None:
    arguments = "explain my_norms.py:scale_norm --shape 4096x1024 --stage grad"
    assert CliRunner().invoke(main, arguments.split()).stdout == TEXTS[-1]


def lines_of(block: str) -> list[str]:
    """The command lines of a block that are lncompile's, without comments."""
    return [line.partition("#")[0].strip() for line in block.splitlines() if line.startswith("lncompile")]


SESSIONS = [lines for language, block in BLOCKS if language == "sh" and (lines := lines_of(block))]


@pytest.mark.parametrize(
    "commands",
    [
        # Tuning takes a minute.
        pytest.param(
            lines, id=lines[0], marks=[pytest.mark.slow] if lines[0].startswith("lncompile tune") else []
        )
        for lines in SESSIONS
    ],
)
def test_commands(directory: Path, commands: list[str]) -> None:
    """The commands of a block, one after another."""
    for command in commands:
        result = CliRunner().invoke(main, command.split()[1:])
        assert result.exit_code == 0, result.output
