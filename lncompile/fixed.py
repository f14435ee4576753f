"""Callables over kernels that exist already: nothing is compiled for a call that none of them fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile.backends.cuda.target import is_cuda
from lncompile.equation import Equation
from lncompile.errors import LncError, LncTypeError, LncValueError
from lncompile.kernel import Signature, target_of
from lncompile.norm import Dispatcher
from lncompile.specialization import Specialization
from lncompile.specialize import compiling

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel


class Candidate:
    """A kernel that may serve: what it was compiled for, and the kernel, opened on first use.

    Its arrays are in one of ``places``: ``cpu``, or devices that run the code of a target of that name.
    """

    def __init__(self, special: Specialization, places: Sequence[str], load: Callable[[], AnyKernel]) -> None:
        self.special = special
        self.places = places
        self._load = load
        self.opened: AnyKernel | None = None

    @property
    def kernel(self) -> AnyKernel:
        """The kernel, the same for all threads; ``LncError`` where it cannot be loaded."""
        if self.opened is None:
            with compiling():
                if self.opened is None:
                    self.opened = self._load()
        return self.opened


class Fixed(Dispatcher):
    """A dispatcher that knows some kernels and compiles nothing."""

    def __init__(self, equation: Equation, signature: Signature, candidates: Sequence[Candidate]) -> None:
        super().__init__(equation)
        self.signature = signature
        self._candidates = candidates
        if len(candidates) == 1:
            self.kernel = candidates[0].kernel

    def knows(self, kernel: AnyKernel) -> bool:
        """Whether ``kernel`` is one of these."""
        return any(candidate.opened is kernel for candidate in self._candidates)

    def kernel_for(
        self, values: tuple[object, ...], options: dict[str, Any]
    ) -> tuple[AnyKernel, list[arr.Array | None]]:
        """The first kernel that the arguments fit; ``LncError`` says why none does."""
        for name in options:
            raise LncTypeError(f"{name}: a compiled kernel takes arrays alone; its constants are compiled in")
        arrays = self.signature.checked(values)
        candidates = self._for_place_of(arrays)
        errors: list[LncError] = []
        for candidate in candidates:
            try:
                self._check_dtypes(candidate.special, arrays)
                self._check_sizes(candidate.special, arrays)
            except LncError as error:
                errors.append(error)
            else:
                return candidate.kernel, arrays
        if len(errors) == 1:
            raise errors[0]
        reasons = "; ".join(dict.fromkeys(str(error) for error in errors))
        raise LncValueError(f"{self.equation.name}: none of the {len(errors)} kernels fits: {reasons}")

    def _for_place_of(self, arrays: Sequence[arr.Array | None]) -> list[Candidate]:
        """The kernels for where the arrays are: NumPy's memory, or devices of one architecture."""
        target = target_of(arrays)
        found = [candidate for candidate in self._candidates if target in candidate.places]
        if found:
            return found
        built = ", ".join(dict.fromkeys(candidate.special.target for candidate in self._candidates))
        came = f"an array on a device that runs {target}" if is_cuda(target) else "an array of NumPy's"
        first = self.signature.arguments[0]
        raise LncTypeError(f"{first}: this kernel was compiled for {built}; got {came}")

    def _check_dtypes(self, special: Specialization, arrays: Sequence[arr.Array | None]) -> None:
        dtypes = dict(special.dtypes)
        for name, array in zip(self.signature.arguments, arrays, strict=True):
            expected = dtypes.get(name)
            if (expected is None) != (array is None):
                was, came = ("without", "an array") if expected is None else ("with", "None")
                raise LncTypeError(f"{name}: this kernel was compiled {was} it; got {came}")
            if array is not None and arr.dtype_name(name, array) != expected:
                raise LncTypeError(f"{name}: this kernel was compiled for {expected}; got {array.dtype}")

    def _check_sizes(self, special: Specialization, arrays: Sequence[arr.Array | None]) -> None:
        compiled = dict(special.sizes)
        solved = self.signature.solve(arrays, {name: compiled[name] for name in self.equation.split})
        first = self.signature.arguments[0]
        for name, size in compiled.items():
            if ax.count(name, solved) != size:
                raise LncValueError(
                    f"{first}: this kernel was compiled for {name} = {size}; got {ax.count(name, solved)}"
                )
        if special.dots and solved[ax.ELLIPSIS] != special.dots:
            raise LncValueError(
                f"{first}: this kernel was compiled for ... = {special.dots}; got {solved[ax.ELLIPSIS]}"
            )
