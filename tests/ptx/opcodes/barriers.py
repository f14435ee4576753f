"""Barriers of blocks and clusters.

The threads of a block's barrier must all come to one instruction, as CUDA asks of `__syncthreads`; PTX would
let them come to several that name the same barrier. Here those wait for ever, and that is reported.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..decode import Decoder, Reader, opcode
from ..faults import Divergence
from ..geometry import WARP
from ..machine import Outcome, Step, Wave
from ..scalars import KINDS, Array
from ..syntax import Instruction, Operand, UnknownPtx
from .warp import warp_barrier

U32 = KINDS["u32"]


@opcode("bar", "barrier")
def barrier(instruction: Instruction, decoder: Decoder) -> Step:
    names = [name for name in instruction.modifiers if name not in ("cta", "aligned")]
    aligned = instruction.opcode == "bar" or "aligned" in instruction.modifiers
    if names == ["warp", "sync"]:
        return warp_barrier(instruction.operands[0], decoder)
    if names[:1] == ["cluster"]:
        return _cluster(instruction, names[1:])
    if names == ["sync"]:
        return _block(instruction, decoder, aligned, instruction.operands, None)
    if names[:1] == ["red"] and names[1] in ("popc", "and", "or"):
        return _reducing(instruction, decoder, aligned, names[1])
    raise UnknownPtx(f"no {instruction.name}")


def _reducing(instruction: Instruction, decoder: Decoder, aligned: bool, name: str) -> Step:
    """A barrier that gives all its threads a count or a vote of theirs."""
    destination, *operands, predicate = instruction.operands
    read = decoder.predicate(predicate)
    write = decoder.write_bits(destination, U32 if name == "popc" else KINDS["pred"])

    def finish(wave: Wave, lanes: Array) -> None:
        votes = np.broadcast_to(read(wave), (wave.lanes,)) & wave.active_mask()
        counts = np.add.reduceat(
            votes[lanes].astype(np.uint32), np.unique(wave.block[lanes], return_index=True)[1]
        )
        sizes = np.unique(wave.block[lanes], return_counts=True)[1]
        each = np.zeros(wave.blocks, np.uint32)
        size = np.zeros(wave.blocks, np.uint32)
        each[np.unique(wave.block[lanes])] = counts
        size[np.unique(wave.block[lanes])] = sizes
        own, all_own = each[wave.block], size[wave.block]
        write(wave, {"popc": own, "and": own == all_own, "or": own > 0}[name])

    return _block(instruction, decoder, aligned, tuple(operands), finish)


def _block(
    instruction: Instruction,
    decoder: Decoder,
    aligned: bool,
    operands: tuple[Operand, ...],
    finish: Callable[[Wave, Array], None] | None,
) -> Step:
    number = decoder.bits(operands[0], U32)
    threads: Reader | None = decoder.bits(operands[1], U32) if len(operands) > 1 else None

    def step(wave: Wave) -> Outcome:
        here = wave.active_mask()
        barriers = np.broadcast_to(number(wave), (wave.lanes,))
        if threads is None and wave.active is None:
            # Every thread of every block is here, and none can wait elsewhere.
            wave.order.block_barrier(wave.lane)
            if finish is not None:
                finish(wave, wave.lane)
            return None
        complete, whole = _complete(wave, here, barriers, threads)
        if aligned:
            _check_whole_warps(wave, complete)
        if not complete.any():
            wave.park(here)
            return []
        lanes = np.flatnonzero(complete)
        if whole:
            wave.order.block_barrier(lanes)
        else:
            for block in np.unique(wave.block[lanes]):
                own = lanes[wave.block[lanes] == block]
                for each in np.unique(barriers[own]):
                    wave.order.meet(own[barriers[own] == each])
        before = wave.active, wave.written
        wave.active = wave.written = complete
        if finish is not None:
            finish(wave, lanes)
        wave.active, wave.written = before
        rest = here & ~complete
        if not rest.any():
            return None
        wave.park(rest)
        return [(wave.pc + 1, complete)]

    return step


def _complete(wave: Wave, here: Array, barriers: Array, threads: Reader | None) -> tuple[Array, bool]:
    """Which lanes' barriers have all their threads, and whether those are all threads of the blocks."""
    size = wave.block_lanes
    if threads is None:
        missing = (wave.alive & ~here).reshape(-1, size).any(axis=1)
        numbers = barriers.reshape(-1, size)
        ours = here.reshape(-1, size)
        low = np.where(ours, numbers, 16).min(axis=1)
        high = np.where(ours, numbers, 0).max(axis=1)
        return here & ~(missing | (low != high)).repeat(size), True
    wanted = np.broadcast_to(threads(wave), (wave.lanes,))
    complete = np.zeros(wave.lanes, np.bool_)
    for block in np.unique(wave.block[here]):
        own = np.flatnonzero(here & (wave.block == block))
        for each in np.unique(barriers[own]):
            at = own[barriers[own] == each]
            if len(np.unique(wanted[at])) > 1 or wanted[at[0]] % WARP:
                raise Divergence("threads that give a barrier different counts, or no whole warps", at)
            if len(at) > wanted[at[0]]:
                raise Divergence(f"{len(at)} threads at a barrier for {wanted[at[0]]}", at)
            complete[at] = len(at) == wanted[at[0]]
    return complete, False


def _check_whole_warps(wave: Wave, complete: Array) -> None:
    """All living lanes of a warp pass an aligned barrier together."""
    part = complete.reshape(-1, WARP).any(axis=1) & (wave.alive & ~complete).reshape(-1, WARP).any(axis=1)
    if part.any():
        raise Divergence(
            "a part of a warp passes an aligned barrier", np.flatnonzero(complete & part.repeat(WARP))
        )


def _cluster(instruction: Instruction, names: list[str]) -> Step:
    names = [name for name in names if name not in ("release", "acquire", "relaxed")]
    if names == ["arrive"]:
        return _cluster_arrive("relaxed" not in instruction.modifiers)
    if names == ["wait"]:
        return _cluster_wait
    raise UnknownPtx(f"no {instruction.name}")


def _cluster_arrive(releases: bool) -> Step:
    def step(wave: Wave) -> Outcome:
        lanes = wave.active_lanes()
        arrived, waited = wave.barriers.cluster_arrived, wave.barriers.cluster_waited
        twice = arrived[lanes] != waited[lanes]
        if twice.any():
            raise Divergence("a second arrival at the cluster's barrier before the wait", lanes[twice])
        if releases:
            wave.order.arrive_at_cluster(lanes, arrived[lanes])
        arrived[lanes] += 1
        return None

    return step


def _cluster_wait(wave: Wave) -> Outcome:
    lanes = wave.active_lanes()
    arrived, waited = wave.barriers.cluster_arrived, wave.barriers.cluster_waited
    early = arrived[lanes] == waited[lanes]
    if early.any():
        raise Divergence("a wait at the cluster's barrier before the arrival", lanes[early])
    size = wave.order.cluster_lanes
    # Threads that have ended count as having arrived.
    least = np.where(wave.alive, arrived, np.iinfo(np.int64).max).reshape(-1, size).min(axis=1).repeat(size)
    done = least[lanes] > waited[lanes]
    if not done.any():
        wave.park(wave.active_mask())
        return []
    passed = lanes[done]
    wave.order.wait_for_cluster(passed, waited[passed])
    waited[passed] += 1
    if done.all():
        return None
    complete = np.zeros(wave.lanes, np.bool_)
    complete[passed] = True
    wave.park(wave.active_mask() & ~complete)
    return [(wave.pc + 1, complete)]
