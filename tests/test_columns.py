"""Vectors that hold channels: rows in groups, results past the caches, stages that run part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers import arrays_for, assert_close, compilation_of, equation, run_emitted, run_program

import lncompile as lnc
from lncompile.emit.lower import lower
from lncompile.interface import Phase
from lncompile.passes.gradient import gradient

INSTANCES = lnc.instance_norm.over("n [h w] c")
GROUPS = lnc.group_norm.over("n [h w] (g [c])")
BATCHES = lnc.batch_norm.over("[n h w] c")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Restores the number of threads."""
    before = lnc.get_num_threads()
    yield
    lnc.set_num_threads(before)


def standardized(x: Any, weight: Any, bias: Any) -> Any:
    mu = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mu))
    return (x - mu) * lnc.rsqrt(var + 1e-5) * weight + bias


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [32, 48, 40, 64, 96])
@pytest.mark.parametrize("pattern", ["n [h] c", "n [h] (g [c])", "[n h] c"])
def test_rows_in_groups_are_streamed_where_they_begin_alike(pattern: str, channels: int, dtype: str) -> None:
    # The stand-in of ``stream`` refuses an address off the boundary, as the instruction does.
    grouped = "g" in pattern
    axes = {"weight": "(g c)" if grouped else "c", "bias": "(g c)" if grouped else "c"}
    sizes = {"n": 2, "h": 37, "c": channels // 8 if grouped else channels} | ({"g": 8} if grouped else {})
    compilation = compilation_of(equation(pattern, **axes)(standardized), sizes, dtype)
    schedule = replace(compilation.schedule, stream_from=1, column_rows=2)
    joint = gradient(compilation.program)
    arrays = arrays_for(joint.inputs, sizes)
    got = run_emitted(compilation, arrays, sizes, schedule)
    assert_close(got, run_program(joint, arrays, sizes), 2e-4 if dtype == "float32" else 3e-2)
    source = lower(compilation.pair, schedule, compilation.request).source
    assert "for from_row in" in source
    assert "stream(" in source or channels * (4 if dtype == "float32" else 2) % schedule.stream_bytes


def phases_of(norm: Any, shape: tuple[int, ...], **sizes: int) -> tuple[Phase, Phase]:
    interface = lnc.compile(norm, shape=shape, target="cpu:x86-64-v3", **sizes).interface
    return interface.forward, interface.backward


@pytest.mark.parametrize(("norm", "sizes"), [(INSTANCES, {}), (GROUPS, {"g": 8})])
def test_stages_of_an_image_run_together(norm: Any, sizes: dict[str, int]) -> None:
    for phase in phases_of(norm, (3, 20, 20, 32), **sizes):
        parts = [call.parts for call in phase.calls]
        together = [call for call in phase.calls if call.parts]
        assert len(set(parts) - {""}) == 1
        assert len(together) >= 3
        # The gradients of parameters take all images at once, after those calls.
        assert parts == sorted(parts, reverse=True)
        made = [buffer.name for buffer in phase.buffers if buffer.role in ("output", "gradient")]
        assert made[0] in together[-1].buffers


def test_stages_over_all_images_run_one_after_another() -> None:
    for phase in phases_of(BATCHES, (3, 20, 20, 32)):
        assert [call.parts for call in phase.calls] == [""] * len(phase.calls)


@pytest.mark.parametrize(("norm", "sizes"), [(INSTANCES, {}), (GROUPS, {"g": 8}), (BATCHES, {})])
def test_a_backward_adds_up_dy_and_its_product_with_x_once_each(norm: Any, sizes: dict[str, int]) -> None:
    """What else sums are multiplied by is the same for all of an image, or of a channel."""
    _, phase = phases_of(norm, (3, 20, 20, 32), **sizes)
    workspaces = {buffer.name for buffer in phase.buffers if buffer.role == "workspace"}
    dy = next(buffer.name for buffer in phase.buffers if buffer.role == "cotangent")
    at = next(at for at, call in enumerate(phase.calls) if dy in call.buffers)
    before = {name for call in phase.calls[:at] for name in call.buffers}
    assert "x" in phase.calls[at].buffers
    assert len(workspaces & set(phase.calls[at].buffers) - before) == 2


def test_every_workspace_is_made_before_it_is_read() -> None:
    for norm, sizes in ((INSTANCES, {}), (GROUPS, {"g": 8}), (BATCHES, {})):
        for phase in phases_of(norm, (3, 20, 20, 32), **sizes):
            workspaces = {buffer.name for buffer in phase.buffers if buffer.role == "workspace"}
            last = {name: [name in call.buffers for call in phase.calls] for name in workspaces}
            # The first call with a workspace writes it: its name comes after all that the call reads.
            for name, uses in last.items():
                writer = phase.calls[uses.index(True)].buffers
                read_there = [b.name for b in phase.buffers if b.role in ("input", "cotangent")]
                assert all(writer.index(name) > writer.index(b) for b in read_there if b in writer)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("shape", [(7, 24, 24, 72), (40, 8, 8, 112), (2, 40, 40, 96), (1, 60, 60, 80)])
@pytest.mark.parametrize(("norm", "sizes"), [(INSTANCES, {}), (GROUPS, {"g": 8})])
def test_parts_give_the_bits_of_whole_calls(norm: Any, sizes: dict[str, int], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, np.float32) for _ in "xy")
    weight, bias = (rng.standard_normal(shape[-1], np.float32) for _ in "wb")

    def results(threads: int, images: slice = slice(None)) -> list[Any]:
        lnc.set_num_threads(threads)
        y, ctx = norm.forward(x[images], weight, bias, **sizes)
        return [y, *norm.backward(dy[images], ctx)]

    alone = results(1)
    for threads in (2, 3):
        for one, other in zip(alone, results(threads), strict=True):
            assert one.tobytes() == other.tobytes()
    # One image at a time is one part: nothing runs part by part.
    singles = [results(1, slice(at, at + 1)) for at in range(shape[0])]
    for index in range(2):
        assert np.concatenate([single[index] for single in singles]).tobytes() == alone[index].tobytes()
    in_place = x.copy()
    norm(in_place, weight, bias, out=in_place, **sizes)
    assert in_place.tobytes() == alone[0].tobytes()


