"""What an equation's function is, as text: equal texts trace to equal programs.

Tracing an equation to find its kernel in the cache would import the IR and cost 5 ms. The text covers all
that the function can depend on: its code, its defaults, what its closure holds, and every global that it
names, functions included, in turn. Where it depends on something whose value cannot be told (an array, an
object, another module), there is no text, and the program itself is the key.
"""

from __future__ import annotations

import math
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

_PACKAGE = __name__.partition(".")[0]


class _Unknown(Exception):
    """A dependency that may change without its text changing."""


def fingerprint(function: FunctionType) -> str | None:
    """The text of ``function`` and all that it depends on, or None."""
    try:
        return repr([sys.version_info[:3], _function(function, [])])
    except _Unknown:
        return None


def fingerprint_of_value(value: object) -> str | None:
    """The text of a constant, or None where it does not tell its value."""
    try:
        return repr(_value(value, []))
    except _Unknown:
        return None


def _function(function: FunctionType, seen: list[FunctionType]) -> object:
    if function in seen:
        return ("again", seen.index(function))
    seen.append(function)
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    # A name may be an attribute's as well as a global's: taking it for both only makes the text longer.
    globals_ = [
        (n, _value(function.__globals__[n], seen)) for n in sorted(names) if n in function.__globals__
    ]
    cells = function.__closure__ or ()
    try:
        captured = [_value(cell.cell_contents, seen) for cell in cells]
    except ValueError:  # an empty cell: a name that is not bound yet
        raise _Unknown from None
    defaults = [_value(function.__defaults__, seen), _value(function.__kwdefaults__, seen)]
    return ["function", _code(function.__code__), globals_, captured, defaults]


def _codes(code: CodeType) -> list[CodeType]:
    """The code and those of the functions that it defines."""
    return [code, *(inner for c in code.co_consts if isinstance(c, CodeType) for inner in _codes(c))]


def _code(code: CodeType) -> object:
    constants = [_code(c) if isinstance(c, CodeType) else _value(c, []) for c in code.co_consts]
    return [code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants]


def _value(value: object, seen: list[FunctionType]) -> object:
    if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, str, bytes):
        return [type(value).__name__, repr(value)]
    if isinstance(value, tuple | list):
        return [type(value).__name__, *(_value(item, seen) for item in value)]
    if isinstance(value, dict):
        return ["dict", *sorted((repr(key), repr(_value(item, seen))) for key, item in value.items())]
    if isinstance(value, frozenset):
        return ["frozenset", *sorted(repr(_value(item, seen)) for item in value)]
    # The package's own files are part of the key already.
    if isinstance(value, ModuleType) and (value is math or value.__name__.partition(".")[0] == _PACKAGE):
        return ["module", value.__name__]
    if isinstance(value, BuiltinFunctionType) and value.__module__ in ("math", "builtins"):
        return ["builtin", value.__module__, value.__name__]
    if isinstance(value, FunctionType):
        if value.__module__.partition(".")[0] == _PACKAGE:
            return ["own", value.__module__, value.__qualname__]
        return _function(value, seen)
    raise _Unknown
