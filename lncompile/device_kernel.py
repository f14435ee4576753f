"""A specialization compiled for CUDA: runs its phases on CuPy arrays, and tells what it launches.

Nothing of the compiler is imported here, so that a cached kernel is called without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from lncompile import device_arrays as dev
from lncompile import interface
from lncompile.arrays import described as described_value
from lncompile.backends.cpu.calls import may_coincide
from lncompile.backends.cuda import described, device
from lncompile.backends.cuda.packed import Code, unpacked
from lncompile.backends.cuda.target import CudaTarget, places, serving
from lncompile.buffers import batch_sizes, shape_of, with_role
from lncompile.device_quick import NoQuickCalls, QuickCalls, context_of
from lncompile.device_runner import PhaseRunner
from lncompile.dtypes import TABLE
from lncompile.emit.cuda import launches
from lncompile.errors import LncTypeError, LncValueError
from lncompile.interface import Buffer, Phase
from lncompile.kernel import Context, Kernel, Remade, Signature, refuse


class DeviceKernel(Remade):
    """The code of one specialization for CUDA, its interface, and how its norm is called.

    It has the same ways to be called as ``Kernel``, the quick ones in :class:`QuickCalls`.
    """

    def __init__(
        self,
        signature: Signature,
        library: bytes,
        meta: Mapping[str, Any],
        stages: Mapping[str, str],
        target: CudaTarget,
    ) -> None:
        self.signature = signature
        self.interface = interface.from_json(meta["interface"])
        self.target = target.name
        self.returns_tuple: bool = meta["returns_tuple"]
        self.stages = stages
        self.library = library
        self.meta = meta
        self._target = target
        self._codes = unpacked(library, meta["contents"])
        offered = self.interface
        forward, backward = (launches.from_json(meta[phase]) for phase in ("forward", "backward"))
        self._shared = launches.shared_bytes(forward, backward)
        self._forward = PhaseRunner(offered.forward, forward, self._codes)
        self._backward = PhaseRunner(offered.backward, backward, self._codes)
        self._outputs = with_role(offered.forward, "output")
        self._saved = with_role(offered.forward, "saved")
        self._cotangents = with_role(offered.backward, "cotangent")
        self._gradients = with_role(offered.backward, "gradient")

        self.count = len(self._outputs) if self.returns_tuple else -1
        self.into: Callable[..., object] = refuse
        self._offer(NoQuickCalls())

    def _offer(self, quick: NoQuickCalls | QuickCalls) -> None:
        """Have these quick ways from now on."""
        self._quick = quick
        self.new: Callable[[Any], Any] = quick.new
        self.entry: Callable[..., object] = quick.entry
        self.try_call: Callable[..., Any] = quick.try_call
        self.try_forward: Callable[..., tuple[Any, Context] | None] = quick.try_forward
        self.try_backward: Callable[..., Any] = quick.try_backward
        if not self.returns_tuple:
            self.into = quick.entry

    # What is launched

    def launches(self, shape: tuple[int, ...]) -> tuple[described.Launch, ...]:
        """The launches for a first argument of this shape, those of the forward first."""
        phases = (("forward", self._forward), ("backward", self._backward))
        return tuple(
            launch
            for name, runner in phases
            for launch in described.launches(
                name, runner.plan(shape, self._target.multiprocessors), self._codes
            )
        )

    def buffers(self, shape: tuple[int, ...]) -> dict[str, described.Array]:
        """The arrays of both phases for a first argument of this shape."""
        found: dict[str, described.Array] = {}
        for runner in (self._backward, self._forward):
            axes = batch_sizes(runner.phase.buffers[0], shape)
            plan = runner.plan(shape, self._target.multiprocessors)
            # What the forward saves is an input of the backward; the role is the forward's.
            found = described.arrays(runner.phase, plan, axes) | found
        return dict(sorted(found.items(), key=lambda item: _ROLES.index(item[1].role)))

    @property
    def places(self) -> tuple[str, ...]:
        """The targets whose devices run this kernel."""
        return places(self.target, self._shared)

    @property
    def codes(self) -> tuple[Code, ...]:
        """The code of every kernel, those of the forward first."""
        return tuple(self._codes.values())

    # The thorough ways to call a kernel

    def call(self, values: Sequence[Any], out: object = None) -> Any:
        """The outputs for checked arguments, in new arrays or in ``out``."""
        return self._computed(values, out, saves=False)[0]

    def forward(self, values: Sequence[Any], out: object = None) -> tuple[Any, Context]:
        """The outputs, and the context for :meth:`backward`."""
        result, inputs, saved = self._computed(values, out, saves=True)
        return result, context_of(self, inputs, saved)

    def _computed(
        self, values: Sequence[Any], out: object, *, saves: bool
    ) -> tuple[Any, list[Any], list[Any]]:
        number = self._device(values)
        phase, shape = self.interface.forward, values[0].shape
        with device.cupy().cuda.Device(number):
            inputs = [None if value is None else dev.canonical(value) for value in values]
            saved = [self._empty(phase, b, shape) if saves else None for b in self._saved]
            if out is None:
                made = [self._empty(phase, buffer, shape) for buffer in self._outputs]
                self._forward.run([*inputs, *made, *saved], number)
                self._become_quick()
                return (tuple(made) if self.returns_tuple else made[0]), inputs, saved
            targets = self._targets(out, values, number)
            if saves:
                # The backward reads the inputs again: those that are written over are kept as copies.
                inputs = [
                    a.copy() if a is not None and any(dev.overlap(a, t) for t in targets) else a
                    for a in inputs
                ]
            direct = self._direct(phase, self._outputs, targets, inputs)
            self._forward.run([*inputs, *direct, *saved], number, keep=True)
            _copy_back(direct, targets)
        self._become_quick()
        return out, inputs, saved

    def _become_quick(self) -> None:
        """After a call that has found the device and its packages, what repeats it need not."""
        if isinstance(self._quick, NoQuickCalls):
            runners = self._forward, self._backward
            self._offer(QuickCalls(self, self.signature, self.returns_tuple, runners))

    def backward(self, dy: object, ctx: Context, out: object = None) -> Any:
        """The gradients of all arguments that were given, as a named tuple."""
        phase, inputs = self.interface.backward, list[Any](ctx.inputs)
        x = inputs[0]
        number = x.device.id
        with device.cupy().cuda.Device(number):
            head = [*inputs, *self._entering(dy, x.shape, number), *ctx.saved]
            if out is None:
                made = [self._empty(phase, buffer, x.shape) for buffer in self._gradients]
                self._backward.run([*head, *made], number)
                by_name = dict(zip((b.of for b in self._gradients), made, strict=True))
                return self.signature.gradients._make(map(by_name.get, self.signature.arguments))
            targets = self._gradient_targets(out, ctx, head, number)
            direct = self._direct(phase, self._gradients, targets, head)
            self._backward.run([*head, *direct], number, keep=True)
            _copy_back(direct, targets)
        return out

    # Checks

    def _device(self, values: Sequence[Any]) -> int:
        """The device of all arguments, which must run this kernel's code."""
        number = dev.check_device(self._named(values))
        capability = device.info(number).capability
        if not serving(capability).runs(self._target, self._shared):
            raise LncValueError(
                f"target: this kernel was compiled for {self.target}, with {self._shared} bytes of shared "
                f"memory a block; device {number} has compute capability {capability[0]}.{capability[1]}"
            )
        return number

    def _named(self, values: Sequence[Any]) -> list[tuple[str, Any]]:
        named = zip(self.signature.arguments, values, strict=True)
        return [(name, value) for name, value in named if value is not None]

    def _empty(self, phase: Phase, buffer: Buffer, shape: tuple[int, ...]) -> Any:
        return device.cupy().empty(shape_of(buffer, phase.buffers[0], shape), TABLE[buffer.dtype].numpy)

    def _entering(self, dy: object, shape: tuple[int, ...], number: int) -> list[Any]:
        """The incoming gradients as the kernel reads them; zeros where none comes in through an output."""
        given = dy if self.returns_tuple else (dy,)
        if not isinstance(given, tuple | list) or len(given) != len(self._cotangents):
            names = ", ".join(buffer.of or buffer.name for buffer in self._cotangents)
            raise LncTypeError(
                f"dy: expected a tuple of {len(self._cotangents)} arrays or None, one for each output "
                f"({names}); got {described_value(dy)}"
            )
        phase, entering = self.interface.backward, []
        for index, (value, buffer) in enumerate(zip(given, self._cotangents, strict=True)):
            if value is None and self.returns_tuple:
                zeros = self._empty(phase, buffer, shape)
                zeros.fill(0)
                entering.append(zeros)
                continue
            name = f"dy[{index}]" if self.returns_tuple else "dy"
            array = dev.checked(name, value)
            dev.check_like(name, array, shape_of(buffer, phase.buffers[0], shape), buffer.dtype)
            if array.device.id != number:
                raise LncValueError(
                    f"{name}: expected an array on device {number}; got one on {array.device.id}"
                )
            entering.append(dev.canonical(array))
        return entering

    def _targets(self, out: object, values: Sequence[Any], number: int) -> list[Any]:
        """The arrays of ``out``, checked."""
        count = len(self._outputs)
        given = out if self.returns_tuple else (out,)
        if not isinstance(given, tuple | list) or len(given) != count:
            raise LncTypeError(f"out: expected a tuple of {count} arrays; got {described_value(out)}")
        names = [f"out[{index}]" for index in range(count)] if self.returns_tuple else ["out"]
        first, shape = self.interface.forward.buffers[0], values[0].shape
        named = [
            (name, dev.check_output(name, array, shape_of(buffer, first, shape), buffer.dtype))
            for name, array, buffer in zip(names, given, self._outputs, strict=True)
        ]
        return self._distinct(named, self._named(values), number)

    def _gradient_targets(self, out: object, ctx: Context, head: Sequence[Any], number: int) -> list[Any]:
        """The arrays of an earlier result, or of a tuple in that order, checked."""
        arguments = self.signature.arguments
        if not isinstance(out, tuple | list) or len(out) != len(arguments):
            raise LncTypeError(
                f"out: expected a tuple of {len(arguments)} gradients ({', '.join(arguments)})"
            )
        given = dict(zip(arguments, out, strict=True))
        inputs: dict[str, Any] = dict(zip(arguments, ctx.inputs, strict=True))
        for name, value in inputs.items():
            if value is None and given[name] is not None:
                raise LncTypeError(
                    f"out.{name}: expected None, since {name} was left out and has no gradient"
                )
        named = [
            (
                f"out.{b.of}",
                dev.check_output(f"out.{b.of}", given[b.of or ""], inputs[b.of or ""].shape, b.dtype),
            )
            for b in self._gradients
        ]
        reads = [
            (buffer.name, array)
            for buffer, array in zip(self._backward.buffers, head, strict=False)
            if array is not None
        ]
        return self._distinct(named, reads, number)

    @staticmethod
    def _distinct(named: list[tuple[str, Any]], reads: list[tuple[str, Any]], number: int) -> list[Any]:
        for name, array in named:
            if array.device.id != number:
                raise LncValueError(
                    f"{name}: expected an array on device {number}; got one on {array.device.id}"
                )
        dev.check_distinct(named, reads)
        return [array for _, array in named]

    def _direct(
        self, phase: Phase, buffers: Sequence[Buffer], targets: Sequence[Any], reads: Sequence[Any]
    ) -> list[Any]:
        """For each target the array to compute into: the target itself if the kernel can write there."""
        direct = []
        for buffer, target in zip(buffers, targets, strict=True):
            spoils = any(
                array is not None and dev.overlap(target, array) and not may_coincide(phase, buffer, read)
                for read, array in zip(phase.buffers, reads, strict=False)
            )
            direct.append(
                device.cupy().empty(target.shape, target.dtype)
                if spoils or not dev.is_canonical(target)
                else target
            )
        return direct


#: What a norm's calls end in.
AnyKernel: TypeAlias = Kernel | DeviceKernel

#: The order in which buffers are listed.
_ROLES = ("input", "output", "saved", "cotangent", "gradient", "workspace")


def _copy_back(computed: Sequence[Any], targets: Sequence[Any]) -> None:
    for array, target in zip(computed, targets, strict=True):
        if array is not target:
            target[...] = array
