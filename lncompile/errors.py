"""The two kinds of failure: a user's mistake (``LncError``) and a bug of the compiler (``CompilerBug``)."""

from __future__ import annotations


class LncError(Exception):
    """A request that cannot be served: names the culprit, what was expected and what came.

    Every raised error is also a ``ValueError`` or a ``TypeError``, so code that catches those keeps working.
    """


class LncValueError(LncError, ValueError):
    """A right kind of thing with a wrong value, shape or name."""


class LncTypeError(LncError, TypeError):
    """A wrong kind of thing: another type or dtype than expected."""


class CompilerBug(AssertionError):
    """An invariant of the compiler itself was broken; never the fault of the equation."""