def test_no_images() -> None:
    for norm, sizes in ((INSTANCES, {}), (GROUPS, {"g": 8})):
        x, weight = np.empty((0, 24, 24, 72), np.float32), np.ones(72, np.float32)
        y, ctx = norm.forward(x, weight, weight, **sizes)
        gradients = norm.backward(y, ctx)
        assert y.shape == gradients.x.shape == x.shape
        assert not gradients.weight.any()


@pytest.mark.parametrize("channels", [16, 33, 64])
def test_images_do_not_depend_on_their_number(channels: int) -> None:
    x = np.random.default_rng(1).standard_normal((5, 19, 19, channels), np.float32)
    whole = INSTANCES(x)
    for begin, end in pairwise((0, 1, 3, 5)):
        assert INSTANCES(x[begin:end]).tobytes() == whole[begin:end].tobytes()


@pytest.mark.parametrize("positions", [320, 304, 300])
def test_sums_of_steps_have_the_same_bits_past_the_caches(positions: int) -> None:
    # Group norm's gradient of the weight adds up each channel of a group where dx is written.
    sizes = {"n": 3, "g": 2, "c": 3, "...": positions}
    compilation = compilation_of(lnc.group_norm, sizes, "float32")
    streamed = replace(compilation.schedule, stream_from=1)
    backward = lower(compilation.pair, streamed, compilation.request).source.partition("_backward(")[2]
    whole = positions * 4 % streamed.stream_bytes == 0
    assert ("stream(" in backward) == whole
    arrays = arrays_for(gradient(compilation.program).inputs, sizes)
    expected = run_emitted(compilation, arrays, sizes, replace(streamed, stream_from=0))
    found = run_emitted(compilation, arrays, sizes, streamed)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


