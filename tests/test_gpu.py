"""On a device: CuPy's arrays through the same calls as NumPy's, against the CPU's kernels.

What needs no device is tested elsewhere: the code in ``tests/ptx``, calls in ``test_device.py``. Speed, and
the checkers of memory and races, are the business of ``benchmarks/gpu.py``.
"""

from __future__ import annotations

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
