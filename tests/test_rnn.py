"""The recurrent cells against formulas in NumPy, and their gradients against differences of these."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
from lncompile.rnn import LNGRU, LNLSTM, LNRNN

Array = np.ndarray[Any, np.dtype[Any]]
CELLS = [LNRNN, LNLSTM, LNGRU]


def ln(z: Array, gain: Array, bias: Array) -> Array:
    centred = z - z.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias


def logistic(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def lnrnn(p: dict[str, Array], xs: Array, h: Array) -> Array:
    hs = []
    for x in xs:
        h = np.tanh(ln(h @ p["Wh"] + x @ p["Wx"], p["gain"], p["bias"]))
        hs.append(h)
    return np.array(hs)


def lnlstm(p: dict[str, Array], xs: Array, h: Array, c: Array) -> Array:
    hs = []
    for x in xs:
        gates = ln(h @ p["Wh"], p["gain_h"], p["bias_h"]) + ln(x @ p["Wx"], p["gain_x"], p["bias_x"]) + p["b"]
        f, i, o, g = np.split(gates, 4, axis=-1)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(ln(c, p["gain_c"], p["bias_c"]))
        hs.append(h)
    return np.array(hs)


def lngru(p: dict[str, Array], xs: Array, h: Array) -> Array:
    hs = []
    for x in xs:
        gates = ln(h @ p["Wh"], p["gain_h"], p["bias_h"]) + ln(x @ p["Wx"], p["gain_x"], p["bias_x"])
        z, r = np.split(gates, 2, axis=-1)
        inner = logistic(r) * ln(h @ p["U"], p["gain_u"], p["bias_u"])
        n = np.tanh(ln(x @ p["W"], p["gain_w"], p["bias_w"]) + inner)
        h = (1 - logistic(z)) * h + logistic(z) * n
        hs.append(h)
    return np.array(hs)


FORMULAS = {LNRNN: lnrnn, LNLSTM: lnlstm, LNGRU: lngru}


def built(kind: Any, sizes: tuple[int, int] = (5, 7), dtype: str = "float64") -> Any:
    """A cell whose vectors are random, too."""
    cell = kind(*sizes, seed=1, dtype=dtype)
    rng = np.random.default_rng(2)
    for array in cell.params.values():
        array += rng.normal(0, 0.3, array.shape).astype(dtype)
    return cell


def states_of(cell: Any, batch: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(3)
    count = 2 if isinstance(cell, LNLSTM) else 1
    return tuple(rng.normal(size=(batch, cell.hidden_size)).astype(cell.dtype) for _ in range(count))


def given(states: tuple[Array, ...]) -> Any:
    return states if len(states) > 1 else states[0]


def exact(cell: Any, xs: Array, states: tuple[Array, ...]) -> Array:
    params = {name: array.astype(np.float64) for name, array in cell.params.items()}
    return FORMULAS[type(cell)](params, xs.astype(np.float64), *(s.astype(np.float64) for s in states))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("batch", [1, 3])
def test_states_and_gradients(kind: Any, batch: int) -> None:
    cell = built(kind)
    rng = np.random.default_rng(4)
    xs, dhs = rng.normal(size=(6, batch, 5)), rng.normal(size=(6, batch, 7))
    states = states_of(cell, batch)
    hs, ctx = cell.forward(xs, given(states))
    np.testing.assert_allclose(hs, exact(cell, xs, states), rtol=0, atol=1e-12)
    grads, dxs = cell.backward(dhs, ctx)
    assert list(grads) == list(cell.params)
    for name, gradient in [*grads.items(), ("xs", dxs)]:
        array = xs if name == "xs" else cell.params[name]
        assert (gradient.shape, gradient.dtype) == (array.shape, array.dtype)
        direction, before = rng.normal(size=array.shape), array.copy()

        def objective(
            step: float, array: Array = array, moved: Array = direction, at: Array = before
        ) -> float:
            array[...] = at + step * moved
            return float((exact(cell, xs, states) * dhs).sum())

        # Four points: the error is of fourth order in the step.
        near, far = (objective(k * 1e-4) - objective(-k * 1e-4) for k in (1, 2))
        array[...] = before
        slope = (8 * near - far) / 12e-4
        assert abs(float((gradient * direction).sum()) - slope) < 1e-8 * (
            1 + float(np.abs(gradient * direction).sum())
        )


# Of 7 units some statistics are over numbers so close together that rounding the parameters alone changes
# gradients by 7e-5; of 24 by 5e-6.
@pytest.mark.parametrize("hidden", [24, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", CELLS)
def test_twenty_steps_in_float32(kind: Any, hidden: int) -> None:
    """Gradients of every parameter within 1e-5 of those in float64, relative to the largest of its own."""
    narrow, wide = built(kind, (16, hidden), "float32"), built(kind, (16, hidden))
    for name, array in wide.params.items():
        array[...] = narrow.params[name]
    rng = np.random.default_rng(6)
    xs, dhs = (rng.normal(size=(20, 8, size)).astype(np.float32) for size in (16, hidden))
    hs, ctx = narrow.forward(xs)
    expected, exact_ctx = wide.forward(xs.astype(np.float64))
    np.testing.assert_allclose(hs, expected, rtol=0, atol=1e-5)
    found = narrow.backward(dhs, ctx)
    meant = wide.backward(dhs.astype(np.float64), exact_ctx)
    for one, other in [(found[1], meant[1]), *((found[0][name], meant[0][name]) for name in meant[0])]:
        assert one.dtype == np.float32
        assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("kind", CELLS)
def test_a_sequence_in_two_pieces(kind: Any) -> None:
    cell = built(kind)
    xs = np.random.default_rng(6).normal(size=(5, 2, 5))
    whole, ctx = cell.forward(xs)
    first, middle = cell.forward(xs[:2])
    state = middle.state[0].copy() if isinstance(cell, LNLSTM) else middle.state.copy()
    second, last = cell.forward(xs[2:], middle.state)
    assert np.array_equal(whole, np.concatenate([first, second]))
    for one, other in zip(np.atleast_3d(ctx.state), np.atleast_3d(last.state), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(state, middle.state[0] if isinstance(cell, LNLSTM) else middle.state)


@pytest.mark.parametrize("kind", CELLS)
def test_nothing_given_is_changed(kind: Any) -> None:
    cell = built(kind)
    rng = np.random.default_rng(7)
    xs, dhs, states = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 2, 7)), states_of(cell, 2)
    arrays = [xs, dhs, *states, *cell.params.values()]
    before = [array.copy() for array in arrays]
    hs, ctx = cell.forward(xs, given(states))
    seen = hs.copy()
    one = cell.backward(dhs, ctx)
    two = cell.backward(dhs, ctx)
    assert all(map(np.array_equal, arrays, before))
    assert np.array_equal(hs, seen)
    assert np.array_equal(one[1], two[1])
    # Results are the caller's: what becomes of them does not matter here.
    hs[...] = np.nan
    assert np.array_equal(cell.backward(dhs, ctx)[1], one[1])


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_and_its_context_can_be_copied_and_pickled(kind: Any) -> None:
    cell = built(kind)
    xs = np.random.default_rng(0).standard_normal((3, 4, 5))
    hs, ctx = cell.forward(xs)
    expected, dxs = cell.backward(hs, ctx)
    for other, kept in (copy.deepcopy((cell, ctx)), pickle.loads(pickle.dumps((cell, ctx)))):
        gradients, again = other.backward(hs, kept)
        assert np.array_equal(again, dxs)
        assert all(np.array_equal(gradients[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", CELLS)
def test_odd_arrays(kind: Any) -> None:
    cell = built(kind)
    rng = np.random.default_rng(8)
    wide = rng.normal(size=(10, 2, 4))[::-2].transpose(0, 2, 1)
    hs, ctx = built(kind, (2, 7)).forward(wide)
    assert np.array_equal(hs, built(kind, (2, 7)).forward(wide.copy())[0])
    assert ctx.state is not None
    none, empty = cell.forward(np.zeros((0, 3, 5)))
    assert none.shape == (0, 3, 7)
    grads, dxs = cell.backward(none, empty)
    assert dxs.shape == (0, 3, 5)
    assert not any(gradient.any() for gradient in grads.values())
    assert cell.forward(np.zeros((2, 0, 5)))[0].shape == (2, 0, 7)


def test_parameters() -> None:
    cell = LNLSTM(3, 4, seed=5)
    again = LNLSTM(3, 4, seed=5)
    other = LNLSTM(3, 4, seed=6)
    shapes = {name: array.shape for name, array in cell.params.items()}
    assert shapes.pop("Wx") == (3, 16)
    assert shapes.pop("Wh") == (4, 16)
    assert shapes.pop("gain_c") == shapes.pop("bias_c") == (4,)
    assert shapes == dict.fromkeys(("b", "gain_h", "bias_h", "gain_x", "bias_x"), (16,))
    assert set(LNRNN(3, 4).params) == {"Wx", "Wh", "gain", "bias"}
    assert {name: array.shape for name, array in LNGRU(3, 4).params.items() if array.ndim == 2} == {
        "Wx": (3, 8),
        "Wh": (4, 8),
        "W": (3, 4),
        "U": (4, 4),
    }
    for name, array in cell.params.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again.params[name])
        if array.ndim == 1:
            assert np.all(array == (1 if name.startswith("gain") else 0))
        else:
            assert not np.array_equal(array, other.params[name])


@pytest.mark.parametrize("kind", CELLS)
def test_no_dtype_is_float32(kind: Any) -> None:
    cell = kind(3, 7, dtype=None)
    assert cell.dtype == np.float32
    assert all(array.dtype == np.float32 for array in cell.params.values())


def test_writing_into_parameters_changes_the_cell() -> None:
    cell = LNRNN(3, 7)
    xs = np.ones((2, 1, 3), np.float32)
    before = cell.forward(xs)[0]
    cell.params["gain"][...] = 2
    assert not np.array_equal(before, cell.forward(xs)[0])


def test_bad_arguments() -> None:
    cell, other = LNRNN(3, 7), LNRNN(3, 7)
    xs, h = np.zeros((2, 5, 3), np.float32), np.zeros((5, 7), np.float32)
    hs, ctx = cell.forward(xs)
    for name, call in {
        "xs": lambda: cell.forward(xs.astype(np.float64)),
        "xs: expected the shape (T, B, 3)": lambda: cell.forward(xs[0]),
        "xs: expected an array": lambda: cell.forward(xs.tolist()),  # type: ignore[arg-type]
        "state: expected the shape (5, 7)": lambda: cell.forward(xs, h[:2]),
        "state: expected an array": lambda: cell.forward(xs, (h, h)),
        "state: expected a pair (h, c)": lambda: LNLSTM(3, 7).forward(xs, h),
        "state, its c: expected the shape (5, 7)": lambda: LNLSTM(3, 7).forward(xs, (h, h[:2])),
        "state, its h": lambda: LNLSTM(3, 7).forward(xs, (h.astype(np.float64), h)),
        "dhs: expected the shape (2, 5, 7)": lambda: cell.backward(hs[:1], ctx),
        "dhs": lambda: cell.backward(hs.astype(np.float64), ctx),
        "xs: expected an array of": lambda: cell.forward(np.ma.masked_array(xs, xs > 0)),
        "state": lambda: cell.forward(xs, np.ma.masked_array(h, h > 0)),
        "ctx": lambda: cell.backward(hs, None),  # type: ignore[arg-type]
        "ctx: expected the context of a forward of this LNRNN": lambda: other.backward(hs, ctx),
        "input_size": lambda: LNGRU(0, 4),
        "hidden_size": lambda: LNGRU(3, 4.5),  # type: ignore[arg-type]
        "dtype: expected 'float32' or 'float64'; got 'float16'": lambda: LNGRU(3, 4, dtype="float16"),
        "dtype": lambda: LNGRU(3, 4, dtype="nonsense"),
        "seed: expected an integer from 0 on; got -1": lambda: LNGRU(3, 4, seed=-1),
    }.items():
        with pytest.raises(lnc.LncError) as caught:
            call()
        assert str(caught.value).startswith(name), caught.value
    del cell.params["bias"]
    with pytest.raises(lnc.LncError, match="params"):
        cell.forward(xs)
