"""Memory of large results: a bounded pool of blocks that are used again once their arrays are gone.

Fresh memory costs a page fault, and the kernel's writing of zeros, for every page that is touched first; for
128 MiB that is two to four times what a normalization of them takes. So a large array is made on a block that
the pool keeps a reference to::

    take a block --> array, its base is the block --> views, all of which hold the block, not the array
          ^                                                             |
          +------- nobody but the pool refers to the block <------------+

Nothing is called when an array dies: whether a block is idle is asked when the next one is needed, by the
count of its references. So there is nothing to go wrong in finalizers, in other threads, while an exception
is on its way, when the interpreter ends, or in a forked child, whose blocks are its own as all its memory is.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from lncompile.errors import LncTypeError, LncValueError
from lncompile.integers import integer

Array = np.ndarray[Any, np.dtype[Any]]

#: Smaller arrays are NumPy's own. A megabyte takes 60 µs or more to write; the pool takes 2.
POOLED_FROM = 1 << 20

#: No result has more than four times the bytes of its first argument: float64 out of float16.
MAY_MAKE_POOLED = POOLED_FROM // 4

_VARIABLE = "LNCOMPILE_POOL_BYTES"
#: At most this much, and at most this part of the machine's memory, unless the user says otherwise. Eight
#: results of 128 MiB, or what a training step of some layers has in use at once.
_DEFAULT_BYTES = 1 << 30
_DEFAULT_PART = 8
#: Vectors of 64 bytes never cross a cache line or a page. NumPy's own large arrays lie 16 bytes into one.
ALIGNMENT = 64
#: Blocks that are asked whether they are idle before a new one is made: 10 µs at most.
_ASKED = 64


class _Block:
    """Memory of ``capacity`` bytes, aligned from ``offset`` on."""

    __slots__ = ("capacity", "memory", "offset")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory = np.empty(capacity + ALIGNMENT, np.uint8)
        self.offset = -self.memory.__array_interface__["data"][0] % ALIGNMENT


def _references(block: _Block) -> int:
    return sys.getrefcount(block.memory)


#: What is counted while nobody uses a block. The count includes those of the counting itself.
_IDLE = _references(_Block(0))
# Other interpreters, and threads without the lock, count references in other ways.
_COUNTS_EXACTLY = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()

# All blocks, those that were handed out least recently first, and the same by capacity in bytes.
_order: OrderedDict[_Block, None] = OrderedDict()
_blocks: dict[int, deque[_Block]] = {}
# Reentrant, since the garbage collector may run a finalizer, which may call a norm, anywhere.
_lock = threading.RLock()
_limit: int | None = None


def empty(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array like ``np.empty(shape, dtype)``, in memory that was used before if it is large.

    It owns no memory (``flags.owndata``) if it is large; ``base`` is the block of bytes that it lies in.

    Raises:
        LncValueError: ``LNCOMPILE_POOL_BYTES`` is not a number of bytes.
        MemoryError: there is no memory, though all idle blocks were given back.
    """
    sizes = (shape,) if isinstance(shape, int) else shape
    needed = prod(sizes) * dtype.itemsize
    if needed < POOLED_FROM or not _COUNTS_EXACTLY:
        return np.empty(sizes, dtype)
    capacity = _rounded(needed)
    with _lock:
        if capacity > get_pool_bytes():
            return np.empty(sizes, dtype)
        block = _idle_block(capacity) or _new_block(capacity)
        array: Array = np.ndarray(sizes, dtype, block.memory, block.offset)
        _order[block] = None
        _order.move_to_end(block)
        _blocks[capacity].append(block)
    return array


def get_pool_bytes() -> int:
    """The most bytes that the pool keeps for large results (of 1 MiB and more), those in use included.

    At first that is ``LNCOMPILE_POOL_BYTES``, else 1 GiB, or an eighth of the machine's memory if that is
    less. 0 means that there is no pool.

    Raises:
        LncValueError: the variable is not a number of bytes.
    """
    global _limit
    if _limit is None:
        _limit = _default_limit(os.environ)
    return _limit


def set_pool_bytes(n: int) -> None:
    """Keep at most ``n`` bytes for large results from now on, whatever the environment says.

    Blocks above the limit, those used least recently, are given back: idle ones at once, others with their
    arrays. ``n`` = 0 gives all of them back and turns the pool off.

    Raises:
        LncTypeError: ``n`` is not an integer.
        LncValueError: ``n`` is negative.
    """
    global _limit
    try:
        number = integer(n)
    except TypeError:
        raise LncTypeError(f"n: expected an integer number of bytes; got {n!r}") from None
    if number < 0:
        raise LncValueError(f"n: expected a number of bytes, at least 0; got {number}")
    with _lock:
        _limit = number
        _shrink(number)


def _idle_block(capacity: int) -> _Block | None:
    """An idle block, which the pool then no longer has; those that are in use go to the end."""
    blocks = _blocks.setdefault(capacity, deque())
    for _ in range(min(len(blocks), _ASKED)):
        block = blocks.popleft()
        if _references(block) == _IDLE:
            return block
        blocks.append(block)
    return None


def _new_block(capacity: int) -> _Block:
    _shrink(get_pool_bytes() - capacity)
    try:
        return _Block(capacity)
    except MemoryError:
        _shrink(0)
        return _Block(capacity)


def _shrink(limit: int) -> None:
    """Let go of blocks, the least recently used first, until the rest has at most ``limit`` bytes."""
    excess = sum(block.capacity for block in _order) - limit
    while excess > 0 and _order:
        block, _ = _order.popitem(last=False)
        # Not there where an interrupt came between taking it and giving it back.
        with suppress(ValueError):
            _blocks[block.capacity].remove(block)
        excess -= block.capacity


def _rounded(needed: int) -> int:
    """``needed`` up to the next of eight steps between powers of two: similar batches share blocks."""
    step = 1 << needed.bit_length() - 4
    return -(-needed // step) * step


def _default_limit(environment: Mapping[str, str]) -> int:
    text = environment.get(_VARIABLE, "").strip()
    if text:
        if not text.isascii() or not text.isdigit():
            raise LncValueError(
                f"{_VARIABLE}: expected a number of bytes, 0 for no pool; got {environment[_VARIABLE]!r}"
            )
        return int(text)
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return _DEFAULT_BYTES
    return min(_DEFAULT_BYTES, machine // _DEFAULT_PART)


def _new_lock() -> None:
    """In a forked child: the lock may have been held by a thread that it does not have."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