class TestWindows:
    """Columns go through scratch memory where lanes are left over."""

    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
    @pytest.mark.parametrize("channels", [1, 7, 32, 33, 64, 1031])
    def test_wherever_columns_lie(self, channels: int, dtype: str) -> None:
        # The stand-ins refuse what lies outside an array.
        sizes = {"n": 20, "c": channels}
        compilation = compilation_of(equation("[n] c", weight="c", bias="c")(standardized), sizes, dtype)
        joint = gradient(compilation.program)
        arrays = arrays_for(joint.inputs, sizes)
        got = run_emitted(compilation, arrays, sizes)
        narrow = dtype in ("float16", "bfloat16")
        assert_close(got, run_program(joint, arrays, sizes), 3e-2 if narrow else 2e-4)
        assert "store_window(" in compilation.lowered.source

    @pytest.mark.parametrize("rows", [2, 64, 128])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_columns_have_the_same_bits_in_any_array(self, rows: int, dtype: type) -> None:
        rng = np.random.default_rng(0)
        x, dy = (rng.standard_normal((rows, 2048)).astype(dtype) for _ in "xy")
        weight, bias = (rng.standard_normal(2048).astype(dtype) for _ in "wb")
        norm = lnc.batch_norm.over("[n] c")

        def results(channels: int) -> list[Any]:
            y, ctx = norm.forward(x[:, :channels], weight[:channels], bias[:channels])
            return [y[0], *norm.backward((dy[:, :channels], None, None), ctx)]

        whole = results(2048)
        for channels in (1, 31, 256, 1000, 1024):
            for one, all_ in zip(results(channels), whole, strict=True):
                assert np.array_equal(one, all_[..., :channels])

    @pytest.mark.parametrize("channels", [20, 1000, 1024])
    def test_in_place(self, channels: int) -> None:
        x = np.random.default_rng(0).standard_normal((64, channels)).astype(np.float32)
        norm = lnc.batch_norm.over("[n] c")
        expected, mean, variance = norm(x)
        norm(x, out=(x, np.empty_like(mean), np.empty_like(variance)))
        assert np.array_equal(x, expected)


@pytest.mark.parametrize(
    ("norm", "features"),
    [(lnc.layer_norm.over("[n] c"), 33), (lnc.layer_norm, 33), (lnc.softmax, 1000)],
    ids=["windows", "tiles", "remembered"],
)
def test_scratch_memory_is_not_cleared(norm: Any, features: int) -> None:
    # Numba clears what it allocates: by up to 6144 stores in each call, which took LLVM 10 s to compile.
    kernel = lnc.compile(norm, shape=(128, features), dtype="float32", target="cpu:x86-64-v3")
    memories = re.findall(r"alloca \[.*?^\S+:", kernel.stages["llvm"], re.MULTILINE | re.DOTALL)
    assert memories
    assert not any("store " in up_to_a_branch for up_to_a_branch in memories)


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_rows_whose_lines_have_parts_of_two(level: str) -> None:
    # LLVM 22.1 wrote values before it had them, where it kept such a line in registers, and then aborted.
    kernel = lnc.compile(lnc.layer_norm, shape=(1000, 20), dtype="float32", target=f"cpu:{level}")
    assert "stream_rows(" in kernel.stages["source"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("features", [13, 20, 33])
@pytest.mark.parametrize("norm", [lnc.layer_norm, lnc.rms_norm])
def test_last_lanes_are_written_alone(norm: Any, features: int, dtype: type) -> None:
    # A kernel stores the first lanes of like vectors, of some 1 and of others 4 or 5.
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 19, features)).astype(dtype)
    parameters = rng.standard_normal((1 if norm is lnc.rms_norm else 2, features)).astype(dtype)
    memories = [np.full(array.size + 32, 7, dtype) for array in (x, x, *parameters)]
    y, *gradients = (
        memory[16:-16].reshape(array.shape)
        for memory, array in zip(memories, (x, x, *parameters), strict=True)
    )
    _, ctx = norm.forward(x, *parameters, out=y)
    norm.backward(dy, ctx, out=tuple(gradients))
    for memory in memories:
        assert (memory[:16] == 7).all()
        assert (memory[-16:] == 7).all()
    expected, ctx = norm.forward(x, *parameters)
    assert np.array_equal(y, expected)
    for given, made in zip(gradients, norm.backward(dy, ctx), strict=True):
        assert np.array_equal(given, made)
