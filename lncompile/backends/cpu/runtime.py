"""What compiled code needs of the running process: CPython, NumPy and OpenMP, and the number of threads.

A library has no undefined symbols and no writable data, so everything that it needs of the process is in one
table of 64-bit values that its entry points get as their ``self``. The table holds addresses of objects and
functions, and the sizes of work from which the GIL is released and threads are used.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np

from lncompile.dtypes import TABLE
from lncompile.errors import LncTypeError, LncValueError
from lncompile.integers import integer


class Slot(IntEnum):
    """The places of the table. Cached libraries have them compiled in: a change is a change of the ABI."""

    NDARRAY = 0
    NONE = 1
    NOT_IMPLEMENTED = 2
    SINGLETON_REFERENCE = 3
    SAVE_THREAD = 4
    RESTORE_THREAD = 5
    GIL_RELEASE_ABOVE = 6
    THREADS = 7
    OPENMP_FROM = 8
    PYTHON_THREADS_FROM = 9
    GOMP_PARALLEL = 10
    OMP_GET_THREAD_NUM = 11
    OMP_GET_NUM_THREADS = 12
    BFLOAT16_NUMBER = 13


#: Where the table holds NumPy's numbers of dtypes that differ from process to process.
DTYPE_NUMBERS = {"bfloat16": Slot.BFLOAT16_NUMBER}


# Offsets in bytes into a PyObject, a PyArrayObject and a PyArray_Descr of a 64-bit CPython with a GIL, from
# NumPy's ndarraytypes.h, the same in NumPy 1 and 2. ``self_test`` compares them with the running process.
HEADER = 16
OBJECT_TYPE = 8
ARRAY_DATA = HEADER
ARRAY_NDIM = HEADER + 8
ARRAY_DIMS = HEADER + 16
ARRAY_DESCR = HEADER + 40
ARRAY_FLAGS = HEADER + 48
DESCR_BYTEORDER = HEADER + 10
DESCR_TYPE_NUM = HEADER + 12

#: Flags that every array must have (C-contiguous, aligned), and those of an array that is written to.
READABLE = 0x0001 | 0x0100
WRITABLE = READABLE | 0x0400

# Work is counted in elements, about 0.29 ns each in the forward pass of a layer norm of 1024 features on one
# core: 16 rows take 4.8 µs, 64 rows 19 µs, 256 rows 68 µs. Two OpenMP threads need 6.1, 15 and 43 µs for the
# same, but where the cores have other work, as between NumPy's matrix products, waiting for the second one
# takes 40 µs and more: two threads must save about that.
_GIL_RELEASE_ABOVE = 16 * 1024
SERIAL_BELOW = 256 * 1024
# ThreadPoolExecutor needs 140 to 350 µs to start two tasks and wait for them.
_SERIAL_BELOW_PYTHON = 1024 * 1024

_NEVER = 2**63 - 1

# libgomp ends the process when it cannot start a thread, so a slip of the pen must not reach it.
_MOST_THREADS = 4096

_METH_FASTCALL = 0x80

_table = np.zeros(len(Slot), np.uint64)
_lock = threading.Lock()
_threads: int | None = None
_forked = False


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


# CPython keeps pointers to the definitions of functions, never the definitions themselves.
_definitions: list[_MethodDef] = []


def make_entry(address: int, name: str, doc: str) -> Callable[..., object]:
    """The entry point at ``address`` as a built-in function; call it only if :func:`self_test` holds.

    Args:
        address: of a METH_FASTCALL function, in a library that stays loaded.
        name: its ``__name__``.
        doc: its ``__doc__``.

    Raises:
        LncValueError: the number of threads in the environment is not one.
    """
    get_num_threads()
    _fill_table()
    definition = _MethodDef(name.encode(), address, _METH_FASTCALL, doc.encode())
    _definitions.append(definition)
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    make: Callable[..., Callable[..., object]] = new(("PyCFunction_NewEx", ctypes.pythonapi))
    return make(ctypes.addressof(definition), _table, None)


def fill_dtypes(names: Iterable[str]) -> None:
    """Let entry points recognise arrays of these dtypes.

    Raises:
        LncTypeError: the package that brings one of them is not installed.
    """
    for name in DTYPE_NUMBERS.keys() & names:
        _table[DTYPE_NUMBERS[name]] = TABLE[name].numpy.num


def get_num_threads() -> int:
    """The number of threads that a call with enough work uses.

    At first that is ``LNCOMPILE_NUM_THREADS``, else the first number in ``OMP_NUM_THREADS``, else the number
    of cores that this process may use. It is 1 in a forked child.

    Raises:
        LncValueError: the variable that decides is not a number of threads.
    """
    if _threads is None:
        _set_threads(_default_threads(os.environ))
    assert _threads is not None
    return _threads


def set_num_threads(n: int) -> None:
    """Use ``n`` threads from the next call on, whatever the environment says.

    Results do not depend on ``n``. In a forked child the number stays 1, whatever ``n`` is: OpenMP's threads
    do not survive a fork, and libgomp would wait for them for ever. Use threads in processes that are started
    by ``spawn`` or ``forkserver``.

    Raises:
        LncTypeError: ``n`` is not an integer.
        LncValueError: ``n`` is below 1 or above 4096.
    """
    try:
        number = integer(n)
    except TypeError:
        raise LncTypeError(f"n: expected an integer number of threads; got {n!r}") from None
    if not 1 <= number <= _MOST_THREADS:
        raise LncValueError(f"n: expected a number of threads from 1 to {_MOST_THREADS}; got {number}")
    _set_threads(number)


def python_threads(work: int) -> int:
    """How many Python threads to split a call of ``work`` elements over: 1 if small or OpenMP serves."""
    threads = get_num_threads()
    return threads if work >= int(_table[Slot.PYTHON_THREADS_FROM]) else 1


@functools.cache
def self_test() -> bool:
    """Whether compiled entry points find the fields of this process's objects and arrays where they look.

    False on PyPy, on free-threaded and reference-tracing builds (their objects have a longer header), and on
    32-bit and big-endian machines.
    """
    if sys.implementation.name != "cpython" or sys.byteorder != "little":
        return False
    if ctypes.sizeof(ctypes.c_void_p) != 8 or object.__basicsize__ != HEADER:
        return False
    readonly = np.arange(6.0).reshape(1, 2, 3)
    readonly.flags.writeable = False
    return all(
        _has_layout(array)
        for array in (
            np.zeros((3, 5), np.float32),
            np.arange(7, dtype=np.uint8)[2:5],
            np.zeros((4, 3), np.dtype(np.float64).newbyteorder()).T,
            np.zeros(9, np.int8)[1:].view(np.int32),
            np.zeros(()),
            readonly,
        )
    )


def _has_layout(array: np.ndarray[Any, Any]) -> bool:
    def read(ctype: Any, address: int) -> Any:
        return ctype.from_address(address).value

    at, descr = id(array), id(array.dtype)
    if read(ctypes.c_size_t, at + OBJECT_TYPE) != id(np.ndarray):
        return False
    if read(ctypes.c_size_t, at + ARRAY_DATA) != array.__array_interface__["data"][0]:
        return False
    if read(ctypes.c_int, at + ARRAY_NDIM) != array.ndim or read(ctypes.c_size_t, at + ARRAY_DESCR) != descr:
        return False
    dims = read(ctypes.c_size_t, at + ARRAY_DIMS)
    if tuple(read(ctypes.c_ssize_t, dims + 8 * axis) for axis in range(array.ndim)) != array.shape:
        return False
    # The flags once more by their names, so that both the place and the bits of the mask are tested.
    flags = read(ctypes.c_int, at + ARRAY_FLAGS)
    if (flags & WRITABLE == WRITABLE) != (
        array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
    ):
        return False
    if (flags & READABLE == READABLE) != (array.flags.c_contiguous and array.flags.aligned):
        return False
    return (
        read(ctypes.c_char, descr + DESCR_BYTEORDER).decode() == array.dtype.byteorder
        and read(ctypes.c_int, descr + DESCR_TYPE_NUM) == array.dtype.num
    )


def _default_threads(environment: Mapping[str, str]) -> int:
    for variable, text in (
        ("LNCOMPILE_NUM_THREADS", environment.get("LNCOMPILE_NUM_THREADS", "")),
        ("OMP_NUM_THREADS", environment.get("OMP_NUM_THREADS", "").partition(",")[0]),
    ):
        if not text.strip():
            continue
        if not re.fullmatch(r"\s*\+?[0-9]+\s*", text) or not 1 <= int(text) <= _MOST_THREADS:
            got = environment[variable]
            raise LncValueError(
                f"{variable}: expected a number of threads from 1 to {_MOST_THREADS}; got {got!r}"
            )
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return min(os.cpu_count() or 1, _MOST_THREADS)


def _set_threads(n: int) -> None:
    global _threads
    with _lock:
        _threads = 1 if _forked else n
        openmp = _threads > 1 and self_test() and _fill_openmp()
        _table[Slot.THREADS] = _threads
        _table[Slot.OPENMP_FROM] = SERIAL_BELOW if openmp else _NEVER
        _table[Slot.PYTHON_THREADS_FROM] = _NEVER if openmp or _threads == 1 else _SERIAL_BELOW_PYTHON


@functools.cache
def _fill_table() -> None:
    _table[Slot.NDARRAY] = id(np.ndarray)
    _table[Slot.NONE] = id(None)
    _table[Slot.NOT_IMPLEMENTED] = id(NotImplemented)
    # PEP 683: from 3.12 on these objects are immortal, and their reference counts must not be changed.
    _table[Slot.SINGLETON_REFERENCE] = 1 if sys.version_info < (3, 12) else 0
    _table[Slot.SAVE_THREAD] = _address(ctypes.pythonapi, "PyEval_SaveThread")
    _table[Slot.RESTORE_THREAD] = _address(ctypes.pythonapi, "PyEval_RestoreThread")
    _table[Slot.GIL_RELEASE_ABOVE] = _GIL_RELEASE_ABOVE


@functools.cache
def _fill_openmp() -> bool:
    library = _find_openmp()
    if library is None:
        return False
    _table[Slot.GOMP_PARALLEL] = _address(library, "GOMP_parallel")
    _table[Slot.OMP_GET_THREAD_NUM] = _address(library, "omp_get_thread_num")
    _table[Slot.OMP_GET_NUM_THREADS] = _address(library, "omp_get_num_threads")
    return True


def _find_openmp() -> ctypes.CDLL | None:
    """The OpenMP runtime that the process has loaded already, else one of the system, else None.

    Two runtimes in one process spin against each other: calls of 20 µs took 8 ms beside PyTorch's copy.
    """
    for path in _loaded_openmp():
        library = _open(path, os.RTLD_NOLOAD | os.RTLD_NOW)
        if library is not None:
            return library
    with _short_spinning():
        for name in ("libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"):
            library = _open(name, ctypes.DEFAULT_MODE)
            if library is not None:
                return library
    return None


@contextmanager
def _short_spinning() -> Iterator[None]:
    """While libgomp is loaded, an environment in which its idle threads soon sleep, unless the user decided.

    By default they spin for milliseconds, on cores that the threads of NumPy's matrix products want next. In
    turns with a product of 128x1000 and 1000x1000 on 2 cores, µs for the product and a layer norm: 3700 to
    5200 and 4100 by default, 1080 and 300 with 10 000 spins, 1000 and 60 asleep at once. Calls alone take the
    same with 10 000 spins; asleep at once, two threads gain nothing below 300 µs of work.
    """
    variable = "GOMP_SPINCOUNT"
    decided = variable in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not decided:
        os.environ[variable] = "10000"
    try:
        yield
    finally:
        if not decided:
            del os.environ[variable]


def _loaded_openmp() -> list[str]:
    """Paths of the OpenMP runtimes mapped into this process; wheels add a hash: ``libgomp-a34b3233.so.1``."""
    try:
        with open("/proc/self/maps", "rb") as file:
            lines = [line for line in file.read().splitlines() if b"omp" in line]
    except OSError:
        return []
    # Six columns, the last one the path; without a candidate the pattern (0.2 ms) is not even compiled.
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines)
    return [
        os.fsdecode(path)
        for path in paths
        if re.search(rb"/lib(gomp|omp|iomp5)(-[0-9a-f]+)?\.so[^/]*$", path)
    ]


def _open(name: str, mode: int) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(name, mode=mode)
    except OSError:
        return None
    needed = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    return library if all(hasattr(library, symbol) for symbol in needed) else None


def _address(library: ctypes.CDLL, symbol: str) -> int:
    address = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    assert address is not None
    return address


def _stay_serial() -> None:
    global _lock, _forked
    # The lock may have been held by a thread that the child does not have.
    _lock = threading.Lock()
    _forked = True
    _set_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stay_serial)
