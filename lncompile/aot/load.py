"""``lnc.load``: kernels from a directory, without a compiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from lncompile.ahead import CompiledKernel
from lncompile.aot.directory import Path, copy
from lncompile.aot.python import equation_of
from lncompile.aot.shelf import Shelf, Shelved
from lncompile.errors import LncValueError
from lncompile.fixed import Candidate, Fixed
from lncompile.norm import wrapped
from lncompile.specialize import signature_of

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel


class Loaded(Mapping[str, CompiledKernel]):
    """The norms of a directory by name: ``loaded["layer_norm"]``, also ``loaded.layer_norm``.

    Each is called like what :func:`lncompile.compile` returns, and picks among its kernels by the dtypes and
    sizes of a call, and by where its arrays are: NumPy's, or CuPy's on a device of some architecture. Where
    there is one norm, the object itself is called like it. It is pickled as the path of its directory.
    """

    def __init__(self, norms: Mapping[str, CompiledKernel], directory: Path) -> None:
        self._norms = norms
        self._directory = directory

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self._directory,)

    def __getitem__(self, name: str) -> CompiledKernel:
        return self._norms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._norms)

    def __len__(self) -> int:
        return len(self._norms)

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not found otherwise.
        norms = self.__dict__.get("_norms", {})
        if name in norms:
            return norms[name]
        if len(norms) == 1:
            (norm,) = norms.values()
            return getattr(norm, name)
        raise AttributeError(f"expected one of {', '.join(norms)}; got {name!r}")

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        """Refuse: there are several norms."""
        raise LncValueError(
            f"name: expected which of {', '.join(self._norms)} to call, as in loaded[name](x)"
        )

    def __repr__(self) -> str:
        return f"<kernels of {', '.join(self._norms)}>"


def load(directory: Path) -> Loaded:
    """The kernels that ``lncompile build``, or ``save`` of a compiled kernel, wrote to ``directory``.

    Neither Numba nor LLVM is needed. Of several CPU targets the one that suits this machine best is taken;
    kernels for CUDA are there whatever the machine, and CuPy is needed when they are called. Raises
    ``LncError`` where a file is missing or altered, where the kernels were built by an lncompile that calls
    them in another way, and where none is for this machine.
    """
    shelf = Shelf(directory)
    by_name: dict[str, list[Shelved]] = {}
    for shelved in shelf.kernels:
        by_name.setdefault(shelved.record["norm"], []).append(shelved)
    norms = {name: _norm(name, shelf, kernels) for name, kernels in by_name.items()}
    if len(norms) > 1:
        return Loaded(norms, shelf.directory)
    # A class of its own whose call is the norm's function: through a method it would take twice as long.
    (norm,) = norms.values()
    called = type("Loaded", (Loaded,), {"__call__": staticmethod(norm), "__doc__": Loaded.__doc__})
    return cast(Loaded, called(norms, shelf.directory))


def _norm(name: str, shelf: Shelf, kernels: list[Shelved]) -> CompiledKernel:
    equation = equation_of(kernels[0].record["python"], name)
    signature = signature_of(equation)

    def candidate(shelved: Shelved) -> Candidate:
        def opened() -> AnyKernel:
            return shelf.open(shelved, signature)

        return Candidate(shelved.special, shelved.places, opened)

    candidates = [candidate(shelved) for shelved in kernels]
    call = wrapped(Fixed(equation, signature, candidates))
    call.__name__ = call.__qualname__ = name
    if len(kernels) == 1:
        kernel = candidates[0].kernel
        call.stages, call.target, call.interface = kernel.stages, kernel.target, kernel.interface
    call.save = lambda directory: copy(shelf.directory, directory)
    return call  # type: ignore[no-any-return]
