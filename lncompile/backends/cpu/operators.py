"""Python's operators on vectors. A module to be imported for what it registers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from lncompile.backends.cpu import instructions
from lncompile.backends.cpu.vectors import Vector, adapted, as_mask, element_of, joined


def _install(function: Any, instruction: Callable[..., Any], compares: bool) -> None:
    @infer_global(function)
    class VectorOperator(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if kws or len(args) != 2 or not any(isinstance(t, Vector) for t in args):
                return None
            kind = joined(*args)
            if kind is None:
                return None
            return signature(Vector(types.boolean, kind.lanes) if compares else kind, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = joined(*sig.args)
        assert kind is not None
        left, right = (adapted(context, builder, v, t, kind) for v, t in zip(args, sig.args, strict=True))
        return instruction(builder, left, right)

    for left, right in (
        (Vector, Vector),
        (Vector, types.Float),
        (types.Float, Vector),
        (Vector, types.Integer),
        (types.Integer, Vector),
    ):
        lower_builtin(function, left, right)(lower)


for _function, _instruction in instructions.OPERATORS.items():
    _install(_function, *_instruction)


@infer_global(operator.and_)
class VectorConjunction(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        vectors = [t for t in args if isinstance(t, Vector)]
        if len(args) != 2 or not vectors or any(element_of(t) != types.boolean for t in args):
            return None
        return signature(vectors[0], *args)


@lower_builtin(operator.and_, Vector, Vector)
@lower_builtin(operator.and_, Vector, types.Boolean)
@lower_builtin(operator.and_, types.Boolean, Vector)
def _conjunction(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    left, right = (
        as_mask(context, builder, v, t, sig.return_type) for v, t in zip(args, sig.args, strict=True)
    )
    return builder.and_(left, right)


@infer_global(operator.neg)
class VectorNegation(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if len(args) == 1 and isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])
