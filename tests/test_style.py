"""The compiler knows no norm: the names of norms occur in equations alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lncompile
from lncompile.emit import templates

PACKAGE = Path(lncompile.__file__).parent
COMPILER = [PACKAGE / part for part in ("passes", "schedule", "emit", "backends")]
FILES = sorted(path for folder in (*COMPILER, templates.directory()) for path in folder.rglob("*.py"))

NORMS = re.compile(
    r"(layer|rms|batch|group|instance|add_layer|add_rms|ada_layer|l2)_?norm|softmax|(?<![a-z])dyt(?![a-z])",
    re.IGNORECASE,
)


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every identifier and string of a file but its docstrings; comments are no code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value
        for field in ("id", "attr", "name", "arg", "asname", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield getattr(node, "lineno", 0), value


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_norm_is_named(path: Path) -> None:
    assert not [(line, word) for line, word in words_of(path) if NORMS.search(word)]
