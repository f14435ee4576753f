"""On a device: CuPy's arrays through the same calls as NumPy's, against the CPU's kernels.

What needs no device is tested elsewhere: the code in ``tests/ptx``, calls in ``test_device.py``. Speed, and
the checkers of memory and races, are the business of ``benchmarks/gpu.py``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
from lncompile import functional
from lncompile.rnn import LNLSTM


def _device() -> Any:
    """CuPy, None where there is no device."""
    try:
        import cupy

        return cupy if cupy.cuda.is_available() else None
    except ImportError:
        return None


cupy = _device()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cupy is None, reason="there is no CUDA device")]

#: A few roundings of float32 on either side, of values up to 10.
TOLERANCE = 10 * 2.0**-20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(33, 1024)).astype(np.float32)
WEIGHT, BIAS = RNG.normal(size=(2, 1024)).astype(np.float32)


def close(on_device: Any, expected: Any) -> None:
    np.testing.assert_allclose(cupy.asnumpy(on_device), expected, rtol=TOLERANCE, atol=TOLERANCE)


def moved(*arrays: Any) -> list[Any]:
    return [cupy.asarray(array) for array in arrays]


@pytest.mark.parametrize("norm", [lnc.layer_norm, lnc.rms_norm, lnc.softmax], ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("features", [1, 33, 64, 1000, 1024])
def test_forward_and_backward_are_those_of_the_cpu(norm: Any, features: int) -> None:
    given = [X[:, :features], WEIGHT[:features], BIAS[:features]][
        : len(norm.lnc_dispatcher.equation.arguments)
    ]
    y, ctx = norm.forward(*given)
    on_device, kept = norm.forward(*moved(*given))
    assert isinstance(on_device, cupy.ndarray)
    close(on_device, y)
    expected = norm.backward(y, ctx)
    for gradient, value in zip(norm.backward(cupy.asarray(y), kept), expected, strict=True):
        # Sums of 33 rows.
        np.testing.assert_allclose(cupy.asnumpy(gradient), value, rtol=0, atol=33 * TOLERANCE)


def test_results_go_where_out_says_and_have_the_same_bits_every_time() -> None:
    x, weight = moved(X, WEIGHT)
    out = cupy.empty_like(x)
    assert lnc.rms_norm(x, weight, out=out) is out
    again = lnc.rms_norm(x, weight)
    assert bool((out == again).all())
    assert bool((lnc.rms_norm(x[5:9], weight) == again[5:9]).all())


def test_the_current_stream_is_used() -> None:
    x, weight = moved(X, WEIGHT)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.get_current_stream().synchronize()
    with stream:
        x *= 2
        y = lnc.rms_norm(x, weight)
        y += 1
    stream.synchronize()
    close(y, lnc.rms_norm(2 * X, WEIGHT) + 1)


def test_a_graph_captures_calls_with_out() -> None:
    x, weight, bias = moved(X, WEIGHT, BIAS)
    out, (y, ctx) = cupy.empty_like(x), lnc.layer_norm.forward(x, weight, bias)
    gradients = lnc.layer_norm.backward(y, ctx)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        # Once before, so that code is loaded and workspaces are there.
        for _ in range(2):
            lnc.layer_norm(x, weight, bias, out=out)
            lnc.layer_norm.backward(y, ctx, out=gradients)
        stream.synchronize()
        stream.begin_capture()
        lnc.layer_norm(x, weight, bias, out=out)
        lnc.layer_norm.backward(y, ctx, out=gradients)
        graph = stream.end_capture()
        x[...] = cupy.asarray(X[::-1].copy())
        graph.launch(stream)
    stream.synchronize()
    close(out, lnc.layer_norm(X[::-1].copy(), WEIGHT, BIAS))


def test_arrays_of_one_place_only() -> None:
    (x,) = moved(X)
    with pytest.raises(lnc.LncError, match="weight"):
        lnc.rms_norm(x, WEIGHT)


def test_functional_layer_norm() -> None:
    x, weight, bias = moved(X, WEIGHT, BIAS)
    close(functional.layer_norm(x, (1024,), weight, bias), functional.layer_norm(X, (1024,), WEIGHT, BIAS))


def test_a_recurrent_cell() -> None:
    cpu, gpu = LNLSTM(16, 64), LNLSTM(16, 64)
    gpu.params = {name: cupy.asarray(array) for name, array in gpu.params.items()}
    xs = RNG.normal(size=(5, 3, 16)).astype(np.float32)
    hs, ctx = cpu.forward(xs)
    on_device, kept = gpu.forward(cupy.asarray(xs))
    close(on_device, hs)
    grads, _ = cpu.backward(hs, ctx)
    for name, gradient in gpu.backward(cupy.asarray(hs), kept)[0].items():
        np.testing.assert_allclose(cupy.asnumpy(gradient), grads[name], rtol=0, atol=1e-4)


def same_as_on_the_cpu(norm: Any, arrays: list[Any], dy: Any, rows: int, **options: Any) -> None:
    """Both ways of a norm, against the CPU's; ``rows`` is how many numbers each gradient adds up."""
    y, ctx = norm.forward(*arrays, **options)
    there, kept = norm.forward(*moved(*arrays), **options)
    close(there, y)
    gradients = norm.backward(cupy.asarray(dy), kept)
    for gradient, expected in zip(gradients, norm.backward(dy, ctx), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(gradient), expected, rtol=0, atol=rows * TOLERANCE)
    # The second time takes the quick way, and gives the same bits.
    again, kept = norm.forward(*moved(*arrays), **options)
    assert bool((again == there).all())
    for gradient, first in zip(norm.backward(cupy.asarray(dy), kept), gradients, strict=True):
        assert bool((gradient == first).all())


