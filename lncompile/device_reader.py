"""From CuPy's arrays to their pointers, with all checks, as quick as Python does it.

What is read of arrays takes most of the time of a call on a device: 20 to 100 ns an attribute. So each is
read once, by functions that are written out for the arrays in question: a loop over them takes half as long
again::

    def read(x, w, y):
        if not (type(x) is type(w) is type(y) is ndarray):
            return refusal
        x_data = x.data
        ...
        number = x_data.device_id
        ready = thread.known.get((x.shape, number))
        if ready is None or number != current_device():
            return refusal
        shapes = ready.shapes
        if not (w.ndim == 1 and w.size == shapes[1][0] and ... and y_data.device_id == number):
            return refusal
        x_pointer = x_data.ptr
        ...
        pointers = (x_pointer, w_pointer, y_pointer, )
        if not ((x_pointer | w_pointer | y_pointer) % 16 == 0):
            return refusal
        return ready, pointers

Where there is one device alone, what compares numbers of devices is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lncompile.axes import ELLIPSIS
from lncompile.backends.cuda.device import CuPy
from lncompile.device_arrays import ALIGNMENT
from lncompile.device_runner import PhaseRunner
from lncompile.dtypes import TABLE
from lncompile.interface import Buffer, Role

#: Lines that find what is ready for the first of all arrays; the same where there is one device alone.
_FIND = (
    "number = a0_data.device_id",
    "ready = thread.known.get((a0.shape, number))",
    "if ready is None or number != current_device():",
    "    return refusal",
)
_FIND_ALONE = ("ready = thread.known.get((a0.shape, 0))", "if ready is None:", "    return refusal")


def launcher(runner: PhaseRunner, cupy: CuPy) -> Callable[..., Any]:
    """A function of a forward's arguments and outputs that launches it: None, or NotImplemented.

    It does not accept where nothing is ready for the first array's shape and device, where that is not the
    current device, where an array is not one that the code can access, or where outputs overlap something.
    Nothing is saved for the backward.
    """
    ending = (
        "if pointers not in ready.in_place and not fit(ready, pointers, in_place=True):",
        "    return refusal",
        "launch(ready, pointers + not_saved, keep=True)",
    )
    buffers = [buffer for buffer in runner.buffers if buffer.role != "saved"]
    names = {
        "thread": runner.thread,
        "fit": runner.fit,
        "launch": runner.launch,
        "not_saved": (0,) * (len(runner.buffers) - len(buffers)),
        "refusal": NotImplemented,
    }
    return _written((), _find(cupy), buffers, 0, ending, cupy, names)


def finder(runner: PhaseRunner, cupy: CuPy) -> Callable[..., Any]:
    """A function of a forward's arguments and outputs: what is ready for them, and their pointers, or None.

    None is what it gives where a :func:`launcher` does not accept; but overlaps are not looked for.
    """
    buffers = [buffer for buffer in runner.buffers if buffer.role != "saved"]
    names = {"thread": runner.thread, "refusal": None}
    return _written((), _find(cupy), buffers, 0, ("return ready, pointers",), cupy, names)


def reader(runner: PhaseRunner, role: Role, cupy: CuPy) -> Callable[..., Any]:
    """A function ``read(ready, *arrays)``: the pointers of the arrays of a role, or None.

    None is what it gives where an array is not one that the code can access, on the device of ``ready``.
    """
    places = [at for at, buffer in enumerate(runner.buffers) if buffer.role == role]
    buffers = runner.buffers[places[0] : places[-1] + 1]
    find = ("number = ready.key[1]",)
    return _written(("ready",), find, buffers, places[0], ("return pointers",), cupy, {"refusal": None})


def _find(cupy: CuPy) -> Sequence[str]:
    return _FIND if cupy.devices > 1 else _FIND_ALONE


def _written(
    given: Sequence[str],
    found: Sequence[str],
    buffers: Sequence[Buffer],
    first: int,
    ending: Sequence[str],
    cupy: CuPy,
    names: dict[str, Any],
) -> Callable[..., Any]:
    """The function of what is ``given`` and of arrays for ``buffers``, which ``first`` others precede.

    The lines ``found`` define ready and number, those of ``ending`` use ready and pointers.
    """
    arrays = [f"a{at}" for at in range(len(buffers))]
    absent = [buffer.role == "absent" for buffer in buffers]
    there = [(name, at) for at, name in enumerate(arrays) if not absent[at]]
    # An attribute of CuPy's own, read in a tenth of the time of its flags.
    contiguous = "_c_contiguous" if hasattr(cupy.array, "_c_contiguous") else "flags.c_contiguous"
    fitting = [
        # What is ready has been found by the first one's shape.
        *(_has_shape(name, buffers[at], first + at) for name, at in there if first + at),
        *(_has_dtype(name, buffers[at].dtype) for name, at in there),
        *(f"{name}.{contiguous}" for name, _ in there),
    ]
    if cupy.devices > 1:
        fitting += [f"{name}_data.device_id == number" for name, _ in there]
    pointers = ["0" if absent[at] else f"{name}_pointer" for at, name in enumerate(arrays)]
    lines = [
        *_unless(" is ".join([*(f"type({name})" for name, _ in there), "ndarray"])),
        *(line for at, name in enumerate(arrays) if absent[at] for line in _unless(f"{name} is None")),
        *(f"{name}_data = {name}.data" for name, _ in there),
        *found,
        "shapes = ready.shapes",
        *_unless(" and ".join(fitting)),
        *(f"{name}_pointer = {name}_data.ptr" for name, _ in there),
        f"pointers = ({''.join(pointer + ', ' for pointer in pointers)})",
        *_unless(f"({' | '.join(f'{name}_pointer' for name, _ in there)}) % {ALIGNMENT} == 0"),
        *ending,
    ]
    text = "\n    ".join([f"def read({', '.join([*given, *arrays])}):", *lines])
    names |= {buffers[at].dtype: np.dtype(TABLE[buffers[at].dtype].numpy) for _, at in there}
    names |= {"ndarray": cupy.array, "current_device": cupy.current_device}
    exec(text, names)
    read: Callable[..., Any] = names["read"]
    return read


def _has_shape(name: str, buffer: Buffer, at: int) -> str:
    """The condition that an array has the shape of the buffer at this place of the phase."""
    if len(buffer.dims) == 1 and buffer.dims[0] != ELLIPSIS:
        # Two numbers, where a shape is a new tuple.
        return f"{name}.ndim == 1 and {name}.size == shapes[{at}][0]"
    return f"{name}.shape == shapes[{at}]"


def _has_dtype(name: str, dtype: str) -> str:
    # The same object but where an array has come from elsewhere.
    return f"({name}.dtype is {dtype} or {name}.dtype == {dtype})"


def _unless(condition: str) -> list[str]:
    return [f"if not ({condition}):", "    return refusal"]
