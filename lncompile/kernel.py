"""A compiled specialization: runs the phases of one library on NumPy arrays.

Nothing of the compiler is imported here, so that a cached kernel is called without it.
"""

from __future__ import annotations

import ctypes
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile import interface
from lncompile.backends.cpu.calls import PhaseRunner, match_axes, may_coincide, workspace_elements
from lncompile.dtypes import TABLE
from lncompile.errors import LncTypeError, LncValueError
from lncompile.interface import Buffer, Interface, Phase

Array = arr.Array


@dataclass(frozen=True)
class Signature:
    """How a norm is called: its array arguments in order, the dimensions of each, and which may be left out."""

    name: str
    pattern: ax.Pattern
    arguments: tuple[str, ...]
    dims: tuple[tuple[ax.Dim, ...], ...]
    optional: frozenset[str]

    @cached_property
    def gradients(self) -> Callable[..., Any]:
        """The named tuple of gradients, one field an array argument."""
        return namedtuple(f"{self.name}_gradients", self.arguments)  # type: ignore[misc]

    def checked(self, values: Sequence[object]) -> list[Array | None]:
        """The arguments as arrays of supported dtypes, None for those that are left out."""
        found: list[Array | None] = []
        for name, value in zip(self.arguments, values, strict=True):
            if value is None and name in self.optional:
                found.append(None)
            else:
                found.append(arr.checked(name, value))
        return found

    def solve(self, values: Sequence[Array | None], given: Mapping[str, int]) -> ax.Sizes:
        """The sizes of all axes; ``LncError`` names the argument whose shape does not fit."""
        shapes = {
            name: (dims, value.shape)
            for name, dims, value in zip(self.arguments, self.dims, values, strict=True)
            if value is not None
        }
        for name in given:
            if name not in self.pattern.axes or name == ax.ELLIPSIS:
                raise LncTypeError(f"{self.name}: no parameter and no axis is called {name!r}")
        return ax.solve(shapes, given, self.pattern.axes)


class Context:
    """What a forward keeps for the backward: the arrays it was given and the statistics it saved."""

    __slots__ = ("axes", "inputs", "kernel", "saved")

    def __init__(
        self, kernel: Kernel, inputs: tuple[Array | None, ...], saved: list[Array], axes: dict[str, tuple[int, ...]] | None
    ) -> None:
        self.kernel = kernel
        self.inputs = inputs
        self.saved = saved
        self.axes = axes

    def __repr__(self) -> str:
        kept = ", ".join(b.name for b in self.kernel.interface.forward.buffers if b.role == "saved")
        return f"<context of {self.kernel.signature.name}, keeping {kept or 'nothing but its inputs'}>"


