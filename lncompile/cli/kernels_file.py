"""Files of kernels to build: TOML, a table a kernel.

    [final_norm]                                # the kernel's name
    norm = "layer_norm"                         # else the table's name; as on the command line
    shape = "4096x1024"                         # one or a list of them
    dtype = ["float32", {x = "bfloat16", weight = "float32"}]
    target = ["cpu:x86-64-v2", "cpu:x86-64-v3"]
    constants = {eps = 1e-6}

What a table leaves out is as the options of the command say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from lncompile.cli import loader, options
from lncompile.cli.request import Request

T = TypeVar("T")

_KEYS = ("norm", "shape", "dtype", "target", "constants")


def read_kernels(path: Path, defaults: Request) -> list[Request]:
    """The requests of a file; ``defaults`` fill what its tables leave out.

    Raises:
        click.BadParameter: it is not there or no TOML, or says what no build can be asked for.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot be read: {error.strerror}", param_hint=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint=str(path)) from error
    if not tables:
        raise click.BadParameter("expected a table for each kernel; it has none", param_hint=str(path))
    found = []
    for name, table in tables.items():
        try:
            request = _request(name, table, path.parent, defaults)
            found.append(replace(request, source=f"{path}: [{name}]"))
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint=f"{path}: [{name}]") from error
        except LookupError as error:
            raise click.BadParameter(str(error.args[0]), param_hint=f"{path}: [{name}]") from error
    return found


def _request(name: str, table: object, directory: Path, defaults: Request) -> Request:
    if not isinstance(table, dict):
        raise click.BadParameter(f"expected a table; got {table!r}")
    for key in table:
        if key not in _KEYS:
            raise click.BadParameter(f"expected keys among {', '.join(_KEYS)}; got {key!r}")
    norm = table.get("norm", name)
    if not isinstance(norm, str):
        raise click.BadParameter(f"norm: expected a name; got {norm!r}")
    constants = table.get("constants", {})
    if not isinstance(constants, dict):
        raise click.BadParameter(f"constants: expected a table; got {constants!r}")
    request = replace(
        defaults, norm=_norm(norm, directory), name=name, constants={**defaults.constants, **constants}
    )
    if "shape" in table:
        request = replace(request, shapes=_each("shape", table, _shape))
    if "dtype" in table:
        request = replace(request, dtypes=_each("dtype", table, _dtype))
    if "target" in table:
        request = replace(request, targets=_each("target", table, _target))
    return request


def _norm(text: str, directory: Path) -> Any:
    place, colon, name = text.rpartition(":")
    # Files are named from the directory of this one.
    return loader.find_norm(f"{directory / place}:{name}" if colon and place.endswith(".py") else text)


def _each(key: str, table: Mapping[str, object], read: Callable[[object], T]) -> tuple[T, ...]:
    value = table[key]
    if value == []:
        raise click.BadParameter(f"{key}: expected one or several; got an empty list")
    return tuple(read(item) for item in value) if isinstance(value, list) else (read(value),)


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, str):
        raise click.BadParameter(f"shape: expected a text such as '4096x1024'; got {value!r}")
    return options.shape(None, None, value)


def _dtype(value: object) -> Any:
    if isinstance(value, Mapping):
        value = ",".join(f"{argument}={dtype}" for argument, dtype in value.items())
    if not isinstance(value, str):
        raise click.BadParameter(f"dtype: expected a name, or a table by argument; got {value!r}")
    return options.dtype(None, None, value)


def _target(value: object) -> str:
    if not isinstance(value, str):
        raise click.BadParameter(f"target: expected a name such as 'cpu:x86-64-v3'; got {value!r}")
    return options.target(None, None, value)
