"""Special registers: a thread's place in its block, its block's in the grid, masks of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .faults import Fault
from .geometry import WARP, Geometry
from .scalars import Array

if TYPE_CHECKING:
    from .machine import Wave


def special_register(wave: Wave, name: str) -> Array:
    """What a special register holds, one value for each lane or one for all."""
    geometry = wave.geometry
    block = wave.block + wave.first_block
    in_cluster = block % geometry.cluster_blocks
    clusters = tuple(-(-size // step) for size, step in zip(geometry.grid, geometry.cluster, strict=True))
    base, _, axis = name.removeprefix("%").partition(".")
    if axis:
        place = "xyz".index(axis)
        triples = {
            "tid": _split(wave.thread, geometry.block),
            "ntid": geometry.block,
            "ctaid": _block_places(geometry, block),
            "nctaid": geometry.grid,
            "clusterid": _split(block // geometry.cluster_blocks, clusters),
            "nclusterid": clusters,
            "cluster_ctaid": _split(in_cluster, geometry.cluster),
            "cluster_nctaid": geometry.cluster,
        }
        return _as_words(triples[base][place])
    lane = wave.lane % WARP
    word = np.uint64(1) << lane.astype(np.uint64)
    singles: dict[str, Any] = {
        "laneid": lane,
        "warpid": wave.thread // WARP,
        "nwarpid": wave.block_lanes // WARP,
        "cluster_ctarank": in_cluster,
        "cluster_nctarank": geometry.cluster_blocks,
        "is_explicit_cluster": int(geometry.cluster_blocks > 1),
        "lanemask_eq": word,
        "lanemask_lt": word - np.uint64(1),
        "lanemask_le": word * np.uint64(2) - np.uint64(1),
        "lanemask_gt": ~(word * np.uint64(2) - np.uint64(1)),
        "lanemask_ge": ~(word - np.uint64(1)),
        "dynamic_smem_size": wave.dynamic_shared,
        "total_smem_size": wave.shared_bytes,
        "WARP_SZ": WARP,
    }
    if base not in singles:
        raise Fault(f"{name} differs from run to run, or is not known here")
    return _as_words(singles[base])


def _block_places(geometry: Geometry, block: Array) -> Sequence[Array]:
    """Blocks are numbered cluster by cluster, so that those of one lie together."""
    if geometry.cluster_blocks == 1:
        return _split(block, geometry.grid)
    clusters = tuple(size // step for size, step in zip(geometry.grid, geometry.cluster, strict=True))
    outer = _split(block // geometry.cluster_blocks, clusters)
    inner = _split(block % geometry.cluster_blocks, geometry.cluster)
    return [o * step + i for o, i, step in zip(outer, inner, geometry.cluster, strict=True)]


def _split(number: Array, sizes: Sequence[int]) -> Sequence[Array]:
    """A linear number as x, y and z."""
    return [number % sizes[0], number // sizes[0] % sizes[1], number // (sizes[0] * sizes[1])]


def _as_words(values: Any) -> Array:
    return np.atleast_1d(np.asarray(values)).astype(np.uint32)
