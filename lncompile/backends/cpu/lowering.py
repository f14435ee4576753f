"""Numba's lowering of typed functions to LLVM IR, without looking the same operators up again and again."""

from __future__ import annotations

from typing import Any

from numba.core import lowering, typed_passes
from numba.core.compiler_machinery import register_pass


class _KernelLower(lowering.Lower):
    """Looks each operator on types up once a function, by the types that it was found to have.

    Numba looks up each use, with the values of constants first: a fifth of the time of lowering a layer norm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._operators: dict[tuple[Any, Any], Any] = {}

    def setup_function(self, fndesc: Any) -> None:
        """Begin the function, which is not inlined: passes would go over it once more, 0.25 s of 0.6."""
        super().setup_function(fndesc)
        self.function.attributes.add("noinline")

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        """The LLVM value of ``expr.lhs op expr.rhs``, as a ``resty``."""
        context, builder = self.context, self.builder
        signature = self.fndesc.calltypes[expr]
        operands = [
            context.cast(builder, self.loadvar(given.name), self.typeof(given.name), wanted)
            for given, wanted in zip((expr.lhs, expr.rhs), signature.args, strict=True)
        ]
        result = self._implementation(op, signature.args)(builder, operands)
        return context.cast(builder, result, signature.return_type, resty)

    def _implementation(self, op: Any, kinds: Any) -> Any:
        found = self._operators.get((op, kinds))
        if found is None:
            typing = self.context.typing_context
            function = typing.resolve_value_type(op)
            found = self.context.get_function(function, function.get_call_type(typing, kinds, {}))
            self._operators[op, kinds] = found
        return found


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(typed_passes.BaseNativeLowering):
    """Lowers a function with :class:`_KernelLower`."""

    _name = "kernel_lowering"

    @property
    def lowering_class(self) -> Any:
        """What lowers a function."""
        return _KernelLower
