"""``lnc.compile``: one kernel for one specialization, made before the first call."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lncompile.backends.cuda.target import is_cuda
from lncompile.fixed import Candidate, Fixed
from lncompile.interface import Interface
from lncompile.kernel import Context
from lncompile.norm import dispatcher_of, wrapped
from lncompile.requested import requested


class CompiledKernel(Protocol):
    """What :func:`compile` returns: a callable for the features, dtypes and constants that it was made for.

    Any number of rows is accepted. Norms and contexts can be pickled, this cannot: compile again where it is
    needed, which finds the kernel in the cache.
    """

    stages: Mapping[str, str]
    target: str
    interface: Interface

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        """The output for arrays that fit; ``LncError`` for others."""

    def forward(self, *arrays: Any, out: Any = None) -> tuple[Any, Context]:
        """The output, and the context that :meth:`backward` needs."""

    def backward(self, dy: Any, ctx: Context, out: Any = None) -> Any:
        """The gradients as a named tuple."""

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the kernel to ``directory`` as ``lncompile build`` does; ``lnc.load`` gives it back.

        An earlier build there is replaced. Raises ``LncError`` where a file in the way is not of one, and
        ``OSError`` where the directory cannot be written.
        """


def compile(
    norm: Any,
    *,
    shape: Sequence[int],
    dtype: Any = "float32",
    target: str = "cpu",
    out_dtype: Any = None,
    **options: Any,
) -> CompiledKernel:
    """Compile ``norm`` for arrays like a first argument of ``shape``.

    ``dtype`` is one dtype for all arguments or a mapping by argument name, in which None leaves an optional
    argument out and those not mentioned have the first argument's; ``out_dtype`` is that of the outputs, else
    the first argument's. ``options`` are the equation's constants and the sizes of split axes. Batch sizes in
    ``shape`` do not matter. ``target``: ``cpu`` is this machine, ``cuda`` the current device.

    Raises ``LncError`` naming what does not fit. Kernels for another CPU can be inspected (``stages``) and
    saved, not called. Those for CUDA are made without a device; ``launches`` and ``buffers`` tell what they
    launch for ``shape``, and what they save has the same code in files ending in ``.cubin``.
    """
    dispatcher = dispatcher_of(norm)
    special, sizes = requested(dispatcher, shape, dtype, target, out_dtype, options)
    kernel = dispatcher.compiled(special)
    candidate = Candidate(special._replace(target=kernel.target), kernel.places, lambda: kernel)
    fixed = Fixed(dispatcher.equation, dispatcher.signature, [candidate])
    call = wrapped(fixed)
    call.__doc__ = dispatcher.equation.function.__doc__
    call.__name__, call.__module__ = dispatcher.equation.name, __name__
    # Nothing leads to it by this name: an attempt to pickle it says what it was.
    call.__qualname__ = f"compile({call.__name__})"
    call.stages, call.target, call.interface = kernel.stages, kernel.target, kernel.interface
    if is_cuda(target):
        from lncompile.device_kernel import DeviceKernel

        assert isinstance(kernel, DeviceKernel), "a kernel for CUDA is one for a device"
        whole = tuple(map(operator.index, shape))
        call.launches, call.buffers = kernel.launches(whole), kernel.buffers(whole)

    def save(directory: str | os.PathLike[str]) -> None:
        from lncompile.aot.save import save  # compiles

        save(dispatcher, special, sizes, kernel, directory)

    call.save = save
    return call  # type: ignore[no-any-return]
