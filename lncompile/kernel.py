"""A compiled specialization: runs the phases of one library on NumPy arrays.

Nothing of the compiler is imported here, so that a cached kernel is called without it. Each way to call a
kernel exists twice. The quick one (``try_...``) makes the results and hands everything to the native entry
point; whatever that does not accept takes the thorough one, which checks, converts, computes and copies back.
"""

from __future__ import annotations

import ctypes
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile import interface, memory
from lncompile.backends.cpu.calls import PhaseRunner, may_coincide
from lncompile.buffers import Allocate, allocator, shape_of, with_role
from lncompile.dtypes import TABLE
from lncompile.errors import LncTypeError
from lncompile.interface import Buffer, Interface, Phase

Array = arr.Array


class Runner(Protocol):
    """What executes a phase: ``PhaseRunner``, or a stand-in where there is no library to call."""

    entry: Callable[..., object]

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Execute the phase on arrays that fit it, one for each buffer."""


@cache
def gradients_of(name: str, arguments: tuple[str, ...]) -> Any:
    """A class of named tuples that can be pickled, though it is no module's."""

    def reduced(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _made_again, (name, arguments, tuple(values))

    return type(name, (namedtuple(name, arguments),), {"__slots__": (), "__reduce__": reduced})


def _made_again(name: str, arguments: tuple[str, ...], values: Sequence[Any]) -> Any:
    return gradients_of(name, arguments)._make(values)


class Signature:
    """How a norm is called: its array arguments in order, the dimensions of each, which may be left out."""

    def __init__(
        self,
        name: str,
        pattern: ax.Pattern,
        arguments: tuple[str, ...],
        dims: tuple[tuple[ax.Dim, ...], ...],
        optional: frozenset[str],
    ) -> None:
        self.name = name
        self.pattern = pattern
        self.arguments = arguments
        self.dims = dims
        self.optional = optional

    @cached_property
    def gradients(self) -> Any:
        """The named tuple of gradients, one field an array argument."""
        name = f"{self.name}_gradients"
        return gradients_of(name if name.isidentifier() else "gradients", self.arguments)

    def checked(self, values: Sequence[object]) -> list[Array | None]:
        """The arguments as arrays of supported dtypes, None for those that are left out."""
        # One array on a device, and all of them have to be.
        access = access_to(next(filter(is_on_device, values), None))
        return [
            None if value is None and name in self.optional else access.checked(name, value)
            for name, value in zip(self.arguments, values, strict=True)
        ]

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
    """What a forward keeps for the backward: the arrays it was given and the statistics it saved.

    The arrays are not copied (unless ``out`` wrote over them): to change them before the backward
    changes the gradients. A context is copied and pickled with its arrays, and with the norm by its name.
    """

    __slots__ = ("inputs", "kernel", "saved")

    def __init__(
        self, kernel: Any, inputs: tuple[Array | None, ...], saved: tuple[Array | None, ...]
    ) -> None:
        self.kernel = kernel
        self.inputs = inputs
        self.saved = saved

    def __reduce__(self) -> tuple[Any, ...]:
        return _context_again, (self.kernel, self.inputs, self.saved)

    def __repr__(self) -> str:
        kept = ", ".join(buffer.name for buffer in with_role(self.kernel.interface.forward, "saved"))
        return f"<context of {self.kernel.signature.name}, keeping {kept or 'nothing but its inputs'}>"


def _context_again(kernel: Any, inputs: Sequence[Array | None], saved: Sequence[Array | None]) -> Context:
    # What was pickled outside of the stream may lie anywhere.
    return Context(kernel, tuple(map(_canonical, inputs)), tuple(map(_canonical, saved)))


class Remade:
    """A kernel as one of a kind in its process: copied as itself, and pickled as what makes it."""

    signature: Signature
    #: A function and its arguments that give the kernel in any process.
    made_by: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    def __deepcopy__(self, _: object) -> Any:
        return self

    def __copy__(self) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.made_by is None:
            raise LncTypeError(
                f"{self.signature.name}: expected a kernel of a norm to pickle; got one that lnc.load gave, "
                "which has no norm"
            )
        return self.made_by


class Kernel(Remade):
    """One library, its interface, and how its norm is called.

    For callers in a hurry there is ``new(x)``, the outputs for a first argument x (a tuple if ``count`` is
    not -1); ``entry(*arguments, *outputs)``, which returns None if it accepts; and ``into``, the same for
    kernels with one bare output alone.
    """

    #: Where the arrays are that it takes.
    places = ("cpu",)

    def __init__(
        self,
        signature: Signature,
        offered: Interface,
        target: str,
        returns_tuple: bool,
        forward_runner: Runner,
        backward_runner: Runner,
        stages: Mapping[str, str],
    ) -> None:
        self.signature = signature
        self.interface = offered
        self.target = target
        self.returns_tuple = returns_tuple
        self.forward_runner = forward_runner
        self.backward_runner = backward_runner
        self.stages = stages

        phase = offered.forward
        self._outputs = with_role(phase, "output")
        self._saved = with_role(phase, "saved")
        self._after_outputs = allocator(
            phase, [None if b.role == "saved" else b for b in with_role(phase, "saved", "workspace")]
        )
        self._kept = allocator(phase, with_role(phase, "saved", "workspace"))
        self.new = allocator(phase, self._outputs, single=not returns_tuple)
        self.count = len(self._outputs) if returns_tuple else -1
        self.entry = forward_runner.entry
        if with_role(phase, "workspace"):
            self.entry = self._entry_with_workspaces
        self.into: Callable[..., object] = refuse if returns_tuple else self.entry

        phase = offered.backward
        self._cotangents = with_role(phase, "cotangent")
        self._gradients = with_role(phase, "gradient")
        # The gradient of each argument among the new arrays; for one that was left out, the None behind them.
        of = [buffer.of or "" for buffer in self._gradients]
        self._in_order = _picker([of.index(name) if name in of else -1 for name in signature.arguments])
        self._in_buffers_order = _picker([signature.arguments.index(name) for name in of])
        self._absent = [at for at, name in enumerate(signature.arguments) if name not in of]
        self._new_gradients = allocator(phase, with_role(phase, "gradient", "workspace"))
        self._workspaces = allocator(phase, with_role(phase, "workspace"))

    # The quick ways: where the native entry point does not accept, NotImplemented from a call, else None.

    def try_call(self, values: tuple[object, ...], out: object) -> Any:
        """The outputs, or NotImplemented."""
        made = self.new(values[0]) if out is None else out
        if isinstance(made, tuple):
            accepted = len(made) == self.count and self.entry(*values, *made) is None
        else:
            accepted = self.into(*values, made) is None
        return made if accepted else NotImplemented

    def try_forward(self, values: tuple[Any, ...], out: object) -> tuple[Any, Context] | None:
        """The outputs and the context."""
        outputs = self.new(values[0]) if out is None else out
        kept = self._kept(values[0])
        written = outputs if self.returns_tuple else (outputs,)
        if kept is None or not isinstance(written, tuple) or len(written) != len(self._outputs):
            return None
        if out is not None and _may_overlap(written, values):
            return None
        if self.forward_runner.entry(*values, *written, *kept) is not None:
            return None
        return outputs, Context(self, values, kept[: len(self._saved)])

    def try_backward(self, dy: object, ctx: Context, out: object) -> Any:
        """The gradients."""
        entering = dy if self.returns_tuple else (dy,)
        x = ctx.inputs[0]
        if out is None:
            written = self._new_gradients(x)
        elif isinstance(out, tuple) and len(out) == len(ctx.inputs) and self._none_for_absent(out):
            written = (*self._in_buffers_order(out), *self._workspaces(x))
        else:
            return None
        if written is None or not isinstance(entering, tuple):
            return None
        if self.returns_tuple and any(array is None for array in entering):
            entering = self._with_zeros(entering, x)
        if self.backward_runner.entry(*ctx.inputs, *entering, *ctx.saved, *written) is not None:
            return None
        return self._named(written) if out is None else out

    def _with_zeros(self, entering: tuple[Any, ...], x: object) -> tuple[Any, ...]:
        """Zeros in the place of each None: nothing comes in through that output."""
        if len(entering) != len(self._cotangents):
            return entering
        pairs = zip(entering, self._zeros, strict=True)
        return tuple(zeros(x) if array is None else array for array, zeros in pairs)

    @cached_property
    def _zeros(self) -> list[Allocate]:
        """For each incoming gradient what makes one of zeros, from the first argument."""
        phase = self.interface.backward
        return [allocator(phase, [buffer], single=True, zeros=True) for buffer in self._cotangents]

    def _none_for_absent(self, out: Sequence[object]) -> bool:
        return not self._absent or all(out[at] is None for at in self._absent)

    def _entry_with_workspaces(self, *arrays: object) -> object:
        rest = self._after_outputs(arrays[0])
        return NotImplemented if rest is None else self.forward_runner.entry(*arrays, *rest)

    # The thorough ways

    def call(self, values: Sequence[Array | None], out: object = None) -> Any:
        """The outputs for checked arguments, in new arrays or in ``out``."""
        inputs = [_canonical(value) for value in values]
        if out is None:
            targets = made = _as_tuple(self.new(inputs[0]))
            out = made if self.returns_tuple else made[0]
        else:
            targets = self._targets(out, values)
            made = self._direct(self.interface.forward, self._outputs, targets, inputs)
        self.forward_runner.run([*inputs, *made, *self._after_outputs(inputs[0])])
        _copy_back(made, targets)
        return out

    def forward(self, values: Sequence[Array | None], out: object = None) -> tuple[Any, Context]:
        """The outputs, and the context for :meth:`backward`."""
        inputs = [_canonical(value) for value in values]
        if out is None:
            targets = made = _as_tuple(self.new(inputs[0]))
            out = made if self.returns_tuple else made[0]
        else:
            targets = self._targets(out, values)
            # The backward reads the inputs again: those that are written over are kept as copies.
            inputs = [
                a.copy() if a is not None and any(arr.overlap(a, target) for target in targets) else a
                for a in inputs
            ]
            made = self._direct(self.interface.forward, self._outputs, targets, inputs)
        kept = self._kept(inputs[0])
        self.forward_runner.run([*inputs, *made, *kept])
        _copy_back(made, targets)
        return out, Context(self, tuple(inputs), kept[: len(self._saved)])

    def backward(self, dy: object, ctx: Context, out: object = None) -> Any:
        """The gradients of all arguments that were given, as a named tuple."""
        x = ctx.inputs[0]
        assert x is not None, "the first argument is never optional"
        entering = self._entering(dy, x)
        head = [*ctx.inputs, *entering, *ctx.saved]
        if out is None:
            made = self._new_gradients(x)
            self.backward_runner.run([*head, *made])
            return self._named(made)
        targets = self._gradient_targets(out, ctx, entering)
        direct = self._direct(self.interface.backward, self._gradients, targets, head)
        self.backward_runner.run([*head, *direct, *self._workspaces(x)])
        _copy_back(direct, targets)
        return out

    # Cotangents

    def _entering(self, dy: object, x: Array) -> list[Array]:
        """The incoming gradients as the kernel reads them; zeros where none comes in through an output."""
        given = dy if self.returns_tuple else (dy,)
        if not isinstance(given, tuple | list) or len(given) != len(self._cotangents):
            names = ", ".join(buffer.of or buffer.name for buffer in self._cotangents)
            raise LncTypeError(
                f"dy: expected a tuple of {len(self._cotangents)} arrays or None, one for each output "
                f"({names}); got {arr.described(dy)}"
            )
        entering = []
        for index, (value, buffer) in enumerate(zip(given, self._cotangents, strict=True)):
            shape = shape_of(buffer, self.interface.backward.buffers[0], x.shape)
            if value is None and self.returns_tuple:
                entering.append(np.zeros(shape, TABLE[buffer.dtype].numpy))
                continue
            name = f"dy[{index}]" if self.returns_tuple else "dy"
            array = arr.checked(name, value)
            arr.check_like(name, array, shape, buffer.dtype, "that of the output")
            entering.append(arr.canonical(array))
        return entering

    def _named(self, made: Sequence[Array]) -> Any:
        """Gradients in the buffers' order as the named tuple, None for an argument that was left out."""
        return self.signature.gradients._make(self._in_order((*made, None)))

    # Arrays to write to

    def _targets(self, out: object, values: Sequence[Array | None]) -> list[Array]:
        """The arrays of ``out``, checked."""
        count = len(self._outputs)
        given = out if self.returns_tuple else (out,)
        if not isinstance(given, tuple | list) or len(given) != count:
            raise LncTypeError(f"out: expected a tuple of {count} arrays; got {arr.described(out)}")
        names = [f"out[{index}]" for index in range(count)] if self.returns_tuple else ["out"]
        x = values[0]
        assert x is not None, "the first argument is never optional"
        first = self.interface.forward.buffers[0]
        targets = [
            arr.check_output(name, array, shape_of(buffer, first, x.shape), buffer.dtype)
            for name, array, buffer in zip(names, given, self._outputs, strict=True)
        ]
        arr.check_distinct(zip(names, targets, strict=True), self._reads(values))
        return targets

    def _gradient_targets(self, out: object, ctx: Context, entering: Sequence[Array]) -> list[Array]:
        """The arrays of an earlier result, or of a tuple in that order, checked."""
        arguments = self.signature.arguments
        if not isinstance(out, tuple | list) or len(out) != len(arguments):
            raise LncTypeError(
                f"out: expected a tuple of {len(arguments)} gradients ({', '.join(arguments)}); "
                f"got {arr.described(out)}"
            )
        by_name = dict(zip(arguments, out, strict=True))
        for name, value in zip(arguments, ctx.inputs, strict=True):
            if value is None and by_name[name] is not None:
                raise LncTypeError(
                    f"out.{name}: expected None, since {name} was left out and has no gradient; "
                    f"got {arr.described(by_name[name])}"
                )
        targets = []
        for buffer in self._gradients:
            of = ctx.inputs[arguments.index(buffer.of or "")]
            assert of is not None, "only arguments that are present have gradients"
            targets.append(
                arr.check_output(f"out.{buffer.of}", by_name[buffer.of or ""], of.shape, buffer.dtype)
            )
        names = [f"out.{buffer.of}" for buffer in self._gradients]
        reads = self._reads(ctx.inputs)
        reads += [(buffer.name, array) for buffer, array in zip(self._cotangents, entering, strict=True)]
        reads += [("ctx", array) for array in ctx.saved if array is not None]
        arr.check_distinct(zip(names, targets, strict=True), reads)
        return targets

    def _reads(self, values: Sequence[Array | None]) -> list[tuple[str, Array]]:
        named = zip(self.signature.arguments, values, strict=True)
        return [(name, value) for name, value in named if value is not None]

    def _direct(
        self,
        phase: Phase,
        buffers: Sequence[Buffer],
        targets: Sequence[Array],
        reads: Sequence[Array | None],
    ) -> list[Array]:
        """For each target the array to compute into: the target itself if the kernel can write there."""
        direct = []
        for buffer, target in zip(buffers, targets, strict=True):
            plain = target if type(target) is np.ndarray else target.view(np.ndarray)
            spoils = any(
                array is not None
                and np.may_share_memory(plain, array)
                and not may_coincide(phase, buffer, read)
                for read, array in zip(phase.buffers, reads, strict=False)
            )
            if spoils or not plain.flags.carray or not plain.dtype.isnative:
                plain = memory.empty(target.shape, TABLE[buffer.dtype].numpy)
            direct.append(plain)
        return direct


def is_on_device(value: object) -> bool:
    """Whether a value may be an array of a device; arrays of NumPy's, the most frequent, are told at once."""
    if value is None or isinstance(value, np.ndarray):
        return False
    from lncompile import device_arrays

    return device_arrays.is_on_device(value)


def access_to(value: object) -> Any:
    """The checks and allocations for arrays where ``value`` is: of NumPy's, or on a device."""
    if is_on_device(value):
        from lncompile import device_arrays

        return device_arrays
    return arr


def target_of(arrays: Sequence[Any]) -> str:
    """The target whose code works where these arrays are."""
    if isinstance(arrays[0], np.ndarray):
        return "cpu"
    from lncompile.device_arrays import target_of as of_device

    return of_device(arrays[0])


def refuse(*_: object) -> object:
    """An entry that accepts nothing."""
    return NotImplemented


def load(
    signature: Signature, library: ctypes.CDLL, meta: Mapping[str, Any], stages: Mapping[str, str]
) -> Kernel:
    """The kernel of a library that was opened, from what its builder noted about it."""
    offered = interface.from_json(meta["interface"])
    runners = PhaseRunner(library, offered.forward), PhaseRunner(library, offered.backward)
    return Kernel(signature, offered, meta["target"], meta["returns_tuple"], *runners, stages)


def _may_overlap(written: Sequence[object], read: Sequence[object]) -> bool:
    """Whether the bounds of what is written to and what is read overlap, or something is no array."""
    given = [value for value in read if value is not None]
    if not all(isinstance(value, np.ndarray) for value in (*written, *given)):
        return True
    return any(np.may_share_memory(a, b) for a in written for b in given)


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that gives the elements of a sequence at these places as a tuple."""
    return itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)


def _as_tuple(made: Any) -> Sequence[Array]:
    return made if isinstance(made, tuple) else (made,)


def _canonical(value: Array | None) -> Array | None:
    return None if value is None else arr.canonical(value)


def _copy_back(computed: Sequence[Array], targets: Sequence[Array]) -> None:
    for array, target in zip(computed, targets, strict=True):
        if array is not target and not arr.same_place(array, target):
            np.copyto(target, array)