@dataclass(frozen=True, eq=False)
class Kernel:
    """One library, its interface, and how its norm is called."""

    signature: Signature
    interface: Interface
    target: str
    returns_tuple: bool
    forward_runner: PhaseRunner
    backward_runner: PhaseRunner
    stages: Mapping[str, str]

    # Forward

    def call(self, values: Sequence[Array | None], out: object = None) -> Any:
        """The outputs for checked arguments, in new arrays or in ``out``."""
        inputs = self._canonical(values)
        outputs, axes = self._new_outputs(inputs)
        if out is None:
            self.forward_runner.run([*inputs, *outputs])
            return self._returned(outputs)
        self._fill(out, inputs, values, outputs)
        return out

    def forward(self, values: Sequence[Array | None], out: object = None) -> tuple[Any, Context]:
        """The outputs, and the context for :meth:`backward`."""
        inputs = self._canonical(values)
        outputs, axes = self._new_outputs(inputs)
        saved = _new(self._with_role(self.interface.forward, "saved"), axes)
        if out is not None:
            # The backward reads the inputs again: those that ``out`` writes over are kept as copies.
            written = [array for array in _as_tuple(out) if isinstance(array, np.ndarray)]
            inputs = [a.copy() if a is not None and any(arr.overlap(a, w) for w in written) else a for a in inputs]
            self._fill(out, inputs, values, outputs, saved)
        else:
            self.forward_runner.run([*inputs, *outputs, *saved])
        return self._returned(outputs) if out is None else out, Context(self, tuple(inputs), saved, axes)

    def _fill(
        self,
        out: object,
        inputs: list[Array | None],
        values: Sequence[Array | None],
        fresh: list[Array],
        saved: Sequence[Array] = (),
    ) -> None:
        buffers = self._with_role(self.interface.forward, "output")
        targets = self._checked_out(out, [array.shape for array in fresh], buffers)
        given = [(n, v) for n, v in zip(self.signature.arguments, values, strict=True) if v is not None]
        names = self._out_names(len(targets))
        arr.check_distinct(list(zip(names, targets, strict=True)), given)
        direct = [
            target if _writable_in_place(target) and not self._spoils(self.interface.forward, buffer, target, inputs) else new
            for target, new, buffer in zip(targets, fresh, buffers, strict=True)
        ]
        self.forward_runner.run([*inputs, *direct, *saved])
        _copy_back(direct, targets)

    def _new_outputs(self, inputs: list[Array | None]) -> tuple[list[Array], dict[str, tuple[int, ...]]]:
        phase = self.interface.forward
        axes = match_axes(phase, [*inputs, *[None] * (len(phase.buffers) - len(inputs))])
        assert axes is not None, "the shapes were checked against the signature"
        return _new(self._with_role(phase, "output"), axes), axes

    def _returned(self, outputs: Sequence[Array]) -> Any:
        return tuple(outputs) if self.returns_tuple else outputs[0]

    # Backward

    def backward(self, cotangents: object, ctx: Context, out: object = None) -> Any:
        """The gradients of all arguments that were given, as a named tuple."""
        phase = self.interface.backward
        axes = ctx.axes
        if axes is None:
            _, axes = self._new_outputs(list(ctx.inputs))
        incoming = self._checked_cotangents(cotangents, axes)
        # An array for each gradient, in the order of the arguments that were given.
        buffers = self._with_role(phase, "gradient")
        given = [name for name, value in zip(self.signature.arguments, ctx.inputs, strict=True) if value is not None]
        sizes = {
            size.name: size.factor * int(np.prod([n for axis in size.axes for n in axes[axis]], dtype=np.int64))
            for size in phase.sizes
        }
        work = [
            np.empty(workspace_elements(buffer, sizes), TABLE[buffer.dtype].numpy)
            for buffer in self._with_role(phase, "workspace")
        ]
        head = [*ctx.inputs, *incoming, *ctx.saved]
        if out is None:
            gradients = _new(buffers, axes)
            self.backward_runner.run([*head, *gradients, *work])
            by_name = dict(zip(given, gradients, strict=True))
            return self.signature.gradients(*(by_name.get(name) for name in self.signature.arguments))
        targets = self._checked_gradients(out, given, buffers, axes)
        named = list(zip([f"out.{name}" for name in given], targets, strict=True))
        read = [(n, v) for n, v in zip(self.signature.arguments, ctx.inputs, strict=True) if v is not None]
        read += [(self._cotangent_name(index), array) for index, array in enumerate(incoming)]
        arr.check_distinct(named, read + [("ctx", array) for array in ctx.saved])
        fresh = [
            target if _writable_in_place(target) and not self._spoils(phase, buffer, target, head) else None
            for target, buffer in zip(targets, buffers, strict=True)
        ]
        direct = [
            target if target is not None else _new([buffer], axes)[0] for target, buffer in zip(fresh, buffers, strict=True)
        ]
        self.backward_runner.run([*head, *direct, *work])
        _copy_back(direct, targets)
        return out

    def _checked_cotangents(self, cotangents: object, axes: dict[str, tuple[int, ...]]) -> list[Array]:
        buffers = self._with_role(self.interface.backward, "cotangent")
        given = cotangents if self.returns_tuple else (cotangents,)
        if not isinstance(given, tuple | list) or len(given) != len(buffers):
            names = ", ".join(b.name for b in buffers)
            raise LncTypeError(f"dy: expected a tuple of {len(buffers)} arrays or None ({names}); got {cotangents!r}")
        found = []
        for index, (value, buffer) in enumerate(zip(given, buffers, strict=True)):
            name = self._cotangent_name(index)
            shape = _shape(buffer, axes)
            if value is None and self.returns_tuple:
                # No gradient comes in through this output.
                found.append(np.zeros(shape, TABLE[buffer.dtype].numpy))
                continue
            array = arr.checked(name, value)
            if arr.dtype_name(name, array) != buffer.dtype:
                raise LncTypeError(f"{name}: expected dtype {buffer.dtype}, that of the output; got {array.dtype}")
            if array.shape != shape:
                raise LncValueError(f"{name}: expected shape {shape}, that of the output; got {array.shape}")
            found.append(arr.canonical(array))
        return found

    def _cotangent_name(self, index: int) -> str:
        return f"dy[{index}]" if self.returns_tuple else "dy"

    def _checked_gradients(
        self, out: object, given: list[str], buffers: list[Buffer], axes: dict[str, tuple[int, ...]]
    ) -> list[Array]:
        """The arrays of an earlier result, or of a tuple in that order; None is allowed where there is no gradient."""
        if not isinstance(out, tuple | list) or len(out) != len(self.signature.arguments):
            fields = ", ".join(self.signature.arguments)
            raise LncTypeError(f"out: expected a tuple of {len(self.signature.arguments)} gradients ({fields}); got {out!r}")
        by_name = dict(zip(self.signature.arguments, out, strict=True))
        return [
            arr.check_output(f"out.{name}", by_name[name], _shape(buffer, axes), buffer.dtype)
            for name, buffer in zip(given, buffers, strict=True)
        ]

    # Shared

    def _canonical(self, values: Sequence[Array | None]) -> list[Array | None]:
        return [None if value is None else arr.canonical(value) for value in values]

    def _with_role(self, phase: Phase, role: str) -> list[Buffer]:
        return [buffer for buffer in phase.buffers if buffer.role == role]

    def _out_names(self, count: int) -> list[str]:
        return [f"out[{index}]" for index in range(count)] if self.returns_tuple else ["out"]

    def _checked_out(self, out: object, shapes: list[tuple[int, ...]], buffers: list[Buffer]) -> list[Array]:
        given = _as_tuple(out) if self.returns_tuple else (out,)
        if len(given) != len(buffers):
            raise LncTypeError(f"out: expected a tuple of {len(buffers)} arrays; got {out!r}")
        return [
            arr.check_output(name, array, shape, buffer.dtype)
            for name, array, shape, buffer in zip(self._out_names(len(given)), given, shapes, buffers, strict=True)
        ]

    def _spoils(self, phase: Phase, written: Buffer, target: Array, inputs: Sequence[Array | None]) -> bool:
        """Whether writing to ``target`` would change an input that the kernel has yet to read."""
        return any(
            array is not None and np.may_share_memory(target, array) and not may_coincide(phase, written, buffer)
            for buffer, array in zip(phase.buffers, inputs, strict=False)
        )


