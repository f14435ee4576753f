"""Norms by the names that the command line gives them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import lncompile
from lncompile.cli.output import Failure
from lncompile.errors import LncError
from lncompile.norm import dispatcher_of


def norm(ctx: click.Context, param: click.Parameter, value: str) -> Any:
    """The norm called ``layer_norm``, ``package.module:name`` or ``file.py:name``; a callback of click.

    That there is none is wrong usage; that its module cannot be imported is a ``Failure``.
    """
    try:
        return find_norm(value)
    except LookupError as error:
        raise click.BadParameter(str(error.args[0]), ctx, param) from error


def find_norm(text: str) -> Any:
    """The norm of that name.

    Raises:
        LookupError: there is no such file, module or norm.
        Failure: the module raised an error when it was imported.
    """
    place, colon, name = text.rpartition(":")
    if not colon and name.endswith(".py"):
        raise LookupError(f"say which norm of the file, as in {name}:my_norm")
    module = _module(place) if colon else lncompile
    found = getattr(module, name, None)
    if not _is_norm(found):
        norms = ", ".join(key for key, value in vars(module).items() if _is_norm(value)) or "none"
        raise LookupError(f"{place or 'lncompile'} has no norm {name!r}; its norms: {norms}")
    return found


def _is_norm(value: object) -> bool:
    try:
        dispatcher_of(value)
    except LncError:
        return False
    return True


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise LookupError(f"there is no file {place}")
        return _guarded(place, lambda: _from_file(Path(place).resolve()))
    if not all(part.isidentifier() for part in place.split(".")):
        raise LookupError(f"{place!r} is neither a module nor a Python file")
    # As with ``python -m``, modules of the current directory are found too.
    _search_first("")
    return _guarded(place, lambda: importlib.import_module(place))


def _from_file(path: Path) -> ModuleType:
    """The module in ``path``, which may import its neighbours, as if it were run."""
    name = f"_lncompile_norms_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _search_first(str(path.parent))
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def place_in_norms(error: BaseException) -> str | None:
    """File and line of an equation whose code raised ``error``, of a module loaded here; None for others."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or frames[-1].filename not in _loaded:
        return None
    return f"{frames[-1].filename}:{frames[-1].lineno}"


#: The files of the modules that norms were asked from.
_loaded: set[str] = set()


def _guarded(place: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        # What a script prints while it is imported must not mix with the command's results.
        with redirect_stdout(sys.stderr):
            module = load()
        _loaded.add(module.__file__ or "")
        return module
    except LncError:
        # An equation that is wrong; the error says where.
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise LookupError(f"there is no module {place}") from None
        raise Failure(f"{place}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Failure(f"{place}: {type(error).__name__}: {error}") from error


def _search_first(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)
