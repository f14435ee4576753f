"""Imports point one way: from the edges to the equation's data, never back."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lncompile

PACKAGE = Path(lncompile.__file__).parent

#: Lowest first. A module imports from its own layer and those below; a name stands for its submodules too.
LAYERS = (
    ("errors", "digest", "dumped", "integers", "interrupts", "machine"),
    ("dtypes", "interface", "axes", "memory", "arrays"),
    ("ir",),
    ("printer", "verify", "interpret"),
    ("language", "equation", "fingerprint", "trace"),
    ("passes",),
    ("schedule",),
    ("emit",),
    # What a loaded library needs; a cache hit imports this part of the backend alone.
    ("backends.cpu.runtime", "backends.cpu.target", "backends.cpu.calls"),
    # What makes a library.
    ("backends.cpu",),
    # What a kernel on a device needs, and what makes one.
    (
        "backends.cuda.target",
        "backends.cuda.device",
        "backends.cuda.packed",
        "backends.cuda.plan",
        "backends.cuda.described",
    ),
    ("backends.cuda",),
    ("cache", "cache_lock", "cache_tools", "tunings"),
    ("compiler", "device_compiler"),
    ("buffers", "kernel", "empty", "device_arrays", "device_ready"),
    ("device_runner", "device_reader", "device_quick", "device_kernel", "device_empty"),
    ("specialization", "keys", "builders"),
    ("specialize", "norm", "requested", "fixed", "aot", "ahead", "norms", "channels", "functional"),
    ("autotune",),
    ("rnn",),
    ("cli", "__main__"),
)

#: Packages that take long to import: the command line's and the compiler's.
HEAVY = ("numba", "llvmlite", "click", "rich", "sklearn", "cupy", "torch")


def module_name(path: Path) -> str:
    """``passes.gradient`` for its file; a package has the name of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts}


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every module of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "lncompile":
                    yield node.lineno, alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            package, _, module = (node.module or "").partition(".")
            if package == "lncompile":
                for alias in node.names:
                    inner = f"{module}.{alias.name}".lstrip(".")
                    yield node.lineno, inner if inner in MODULES else module


def layer(module: str) -> int:
    """The place of a module; the longest name that fits decides."""
    if module == "":
        # The public names: above everything but the edges.
        return len(LAYERS) - 2
    fitting = [
        (len(name), place)
        for place, names in enumerate(LAYERS)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    assert fitting, f"{module} is in no layer: add it to LAYERS"
    return max(fitting)[1]


def is_version(path: Path, line: int) -> bool:
    """Whether an import takes nothing but the version, which is data."""
    return (
        path.read_text(encoding="utf-8")
        .splitlines()[line - 1]
        .lstrip()
        .startswith("from lncompile import __version__")
    )


@pytest.mark.parametrize("module", [name for name in MODULES if name and not name.endswith("backends")])
def test_imports_point_down(module: str) -> None:
    path = MODULES[module]
    upward = [
        f"{path.name}:{line}: {module} imports {imported or 'lncompile'}"
        for line, imported in imports_of(path)
        if layer(imported) > layer(module) and not is_version(path, line)
    ]
    assert not upward


def test_there_are_no_cycles() -> None:
    graph = {
        module: {
            imported
            for line, imported in imports_of(path)
            if imported not in ("", module) and not is_version(path, line)
        }
        for module, path in MODULES.items()
        if module
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


def loaded_after(code: str) -> set[str]:
    """The top-level packages that a fresh process has imported after ``code``."""
    probe = f"{code}\nimport sys\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_is_light() -> None:
    assert not loaded_after("import lncompile, lncompile.functional") & set(HEAVY)


def test_hit_is_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "cache"))
    code = "import numpy as np, lncompile as lnc; x = np.ones((3, 24), np.float32)\n"
    code += "lnc.layer_norm.backward(x, lnc.layer_norm.forward(x, x[0], x[0])[1])"
    assert "numba" in loaded_after(code)
    assert not loaded_after(code) & set(HEAVY)
