"""The promises to users on the CPU: one section for each, and at the end those that every pattern keeps.

The sections hold the norms of rows to more than the table of ``promised.py`` can say of every norm.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from numpy.lib.stride_tricks import as_strided
from promised import EXACT, TABLE, Entry

import lncompile as lnc
from lncompile.norm import dispatcher_of

pytestmark = pytest.mark.sampled(3)

Array = np.ndarray[Any, np.dtype[Any]]

#: Rows that end within a vector; one vector; several and a rest; more than a lane block.
FEATURES = [1, 3, 16, 33, 1000]
#: More rows than a block of rows, and enough work for threads.
MANY = 3000
NORMS = [lnc.layer_norm, lnc.rms_norm]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def parameters(norm: Any, features: int) -> list[Array]:
    """Weights, and biases where the norm has them."""
    count = len(dispatcher_of(norm).signature.arguments) - 1
    return [floats(features, seed=10 + at) for at in range(count)]


def run(norm: Any, x: Array, dy: Array, *rest: Array, **options: Any) -> list[Array]:
    """The output and all gradients."""
    y, ctx = norm.forward(x, *rest, **options)
    return [y, *norm.backward(dy, ctx)]


def assert_same_bits(actual: list[Array], expected: list[Array]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, and restores it."""
    before = lnc.get_num_threads()
    yield lnc.set_num_threads
    lnc.set_num_threads(before)


@pytest.mark.parametrize("norm", NORMS)
class TestSameBits:
    """1. A row's result depends on that row alone; gradients of parameters are summed in a fixed order."""

    @pytest.mark.parametrize("features", FEATURES)
    def test_promise_1_whatever_the_batch_and_the_position_in_it(self, norm: Any, features: int) -> None:
        x, dy, rest = floats(200, features), floats(200, features, seed=1), parameters(norm, features)
        y, dx = run(norm, x, dy, *rest)[:2]
        for begin, end in ((0, 1), (17, 18), (199, 200), (3, 70), (100, 200)):
            part = slice(begin, end)
            assert_same_bits(run(norm, x[part], dy[part], *rest)[:2], [y[part].copy(), dx[part].copy()])

    def test_promise_1_whatever_the_number_of_threads(
        self, norm: Any, threads: Callable[[int], None]
    ) -> None:
        x, dy, rest = floats(MANY, 100), floats(MANY, 100, seed=1), parameters(norm, 100)
        threads(1)
        expected = run(norm, x, dy, *rest)
        for n in (2, 3, 7):
            threads(n)
            assert_same_bits(run(norm, x, dy, *rest), expected)
            assert norm(x, *rest).tobytes() == expected[0].tobytes()

    def test_promise_1_on_every_run(self, norm: Any) -> None:
        x, dy, rest = floats(MANY, 33), floats(MANY, 33, seed=1), parameters(norm, 33)
        expected = run(norm, x, dy, *rest)
        for _ in range(3):
            assert_same_bits(run(norm, x, dy, *rest), expected)

    @pytest.mark.sampled(7)
    @pytest.mark.parametrize("features", FEATURES)
    @pytest.mark.parametrize("offset", [4, 8, 12, 28, 60, 1, 3])
    def test_promise_1_whatever_the_alignment(self, norm: Any, features: int, offset: int) -> None:
        x, dy, rest = floats(5, features), floats(5, features, seed=1), parameters(norm, features)
        expected = run(norm, x, dy, *rest)
        shifted = [at_offset(array, offset) for array in (x, dy, *rest)]
        assert_same_bits(run(norm, *shifted), expected)
        out = at_offset(np.zeros_like(x), offset)
        assert norm(shifted[0], *shifted[2:], out=out) is out
        assert out.tobytes() == expected[0].tobytes()
        given = tuple(at_offset(np.zeros_like(array), offset) for array in expected[1:])
        y, ctx = norm.forward(x, *rest)
        norm.backward(dy, ctx, out=given)
        assert_same_bits([y, *given], expected)

    @pytest.mark.parametrize("features", FEATURES)
    def test_promise_2_nothing_beside_outputs_and_gradients_is_written(
        self, norm: Any, features: int
    ) -> None:
        x, dy, rest = floats(5, features), floats(5, features, seed=1), parameters(norm, features)
        outputs = [Guarded(array.shape) for array in (x, x, *rest)]
        _, ctx = norm.forward(x, *rest, out=outputs[0].array)
        norm.backward(dy, ctx, out=tuple(guard.array for guard in outputs[1:]))
        assert all(guard.is_intact() for guard in outputs)
        assert not any(np.isnan(guard.array).any() for guard in outputs)

    def test_promise_1_with_out_or_without_and_of_a_call_or_a_forward(self, norm: Any) -> None:
        x, rest = floats(5, 33), parameters(norm, 33)
        expected = norm(x, *rest)
        outs = [np.empty_like(x), np.empty((33, 5), np.float32).T, np.empty((5, 33), ">f4"), x.copy()]
        for out in outs:
            assert np.array_equal(norm(x, *rest, out=out), expected)
            assert np.array_equal(norm.forward(x, *rest, out=out)[0], expected)
        assert np.array_equal(norm(outs[3].copy() * 0 + x, *rest), expected)

    def test_promise_1_folded_batch_or_not(self, norm: Any) -> None:
        x, dy, rest = floats(24, 33), floats(24, 33, seed=1), parameters(norm, 33)
        y, dx, *gradients = run(norm, x, dy, *rest)
        for batch in ((4, 6), (2, 3, 4), (1, 24, 1)):
            shape = (*batch, 33)
            again = run(norm, x.reshape(shape), dy.reshape(shape), *rest)
            assert_same_bits(again, [y.reshape(shape), dx.reshape(shape), *gradients])

    def test_promise_1_whatever_the_layout(self, norm: Any) -> None:
        x, dy, rest = floats(5, 33), floats(5, 33, seed=1), parameters(norm, 33)
        expected = run(norm, x, dy, *rest)
        for odd in LAYOUTS.values():
            assert_same_bits(run(norm, odd(x), odd(dy), *map(odd, rest)), expected)

    @pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="sets the mode of an x86-64")
    def test_promise_1_whatever_mode_others_left_the_processor_in(self, norm: Any) -> None:
        """Libraries built with ``-ffast-math`` make the processor flush subnormal numbers, for all."""
        x, dy = floats(5, 33) * np.float32(1e-39), floats(5, 33, seed=1) * np.float32(1e-39)
        rest = [array * np.float32(1e-3) for array in parameters(norm, 33)]
        expected = run(norm, x, dy, *rest, eps=0.0)
        with flushing_to_zero():
            actual = run(norm, x, dy, *rest, eps=0.0)
        assert_same_bits(actual, expected)

    def test_promise_1_a_compiled_kernel_and_the_norm(self, norm: Any) -> None:
        x, dy, rest = floats(5, 33), floats(5, 33, seed=1), parameters(norm, 33)
        kernel = lnc.compile(norm, shape=x.shape)
        assert_same_bits(run(kernel, x, dy, *rest), run(norm, x, dy, *rest))