@pytest.mark.parametrize("features", [20000, 32768, 40001, 65536, 131072, 262144])
def test_long_rows(features: int) -> None:
    # More rows than there is room for clusters: some have several.
    x, dy = RNG.normal(size=(2, 300, features)).astype(np.float32)
    weight, bias = RNG.normal(size=(2, features)).astype(np.float32)
    # One row takes the second path.
    x[7] *= 1e30
    same_as_on_the_cpu(lnc.layer_norm, [x, weight, bias], dy, len(x))


@pytest.mark.parametrize("images", [1, 3, 5])
@pytest.mark.parametrize("pattern", ["n (g [c]) [...]", "n [...] (g [c])"])
def test_group_norm_of_odd_numbers(images: int, pattern: str) -> None:
    last = pattern.endswith("(g [c])")
    shape = (images, 7, 5, 6) if last else (images, 6, 7, 5)
    x, dy = RNG.normal(size=(2, *shape)).astype(np.float32)
    weight, bias = RNG.normal(size=(2, 6)).astype(np.float32)
    same_as_on_the_cpu(lnc.group_norm.over(pattern), [x, weight, bias], dy, images * 35, g=2)


def test_what_was_built_is_loaded(tmp_path: Path) -> None:
    x, weight = moved(X, WEIGHT)
    lnc.compile(lnc.rms_norm, shape=X.shape, target="cuda").save(tmp_path / "dist")
    loaded: Any = lnc.load(tmp_path / "dist")
    y, ctx = loaded.forward(x, weight)
    expected, kept = lnc.rms_norm.forward(x, weight)
    assert bool((y == expected).all())
    for made, gradient in zip(loaded.backward(x, ctx), lnc.rms_norm.backward(x, kept), strict=True):
        assert bool((made == gradient).all())
    with pytest.raises(lnc.LncError, match="compiled for"):
        loaded(X, WEIGHT)


def test_threads_share_a_stream() -> None:
    x, weight = moved(X, WEIGHT)
    y, ctx = lnc.rms_norm.forward(x, weight)
    expected = lnc.rms_norm.backward(y, ctx)
    found: list[bool] = []

    def work() -> None:
        gradients = lnc.rms_norm.backward(y, ctx)
        for _ in range(200):
            lnc.rms_norm.backward(y, ctx, out=gradients)
            found.append(all(bool((a == b).all()) for a, b in zip(gradients, expected, strict=True)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 400
    assert all(found)


def test_no_images() -> None:
    x, weight = np.empty((0, 6, 5), np.float32), WEIGHT[:6]
    outputs, ctx = lnc.batch_norm.forward(x, weight)
    there, kept = lnc.batch_norm.forward(*moved(x, weight))
    expected = lnc.batch_norm.backward((outputs[0], None, None), ctx).weight
    made = lnc.batch_norm.backward((there[0], None, None), kept).weight
    for array, value in zip((*there, made), (*outputs, expected), strict=True):
        np.testing.assert_array_equal(cupy.asnumpy(array), value)


def test_the_tuner_keeps_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path))

    @lnc.norm("... [d]")
    def centred(x: Any) -> Any:
        return x - lnc.mean(x)

    (x,) = moved(X)
    before = centred(x)
    tuning = lnc.tune(centred, X.shape, target="cuda")
    assert tuning.complete
    assert all(trial.forward_us for trial in tuning.trials if trial.verdict in ("heuristic", "no faster"))
    # Without other bits.
    assert bool((centred(x) == before).all())
