"""The examples for C and C++, compiled and run; headers that compile alone."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "examples"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")


def tool(*names: str) -> str:
    """The first of these programs that there is; skips the test where there is none."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no {names[0]}")
    return found


def done(*command: str | Path, **options: object) -> str:
    """What a command prints, which must succeed."""
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


@pytest.fixture(scope="module")
def library(rows_library: Path) -> str:
    """What the names of the files for this processor begin with."""
    return f"layer_norm_1024_float32{'_aarch64' if platform.machine() == 'aarch64' else ''}"


def _example(directory: Path, library: str) -> Path:
    """The example in C; on AArch64 the header has another name."""
    text = (EXAMPLES / "c" / "main.c").read_text().replace("layer_norm_1024_float32.h", f"{library}.h")
    (directory / "main.c").write_text(text)
    return directory / "main.c"


@pytest.mark.parametrize("static", [False, True])
def test_c(rows_library: Path, library: str, tmp_path: Path, static: bool) -> None:
    compiler, program = tool("cc", "gcc", "clang"), tmp_path / "example"
    linked = rows_library / f"{library}.{'a' if static else 'so'}"
    source = _example(tmp_path, library)
    done(
        compiler,
        *STRICT,
        source,
        linked,
        f"-I{rows_library}",
        "-lm",
        f"-Wl,-rpath,{rows_library}",
        "-o",
        program,
    )
    assert done(program).startswith("largest error")


def test_pkg_config(rows_library: Path, library: str, tmp_path: Path) -> None:
    compiler, program = tool("cc", "gcc", "clang"), tmp_path / "example"
    finder = tool("pkg-config", "pkgconf")
    package = f"lnc_kernels-{platform.machine()}" if platform.machine() != "aarch64" else "lnc_kernels"
    environment = os.environ | {"PKG_CONFIG_PATH": str(rows_library)}
    flags = done(finder, "--cflags", "--libs", package, env=environment).split()
    done(compiler, _example(tmp_path, library), *flags, "-lm", f"-Wl,-rpath,{rows_library}", "-o", program)
    assert done(program).startswith("largest error")


def test_cmake(rows_library: Path, tmp_path: Path) -> None:
    tool("c++", "g++", "clang++")
    cmake = tool("cmake")
    done(cmake, "-S", EXAMPLES / "cpp", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={rows_library}")
    done(cmake, "--build", tmp_path)
    assert done(tmp_path / "example").endswith("same bits\n")


def test_every_header_compiles_alone(rows_library: Path, tmp_path: Path) -> None:
    compiler = tool("gcc", "cc", "clang")
    headers = sorted(rows_library.glob("*.h"))
    assert len(headers) >= 2
    for header in headers:
        done(compiler, *STRICT, "-c", "-x", "c", header, "-o", tmp_path / "c.o")
        done(compiler, "-Wall", "-Werror", "-c", "-x", "c++", header, "-o", tmp_path / "cpp.o")