@contextmanager
def flushing_to_zero() -> Iterator[None]:
    """This thread takes subnormal operands and results for zeros, by way of C's ``fesetenv``."""
    libm = ctypes.CDLL("libm.so.6")
    before, changed = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    assert libm.fegetenv(before) == 0
    assert libm.fegetenv(changed) == 0
    changed[7] |= 0x8040  # glibc keeps seven words of the x87 unit, then MXCSR: its bits FTZ and DAZ
    assert libm.fesetenv(changed) == 0
    try:
        yield
    finally:
        libm.fesetenv(before)


def at_offset(array: Array, offset: int) -> Array:
    """A copy that begins so many bytes behind a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    begin = -memory.ctypes.data % 64 + offset
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def strided(array: Array) -> Array:
    return np.repeat(array, 3, axis=-1)[..., ::3]


def reversed_in_memory(array: Array) -> Array:
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


#: Ways to hold the same elements that kernels cannot read as they stand, or barely.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": strided,
    "negative strides": reversed_in_memory,
    "transposed": lambda array: np.asfortranarray(array),
    "misaligned": lambda array: at_offset(array, 1),
    "read-only": read_only,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "a slice of more columns": lambda array: np.concatenate([array, array], -1)[..., : array.shape[-1]],
}


class TestBounds:
    """2. Nothing is read or written outside the arrays given."""

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("features", [*FEATURES, 64, 65])
    @pytest.mark.parametrize("rows", [0, 1, 5])
    def test_promise_2_what_is_beside_an_output_stays(self, norm: Any, features: int, rows: int) -> None:
        x, dy, rest = floats(rows, features), floats(rows, features, seed=1), parameters(norm, features)
        expected = run(norm, x, dy, *rest)
        guarded = [Guarded(array.shape) for array in expected]
        assert norm(x, *rest, out=guarded[0].array) is guarded[0].array
        _, ctx = norm.forward(x, *rest)
        norm.backward(dy, ctx, out=tuple(g.array for g in guarded[1:]))
        assert_same_bits([g.array for g in guarded], expected)
        assert all(g.is_intact() for g in guarded)

    def test_promise_2_inputs_stay(self) -> None:
        arrays = [floats(MANY, 33), floats(MANY, 33, seed=1), *parameters(lnc.layer_norm, 33)]
        before = [array.tobytes() for array in arrays]
        run(lnc.layer_norm, *arrays)
        assert [array.tobytes() for array in arrays] == before

    @pytest.mark.parametrize("features", [1, 33, 64])
    def test_promise_2_no_byte_behind_or_before_an_array_is_touched(self, features: int) -> None:
        """Every array ends, or begins, at a page that the process must not touch."""
        in_subprocess(
            f"""
            import ctypes, mmap
            import numpy as np
            import lncompile as lnc

            libc = ctypes.CDLL(None, use_errno=True)
            kept = []

            def fenced(shape, at_end):
                size = int(np.prod(shape)) * 4
                pages = -(-size // mmap.PAGESIZE) + 2
                memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
                kept.append(memory)
                start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
                for page in (0, pages - 1):
                    where = ctypes.c_void_p(start + page * mmap.PAGESIZE)
                    assert libc.mprotect(where, mmap.PAGESIZE, 0) == 0
                begin = (pages - 1) * mmap.PAGESIZE - size if at_end else mmap.PAGESIZE
                return np.frombuffer(memory, np.float32, size // 4, begin).reshape(shape)

            def filled(shape, at_end):
                array = fenced(shape, at_end)
                array[...] = np.random.default_rng(0).standard_normal(shape)
                return array

            lnc.set_num_threads(2)
            d = {features}
            for norm, count in ((lnc.layer_norm, 2), (lnc.rms_norm, 1)):
                for rows in (1, 5, 1025, 70000 // d):
                    for at_end in (True, False):
                        x, dy = filled((rows, d), at_end), filled((rows, d), at_end)
                        rest = [filled((d,), at_end) for _ in range(count)]
                        y = fenced((rows, d), at_end)
                        y, ctx = norm.forward(x, *rest, out=y)
                        assert norm(x, *rest, out=y) is y
                        g = (fenced((rows, d), at_end), *(fenced((d,), at_end) for _ in range(count)))
                        norm.backward(dy, ctx, out=g)
                        assert all(np.isfinite(a).all() for a in (y, *g))
            """
        )


class Guarded:
    """A float32 array between two stretches of a known pattern."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        count = int(np.prod(shape))
        self.memory = np.full(count + 512, 1.25, np.float32)
        self.array = self.memory[256 : 256 + count].reshape(shape)
        self.array[...] = np.nan

    def is_intact(self) -> bool:
        return bool((self.memory[:256] == 1.25).all() and (self.memory[-256:] == 1.25).all())


def in_subprocess(program: str, timeout: float = 100, **environment: str) -> str:
    """What a Python program prints; it must end well."""

    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        check=False,
    )
    assert result.returncode == 0, f"exit status {result.returncode}\n{result.stderr}"
    return result.stdout


class TestOddInputs:
    """3. Non-contiguous, misaligned, read-only, of another byte order, empty or huge: each works."""

    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize("norm", NORMS)
    def test_promise_3_layouts(self, norm: Any, name: str) -> None:
        odd = LAYOUTS[name]
        x, dy, rest = floats(5, 33), floats(5, 33, seed=1), parameters(norm, 33)
        expected = run(norm, x, dy, *rest)
        results = run(norm, odd(x), odd(dy), *map(odd, rest))
        assert_same_bits(results, expected)
        assert all(type(a) is np.ndarray and a.flags.c_contiguous and a.dtype.isnative for a in results)

    def test_promise_3_broadcast_views(self) -> None:
        row, weight = floats(33), floats(33, seed=2)
        x = np.broadcast_to(row, (3, 4, 33))
        assert np.array_equal(
            lnc.layer_norm(x, weight), np.broadcast_to(lnc.layer_norm(row, weight), x.shape)
        )
        one = np.broadcast_to(np.float32(2), (33,))
        assert np.array_equal(lnc.layer_norm(row, one), lnc.layer_norm(row, one.copy()))

    def test_promise_3_windows_that_overlap(self) -> None:
        signal = floats(100)
        windows = as_strided(signal, (68, 33), (4, 4))
        assert np.array_equal(lnc.layer_norm(windows), lnc.layer_norm(windows.copy()))

    def test_promise_3_zero_rows_and_zero_features(self) -> None:
        for shape in ((0, 33), (5, 0), (0, 0), (2, 0, 33)):
            x, weight = np.zeros(shape, np.float32), np.zeros(shape[-1], np.float32)
            y, dx, dweight = run(lnc.rms_norm, x, x, weight)
            assert y.shape == dx.shape == shape
            assert np.array_equal(dweight, weight)

    def test_promise_3_more_than_two_to_the_31_elements(self) -> None:
        @lnc.norm("... [d]")
        def average(x):  # type: ignore[no-untyped-def]
            return lnc.mean(x)

        # Zeros that were never written to are one page of memory, read again and again.
        x = np.zeros((2**31 // 16384 + 3, 16384), np.float32)
        x[-2] = floats(16384)
        means = average(x)
        assert means[-2] == average(floats(16384))
        assert means[-2] != 0
        assert not np.delete(means, -2).any()

    @pytest.mark.slow
    def test_promise_3_results_of_more_than_two_to_the_31_elements(self) -> None:
        """Takes 10 GiB and half a minute."""
        rows = 2**31 // 1024 + 3
        x = np.zeros((rows, 1024), np.float32)
        x[-2] = floats(1024)
        y, ctx = lnc.layer_norm.forward(x, out=x)
        del ctx
        assert y[-2].tobytes() == lnc.layer_norm(floats(1024)).tobytes()
        assert not y[-1].any()
        assert not y[:5].any()


#: Values at which squares of float32 overflow or vanish, and between.
SCALES = [1e-36, 1e-30, 1e-25, 1e-22, 1e-20, 1e-18, 1e-10, 1e10, 1e18, 1e19, 1e20, 1e30, 1e38]


class TestSpecialValues:
    """4. NaN and infinity stay in their row; constant rows give zero; what is finite does not overflow."""

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("features", [3, 33, 64, 100])
    def test_promise_4_nan_and_infinity_reach_their_row_only(
        self, norm: Any, bad: float, features: int
    ) -> None:
        x, dy, rest = floats(6, features), floats(6, features, seed=1), parameters(norm, features)
        y, dx = run(norm, x, dy, *rest)[:2]
        sound = [0, 1, 3, 4]
        for column in {0, features // 2, features - 1}:
            spoilt = x.copy()
            spoilt[2, column] = spoilt[5, column] = bad
            z, dz = run(norm, spoilt, dy, *rest)[:2]
            assert_same_bits([z[sound], dz[sound]], [y[sound], dx[sound]])
            assert np.isnan(z[[2, 5]]).any()
            assert np.isnan(dz[[2, 5]]).any()

    @pytest.mark.parametrize("features", [1, 3, 33, 64, 1000])
    def test_promise_4_constant_rows_give_zero_and_the_bias(self, features: int) -> None:
        constants = [0.0, -0.0, 1.0, 0.1, -3.3, 1e6 + 0.1, 16777217.0, 1e-38, 1e-45, 1e19, 1e30, -3.4e38]
        x = np.repeat(np.array(constants, np.float32)[:, None], features, 1)
        weight, bias = floats(features), floats(features, seed=1)
        assert not lnc.layer_norm(x, weight).any()
        y, ctx = lnc.layer_norm.forward(x, weight, bias)
        assert np.array_equal(y, np.broadcast_to(bias, x.shape))
        g = lnc.layer_norm.backward(floats(*x.shape, seed=2), ctx)
        assert all(np.isfinite(gradient).all() for gradient in g)
        assert not g.weight.any()

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("scale", SCALES)
    @pytest.mark.parametrize("features", [33, 64])
    def test_promise_4_tiny_and_huge_rows(self, norm: Any, scale: float, features: int) -> None:
        # Subnormal elements are what they are: their rounding is the input's, not the result's.
        x = (floats(4, features) * np.float32(scale)).astype(np.float32)
        self.check(norm, x, floats(4, features, seed=1), eps=0.0 if scale < 1 else 1e-5)

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("features", [33, 64])
    @pytest.mark.parametrize("signs", ["mixed", "same"])
    def test_promise_4_rows_near_the_overflow(self, norm: Any, signs: str, features: int) -> None:
        x = np.random.default_rng(3).uniform(2.5e38, 3.4e38, (4, features))
        if signs == "mixed":
            x *= np.where(floats(4, features) > 0, 1, -1)
        self.check(norm, x.astype(np.float32), floats(4, features, seed=1), eps=1e-5)

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize(
        ("x_scale", "dy_scale"),
        [(1, 1e30), (1, 1e-30), (1e30, 1e30), (1e-30, 1e-30), (1e30, 1e-5), (1, 3e37)],
    )
    def test_promise_4_tiny_and_huge_gradients(self, norm: Any, x_scale: float, dy_scale: float) -> None:
        x = floats(4, 33) * np.float32(x_scale)
        self.check(norm, x, floats(4, 33, seed=1) * np.float32(dy_scale), eps=0.0 if x_scale < 1 else 1e-5)

    def test_promise_4_one_huge_element_among_small_ones(self) -> None:
        x = floats(4, 64)
        x[:, 5] = [1e19, 1e30, 3e38, -3e38]
        self.check(lnc.layer_norm, x, floats(4, 64, seed=1), eps=1e-5)

    @staticmethod
    def check(norm: Any, x: Array, dy: Array, eps: float) -> None:
        weight = np.random.default_rng(5).uniform(0.5, 1.5, x.shape[1]).astype(np.float32)
        y, dx, dweight = [a for a in run(norm, x, dy, weight, eps=eps) if a is not None]
        exact = getattr(reference, norm.__name__)(x, weight, dy=dy, eps=eps)
        bound = reference.roundings(x.shape[1], len(x))
        # 1/σ is saved in float32: of a huge σ it is subnormal, and has the spacing of subnormal numbers.
        rstd = 1 / np.sqrt(np.square(x.astype(reference.WIDE)).mean(1, keepdims=True) + reference.WIDE(eps))
        saved = 1 + np.maximum(np.finfo(np.float32).smallest_subnormal / (rstd * 2**-24), 1)
        assert reference.errors(y, exact.y, exact.y_size) <= bound
        assert reference.errors(dx, exact.dx, exact.dx_size * saved) <= bound
        assert reference.errors(dweight, exact.dweight, exact.dweight_size * saved.max()) <= bound


class TestAccuracy:
    """5. Within a few roundings of float64's result, for means up to 10^6 standard deviations."""

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("features", [1, 2, 3, 16, 17, 33, 1000, 65536])
    def test_promise_5_means_outliers_and_odd_beginnings(self, norm: Any, dtype: Any, features: int) -> None:
        """One kernel, rows of every kind."""
        rows: dict[str, Array] = {name: make(rng(), features).astype(dtype) for name, make in KINDS.items()}
        weight = rng().uniform(0.5, 1.5, (features,)).astype(dtype)
        bias = rng().uniform(-1, 1, (features,)).astype(dtype)
        rest = [weight, bias][: len(parameters(norm, 1))]
        for name, x in rows.items():
            dy = np.asarray(rng().standard_normal(x.shape)).astype(dtype)
            y, dx, dweight, *dbias = run(norm, x, dy, *rest)
            exact = getattr(reference, norm.__name__)(x, *rest, dy=dy)
            bound = reference.roundings(features, len(x))
            assert reference.errors(y, exact.y, exact.y_size) <= bound, name
            assert reference.errors(dx, exact.dx, exact.dx_size) <= bound, name
            assert reference.errors(dweight, exact.dweight, exact.dweight_size) <= bound, name
            for gradient in dbias:
                assert reference.errors(gradient, exact.dbias, exact.dbias_size) <= bound, name

    @pytest.mark.parametrize("norm", NORMS)
    def test_promise_5_gradients_of_parameters_over_many_rows(self, norm: Any) -> None:
        x, dy = floats(20000, 33) + np.float32(3), floats(20000, 33, seed=1)
        rest = parameters(norm, 33)
        _, _, dweight, *dbias = run(norm, x, dy, *rest)
        exact = getattr(reference, norm.__name__)(x, *rest, dy=dy)
        bound = reference.roundings(33, 20000)
        assert reference.errors(dweight, exact.dweight, exact.dweight_size) <= bound
        for gradient in dbias:
            assert reference.errors(gradient, exact.dbias, exact.dbias_size) <= bound


def _first_outlier(rng: np.random.Generator, features: int) -> Array:
    x = rng.standard_normal((4, features))
    x[:, 0] += 1e6
    return x


def _last_outlier(rng: np.random.Generator, features: int) -> Array:
    return _first_outlier(rng, features)[:, ::-1]


def _odd_beginning(rng: np.random.Generator, features: int) -> Array:
    x = rng.standard_normal((4, features))
    x[:, :16] = x[:, :16] * 1e-3 + 1e4
    return x


def _with_mean(mean: float) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, features: rng.standard_normal((4, features)) + mean


KINDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    **{f"mean {mean:g}": _with_mean(mean) for mean in (0.0, 1.0, -1e3, 1e6)},
    "small, mean 1e6 deviations": lambda rng, features: (rng.standard_normal((4, features)) + 1e6) * 1e-3,
    "first element an outlier": _first_outlier,
    "last element an outlier": _last_outlier,
    "first 16 elements unlike the rest": _odd_beginning,
    "all positive": lambda rng, features: rng.uniform(1, 2, (4, features)),
    "a ramp": lambda rng, features: np.linspace(0, [1, 10, 1e3, 1e6], features, axis=1),
}


class TestThreadsAndForks:
    """6. Thread-safe and fork-safe; the GIL is released for long work; Ctrl-C leaves things usable."""

    def test_promise_6_first_calls_and_others_from_many_threads(self) -> None:
        norms = [
            lnc.norm("... [d]", weight="d")(lambda x, weight=1.0: (x - lnc.mean(x)) * weight),
            lnc.norm("... [d]", weight="d")(lambda x, weight=1.0: x / lnc.sum(lnc.abs(x)) * weight),
        ]
        sizes = [5, 6]
        x = {d: floats(2000, d) for d in sizes}
        weight = {d: floats(d, seed=1) for d in sizes}
        results: list[Any] = [None] * 8
        barrier = threading.Barrier(8)

        def work(at: int) -> None:
            barrier.wait()
            made = []
            for step in range(50):
                d = sizes[(at + step) % 2]
                norm = norms[(at + step // 2) % 2]
                y, ctx = norm.forward(x[d], weight[d])
                g = norm.backward(y, ctx)
                made.append(((at + step // 2) % 2, d, norm(x[d], weight[d]), y, g.x, g.weight))
            results[at] = made

        workers = [threading.Thread(target=work, args=(at,)) for at in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        expected: dict[tuple[int, int], list[bytes]] = {}
        for made in results:
            for norm, d, *arrays in made:
                bits = [a.tobytes() for a in arrays]
                assert expected.setdefault((norm, d), bits) == bits
        assert len(expected) == 4
        # Each specialization was compiled once, whatever number of threads asked for it first.
        for norm in norms:
            assert len(dispatcher_of(norm)._kernels) == 2

    def test_promise_6_others_run_while_a_long_call_does(self) -> None:
        x = np.zeros((200_000, 256), np.float32)
        lnc.layer_norm(x[:1])
        before = lnc.get_num_threads()
        lnc.set_num_threads(1)
        ticks = 0
        done = threading.Event()

        def work() -> None:
            for _ in range(5):
                lnc.layer_norm(x, out=x)
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            while not done.is_set():
                ticks += 1
                done.wait(1e-4)
        finally:
            worker.join()
            lnc.set_num_threads(before)
        # With the GIL held, one tick would come between two calls at most.
        assert ticks > 10

    def test_promise_6_a_forked_child_calls_and_compiles(self) -> None:
        in_subprocess(
            """
            import os, signal, sys, threading
            import numpy as np
            import lncompile as lnc

            signal.alarm(60)  # whoever hangs dies, and so fails
            x, w = np.random.default_rng(0).standard_normal((3000, 40)).astype("f4"), np.ones(40, "f4")
            lnc.set_num_threads(2)
            y, ctx = lnc.layer_norm.forward(x, w)
            g = lnc.layer_norm.backward(y, ctx)

            @lnc.norm("... [d]")
            def fresh(x):
                return x - lnc.mean(x)

            compiling = threading.Thread(target=lambda: [fresh(x[:, :d]) for d in range(1, 5)])
            compiling.start()
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    signal.alarm(50)
                    again, ctx = lnc.layer_norm.forward(x, w)
                    h = lnc.layer_norm.backward(again, ctx)
                    pairs = zip((y, g.x, g.weight), (again, h.x, h.weight))
                    same = all(a.tobytes() == b.tobytes() for a, b in pairs)
                    z = fresh(x[:, :7])
                    os._exit(0 if same and z.shape == (3000, 7) and lnc.get_num_threads() == 1 else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            compiling.join()
            assert lnc.layer_norm(x, w).tobytes() == y.tobytes()
            """
        )

    @pytest.mark.parametrize("stage", ["lower", "run_passes"])
    def test_promise_6_an_interrupt_while_compiling(
        self, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lncompile import compiler

        @lnc.norm("... [d]")
        def interrupted(x):  # type: ignore[no-untyped-def]
            return x - lnc.mean(x) + 1.0

        def stop(*_: object) -> Any:
            raise KeyboardInterrupt

        # Features that no other compile of this equation had: what is in the cache is not compiled.
        x = floats(2, len(stage))
        with monkeypatch.context() as patch:
            patch.setattr(compiler, stage, stop)
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    interrupted(x)
        done = threading.Thread(target=lambda: interrupted(x))
        done.start()
        done.join(60)
        assert not done.is_alive(), "the interrupted call still holds a lock"
        assert interrupted(x).shape == x.shape
        assert sys.getprofile() is None


#: Calls one norm and prints a digest of what it gave; that norm is in the cache, or is compiled.
ONE_CALL = """
    import hashlib
    import numpy as np
    import lncompile as lnc

    x = np.random.default_rng(0).standard_normal((20, 12)).astype("f4")
    y, ctx = lnc.rms_norm.forward(x, x[0].copy())
    g = lnc.rms_norm.backward(x, ctx)
    print(hashlib.sha256(b"".join(a.tobytes() for a in (y, *g))).hexdigest())
    import sys
    print("numba" in sys.modules)
"""


class TestCache:
    """7. Processes share the cache; damage and trouble cost a rebuild, never a wrong result."""

    def test_promise_7_two_processes_at_once(self, tmp_path: Path) -> None:
        results: list[str] = []
        workers = [
            threading.Thread(
                target=lambda: results.append(in_subprocess(ONE_CALL, LNCOMPILE_CACHE_DIR=str(tmp_path)))
            )
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        digests = {text.split()[0] for text in results}
        assert len(results) == 2
        assert len(digests) == 1
        # One of them built it, and the other waited.
        assert sorted(text.split()[1] for text in results) == ["False", "True"]
        assert len(list(tmp_path.rglob("*.json"))) == 1

    def test_promise_7_damage_is_repaired(self, tmp_path: Path) -> None:
        first = in_subprocess(ONE_CALL, LNCOMPILE_CACHE_DIR=str(tmp_path)).split()
        for suffix, damage in (("so", flip_a_bit), ("json", truncate), ("py", flip_a_bit)):
            (path,) = tmp_path.rglob(f"*.{suffix}")
            damage(path)
            digest, compiled = in_subprocess(ONE_CALL, LNCOMPILE_CACHE_DIR=str(tmp_path)).split()
            assert (digest, compiled) == (first[0], "True")
            digest, compiled = in_subprocess(ONE_CALL, LNCOMPILE_CACHE_DIR=str(tmp_path)).split()
            assert (digest, compiled) == (first[0], "False")

    def test_promise_7_a_directory_that_cannot_be_used(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("not a directory")
        digest, compiled = in_subprocess(ONE_CALL, LNCOMPILE_CACHE_DIR=str(file)).split()
        assert compiled == "True"
        assert digest == in_subprocess(ONE_CALL).split()[0]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


# What every norm of the table keeps, whatever its pattern.

every_norm = pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
every_exact_norm = pytest.mark.parametrize("entry", EXACT, ids=lambda entry: entry.name)


@every_norm
def test_promise_1_whatever_the_batch_and_the_position_in_it(entry: Entry) -> None:
    """Along any batch axis: a part of the call gives that part of every result that lies along the axis."""
    arguments = entry.arguments()
    y = entry.norm(*arguments, **entry.options)
    made = y if isinstance(y, tuple) else (y,)
    entering = entry.entering(made)
    whole = entry.run(*arguments, entering=entering)
    for axis in entry.batch:
        size = entry.sizes[axis]
        length = size[0] if isinstance(size, tuple) else size
        for part in (slice(0, 1), slice(length - 1, length), slice(1, length), slice(0, length // 2 + 1)):
            cut = [entry.cut(array, entry.dims_of(at), axis, part) for at, array in enumerate(arguments)]
            dims = [output_dims(entry, y) for y in made]
            dys = [entry.cut(dy, dim, axis, part) for dy, dim in zip(entering, dims, strict=True)]
            results = entry.run(*cut, entering=dys)
            along = [*dims, *(entry.dims_of(at) for at in range(len(arguments)))]
            for result, all_of_it, dim in zip(results, whole, along, strict=True):
                # A gradient that is summed over the axis is another sum.
                if (axis,) in dim:
                    expected = entry.cut(all_of_it, dim, axis, part)
                    assert result.tobytes() == np.ascontiguousarray(expected).tobytes(), (axis, part)


def output_dims(entry: Entry, y: Array) -> tuple[Any, ...]:
    """The dimensions of an output: all of the pattern's, or the batch's alone."""
    if y.shape == entry.shape:
        return entry.pattern.dims
    return entry.pattern.restricted(frozenset(entry.pattern.axes) - entry.pattern.features)


@every_norm
def test_promise_1_whatever_the_number_of_threads(entry: Entry, threads: Callable[[int], None]) -> None:
    large = entry.large(200_000)
    arguments = large.arguments()
    threads(1)
    expected = large.run(*arguments)
    for n in (2, 3, 7):
        threads(n)
        assert_same_bits(large.run(*arguments), expected)
    assert_same_bits(large.run(*arguments), expected)


@every_norm
@pytest.mark.parametrize("offset", [4, 28, 60, 1])
def test_promise_1_whatever_the_alignment(entry: Entry, offset: int) -> None:
    arguments = entry.arguments()
    expected = entry.run(*arguments)
    assert_same_bits(entry.run(*(at_offset(array, offset) for array in arguments)), expected)


@every_norm
def test_promise_1_and_2_into_out_and_nowhere_else(entry: Entry) -> None:
    """The same bits with ``out=``, of a call or a forward; nothing beside an output is written."""
    arguments = entry.arguments()
    before = [array.tobytes() for array in arguments]
    expected = entry.run(*arguments)
    y, ctx = entry.norm.forward(*arguments, **entry.options)
    made = y if isinstance(y, tuple) else (y,)
    entering = tuple(entry.entering(made))
    guards = [Guarded(array.shape) for array in expected]
    outs = tuple(guard.array for guard in guards[: len(made)])
    out = outs if isinstance(y, tuple) else outs[0]
    assert entry.norm(*arguments, out=out, **entry.options) is out
    assert_same_bits(list(outs), expected[: len(made)])
    assert entry.norm.forward(*arguments, out=out, **entry.options)[0] is out
    gradients = tuple(guard.array for guard in guards[len(made) :])
    assert (
        entry.norm.backward(entering if isinstance(y, tuple) else entering[0], ctx, out=gradients)
        is gradients
    )
    assert_same_bits([*outs, *gradients], expected)
    assert all(guard.is_intact() for guard in guards)
    assert [array.tobytes() for array in arguments] == before


@every_norm
def test_promise_1_into_an_input(entry: Entry) -> None:
    """An output that is exactly the first argument gets the bits that it gets elsewhere."""
    arguments = entry.arguments()
    expected = entry.norm(*arguments, **entry.options)
    first, *rest = expected if isinstance(expected, tuple) else (expected,)
    others = tuple(np.empty_like(array) for array in rest)
    x = arguments[0]
    entry.norm(*arguments, out=(x, *others) if isinstance(expected, tuple) else x, **entry.options)
    assert_same_bits([x, *others], [first, *rest])


@every_norm
@pytest.mark.parametrize("name", LAYOUTS)
def test_promise_3_layouts(entry: Entry, name: str) -> None:
    odd = LAYOUTS[name]
    arguments = entry.arguments()
    results = entry.run(*(odd(array) if array.ndim else array for array in arguments))
    assert_same_bits(results, entry.run(*arguments))
    assert all(type(a) is np.ndarray and a.flags.c_contiguous and a.dtype.isnative for a in results)


@every_norm
@pytest.mark.parametrize("name", LAYOUTS)
def test_promise_3_layouts_of_gradients_and_of_out(entry: Entry, name: str) -> None:
    odd = LAYOUTS[name]
    arguments = entry.arguments()
    expected = entry.run(*arguments)
    y, ctx = entry.norm.forward(*arguments, **entry.options)
    made = y if isinstance(y, tuple) else (y,)
    entering = tuple(odd(dy) for dy in entry.entering(made))
    gradients = entry.norm.backward(entering if isinstance(y, tuple) else entering[0], ctx)
    assert_same_bits([a for a in gradients if a is not None], expected[len(made) :])
    if name != "read-only":
        outs = tuple(odd(np.zeros_like(array)) for array in made)
        entry.norm(*arguments, out=outs if isinstance(y, tuple) else outs[0], **entry.options)
        assert all(np.array_equal(a, b) for a, b in zip(outs, made, strict=True))


@every_norm
def test_promise_3_nothing_along_an_axis(entry: Entry) -> None:
    """Sizes of zero: empty results of the right shapes; gradients are sums of nothing, as in torch."""
    for axis in (*entry.batch, *entry.features):
        empty = entry.with_size(axis, 0)
        arguments = empty.arguments()
        results = empty.run(*arguments)
        assert results[0].shape == empty.shape
        for array, gradient in zip(arguments, results[-len(arguments) :], strict=True):
            assert gradient.shape == array.shape
            assert not gradient.any()


@every_norm
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_promise_4_nan_and_infinity_reach_their_group_only(entry: Entry, bad: float) -> None:
    x, *rest = entry.arguments()
    y = entry.norm(x, *rest, **entry.options)
    count = len(y) if isinstance(y, tuple) else 1
    results = entry.run(x, *rest)
    rows = entry.groups(x)
    at = min(2, len(rows) - 1)
    others = [row for row in range(len(rows)) if row != at]
    for column in {0, rows.shape[1] // 2, rows.shape[1] - 1}:
        spoilt = rows.copy()
        spoilt[at, column] = bad
        again = entry.run(entry.from_groups(spoilt), *rest)
        # Outputs along the groups, and the gradient of x; gradients of parameters are sums over groups.
        for result, sound in list(zip(again, results, strict=True))[: count + 1]:
            if result.shape == entry.shape:
                assert entry.groups(result)[others].tobytes() == entry.groups(sound)[others].tobytes()
            elif result.size == len(rows):
                assert result.ravel()[others].tobytes() == sound.ravel()[others].tobytes()
        if entry.exact:
            assert np.isnan(entry.groups(again[0])[at]).any()
            assert np.isnan(entry.groups(again[count])[at]).any()


#: Groups that a plain computation in float32 gets wrong: sizes near either end of its range, and means and
#: outliers that are large beside the standard deviation.
HARD: dict[str, Callable[[Array], Array]] = {
    "ordinary": lambda rows: rows,
    "tiny": lambda rows: rows * 1e-36,
    "huge": lambda rows: rows * 1e37,
    "near the overflow": lambda rows: np.sign(rows) * 3.3e38,
    "near the overflow, of one sign": lambda rows: 3.3e38 - np.abs(rows) * 1e37,
    "a mean of 1e3 deviations": lambda rows: rows + 1e3,
    "a mean of 1e6 deviations": lambda rows: rows - 1e6,
    "an outlier first": lambda rows: np.concatenate([rows[:, :1] + 1e6, rows[:, 1:]], 1),
    "an outlier last": lambda rows: np.concatenate([rows[:, :-1], rows[:, -1:] - 1e20], 1),
}


@pytest.mark.sampled(5)
@every_exact_norm
@pytest.mark.parametrize("name", HARD)
def test_promise_4_and_5_hard_groups(entry: Entry, name: str) -> None:
    """Within some roundings of the formula in wider arithmetic, forward and backward."""
    rng = np.random.default_rng(3)
    rows = HARD[name](rng.standard_normal(entry.groups(np.empty(entry.shape)).shape)).astype(np.float32)
    eps = 0.0 if name == "tiny" else 1e-5
    y, ctx = entry.norm.forward(entry.from_groups(rows), eps=eps, **entry.options)
    made = y if isinstance(y, tuple) else (y,)
    dy = rng.standard_normal(entry.shape).astype(np.float32)
    entering = (dy, *(None for _ in made[1:]))
    dx = entry.norm.backward(entering if isinstance(y, tuple) else dy, ctx).x
    exact = entry.exact(rows, dy=entry.groups(dy), eps=eps)
    bound = reference.roundings(rows.shape[1], len(rows))
    # 1/σ is saved in float32: of a huge σ it is subnormal, and has the spacing of subnormal numbers.
    wide = rows.astype(reference.WIDE)
    rstd = 1 / np.sqrt(np.square(wide).mean(1, keepdims=True) + reference.WIDE(eps))
    saved = 1 + np.maximum(np.finfo(np.float32).smallest_subnormal / (rstd * 2**-24), 1)
    assert reference.errors(entry.groups(made[0]), exact.y, exact.y_size) <= bound
    assert reference.errors(entry.groups(dx), exact.dx, exact.dx_size * saved) <= bound


@every_exact_norm
def test_promise_4_constant_groups_give_zero_and_the_bias(entry: Entry) -> None:
    if entry.exact is not reference.layer_norm:
        pytest.skip("subtracts no mean")
    x, *rest = entry.arguments()
    shape = entry.groups(x).shape
    for constant in (0.0, 0.1, -3.3, 1e6 + 0.1, 16777217.0, 1e-45, 1e30, -3.4e38):
        rows = np.full(shape, constant, np.float32)
        plain = entry.norm(entry.from_groups(rows), **entry.options)
        assert not (plain[0] if isinstance(plain, tuple) else plain).any()
        first, *_ = results = entry.run(entry.from_groups(rows), *rest)
        without_weight = entry.norm(entry.from_groups(rows), None, *rest[1:], **entry.options)
        bias = without_weight[0] if isinstance(without_weight, tuple) else without_weight
        assert np.array_equal(first, bias)
        assert all(np.isfinite(array).all() for array in results)


@pytest.mark.sampled(5)
@every_exact_norm
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
def test_promise_5_float64_too(entry: Entry, mean: float) -> None:
    rows = np.random.default_rng(3).standard_normal(entry.groups(np.empty(entry.shape)).shape) + mean
    y = entry.norm(entry.from_groups(rows), **entry.options)
    exact = entry.exact(rows)
    bound = reference.roundings(rows.shape[1], len(rows))
    got = entry.groups(y[0] if isinstance(y, tuple) else y)
    assert reference.errors(got, exact.y, exact.y_size) <= bound


def test_promise_6_many_threads_call_all_norms_with_many_shapes_and_dtypes() -> None:
    """At once, each in an order of its own; every result has the bits that it has alone."""
    work = [
        (entry.with_size(entry.batch[0], rows), dtype)
        for entry in TABLE
        for rows in (1, 3, 50)
        for dtype in (np.float32, np.float64)
    ]
    jobs = [(entry, entry.arguments(dtype)) for entry, dtype in work]
    expected = [[a.tobytes() for a in entry.run(*arguments)] for entry, arguments in jobs]
    wrong: list[Any] = []
    barrier = threading.Barrier(6)

    def call(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(np.arange(3 * len(jobs)) % len(jobs))
        barrier.wait()
        for at in order:
            entry, arguments = jobs[at]
            try:
                if [a.tobytes() for a in entry.run(*arguments)] != expected[at]:
                    wrong.append(entry.name)
            except Exception as error:
                wrong.append((entry.name, error))

    workers = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


def test_promise_6_fork_while_another_thread_computes() -> None:
    in_subprocess(
        """
        import os, signal, threading
        import numpy as np
        import lncompile as lnc

        signal.alarm(80)  # whoever hangs dies, and so fails
        x = np.random.default_rng(0).standard_normal((40000, 64)).astype("f4")
        lnc.set_num_threads(2)
        y, ctx = lnc.layer_norm.forward(x)
        dx = lnc.layer_norm.backward(y, ctx).x
        done = threading.Event()

        def compute():
            while not done.is_set():
                lnc.layer_norm.backward(y, lnc.layer_norm.forward(x)[1])

        worker = threading.Thread(target=compute)
        worker.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(40)
                z, ctx = lnc.layer_norm.forward(x)
                same = z.tobytes() == y.tobytes()
                same &= lnc.layer_norm.backward(z, ctx).x.tobytes() == dx.tobytes()
                os._exit(0 if same else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done.set()
        worker.join()
        assert lnc.layer_norm(x).tobytes() == y.tobytes()
        """
    )


def test_promise_6_ctrl_c_waits_for_llvm(tmp_path: Path) -> None:
    """llvmlite frees once more what it was interrupted in freeing: no call of it is open to an interrupt."""
    in_subprocess(
        """
        import gc, signal
        import llvmlite.binding as llvm
        import numpy as np
        import lncompile as lnc

        gc.disable()  # what Python frees by itself it frees once, whatever comes
        handlers = []
        note = lambda: handlers.append(signal.getsignal(signal.SIGINT))
        llvm.ffi.register_lock_callback(note, lambda: None)
        x = np.zeros((3, 9), "f4")
        lnc.layer_norm(x)
        lnc.compile(lnc.rms_norm, shape=x.shape, dtype="float32").stages["asm"]
        assert len(handlers) > 100
        assert signal.default_int_handler not in handlers, handlers.index(signal.default_int_handler)
        """,
        LNCOMPILE_CACHE_DIR=str(tmp_path),
    )


def test_promise_6_ctrl_c_while_compiling(tmp_path: Path) -> None:
    """At ten moments of a compile: the interrupt comes out, or the compile was done; then all goes on."""
    in_subprocess(
        """
        import signal, threading, time
        import numpy as np
        import lncompile as lnc

        x = np.random.default_rng(0).standard_normal((3, 9)).astype("f4")
        lnc.layer_norm(x)  # so that Numba is imported

        def norm_number(number):
            def equation(v, *, scale=1.0 + number):
                return (v - lnc.mean(v)) * scale
            return lnc.norm("... [d]")(equation)

        interrupted = 0
        for number in range(10):
            norm = norm_number(number)
            main = threading.main_thread().ident
            timer = threading.Timer(0.03 * (number + 1), signal.pthread_kill, (main, signal.SIGINT))
            try:
                timer.start()
                norm(x)
                time.sleep(1)
            except KeyboardInterrupt:
                interrupted += 1
            timer.join()
            expected = (x - x.mean(1, keepdims=True)) * np.float32(1 + number)
            np.testing.assert_allclose(norm(x), expected, rtol=1e-5, atol=1e-5)
        # One may come while Python cannot raise it, in a destructor.
        assert interrupted >= 7
        """,
        LNCOMPILE_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_promise_6_ctrl_c_while_the_compiler_is_imported(seconds: float, tmp_path: Path) -> None:
    """The first compile of a process imports Numba, which takes most of a second."""
    in_subprocess(
        f"""
        import signal, threading, time
        import numpy as np
        import lncompile as lnc

        x = np.random.default_rng(0).standard_normal((3, 9)).astype("f4")
        main = threading.main_thread().ident
        timer = threading.Timer({seconds}, signal.pthread_kill, (main, signal.SIGINT))
        begin = time.perf_counter()
        timer.start()
        try:
            lnc.layer_norm(x)
            time.sleep(9)
        except KeyboardInterrupt:
            pass
        # Twice what is allowed, for busy machines.
        assert time.perf_counter() - begin < {seconds} + 4
        timer.join()
        assert np.isfinite(lnc.layer_norm(x)).all()
        """,
        LNCOMPILE_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["... [d]", "[n] d", "n [...] d"])
def test_promise_3_a_sparse_file_of_more_than_two_to_the_31_elements(pattern: str, tmp_path: Path) -> None:
    """Means of a file that is one hole but for one number near its end, mapped into memory: reads 8 GiB."""

    def average(x):  # type: ignore[no-untyped-def]
        return lnc.mean(x)

    shape = (2**31 // 16384 + 3, 1, 16384) if pattern.count(" ") == 2 else (2**31 // 16384 + 3, 16384)
    x = np.memmap(tmp_path / "sparse", np.float32, "w+", shape=shape)
    x[-2, ..., 5] = 16384.0 * shape[0]
    means = lnc.norm(pattern)(average)(x)
    place = -2 if pattern == "... [d]" else (..., 5) if pattern == "[n] d" else (-2, 5)
    features = {"... [d]": 16384, "[n] d": shape[0], "n [...] d": 1}[pattern]
    assert means[place] == np.float32(16384.0 * shape[0] / features)
    assert np.count_nonzero(means) == 1