def load(
    signature: Signature, library: ctypes.CDLL, meta: Mapping[str, Any], stages: Mapping[str, str]
) -> Kernel:
    """The kernel of a library that was opened, from what its builder noted about it."""
    offered = interface.from_json(meta["interface"])
    return Kernel(
        signature,
        offered,
        meta["target"],
        meta["returns_tuple"],
        PhaseRunner(library, offered.forward),
        PhaseRunner(library, offered.backward),
        stages,
    )


class LazyStages(Mapping[str, str]):
    """Stage name -> text, each made when it is asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[str], str]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> str:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _as_tuple(out: object) -> tuple[object, ...]:
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def _shape(buffer: Buffer, axes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(size for dim in buffer.dims for size in ((dim,) if isinstance(dim, int) else axes[dim]))


def _new(buffers: Sequence[Buffer], axes: dict[str, tuple[int, ...]]) -> list[Array]:
    return [np.empty(_shape(buffer, axes), TABLE[buffer.dtype].numpy) for buffer in buffers]


def _writable_in_place(array: Array) -> bool:
    return type(array) is np.ndarray and array.flags.carray and array.dtype.isnative


def _copy_back(computed: Sequence[Array], targets: Sequence[Array]) -> None:
    for array, target in zip(computed, targets, strict=True):
        if array is not target:
            np.copyto(target, array)
