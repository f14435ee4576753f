"""``lncompile.functional``: torch's signatures, and what they compute."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import reference

import lncompile as lnc
import lncompile.functional as F
from lncompile.dtypes import TABLE

pytestmark = pytest.mark.sampled(7)

#: Parameters of torch.nn.functional (2.13) in order, with their defaults.
REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "layer_norm": {
        "input": REQUIRED,
        "normalized_shape": REQUIRED,
        "weight": None,
        "bias": None,
        "eps": 1e-5,
    },
    "rms_norm": {"input": REQUIRED, "normalized_shape": REQUIRED, "weight": None, "eps": None},
    "batch_norm": {
        "input": REQUIRED,
        "running_mean": REQUIRED,
        "running_var": REQUIRED,
        "weight": None,
        "bias": None,
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
    },
    "group_norm": {"input": REQUIRED, "num_groups": REQUIRED, "weight": None, "bias": None, "eps": 1e-5},
    "instance_norm": {
        "input": REQUIRED,
        "running_mean": None,
        "running_var": None,
        "weight": None,
        "bias": None,
        "use_input_stats": True,
        "momentum": 0.1,
        "eps": 1e-5,
    },
}


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_torchs_and_more_stands_at_the_end(name: str) -> None:
    parameters = list(inspect.signature(getattr(F, name)).parameters.values())
    expected = SIGNATURES[name]
    ours = {p.name: p.default for p in parameters[: len(expected)]}
    assert list(ours.items()) == list(expected.items())
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[: len(expected)])
    assert all(p.default is not REQUIRED for p in parameters[len(expected) :])
    assert "out" in [p.name for p in parameters[len(expected) :]]


#: Shapes with how many of their last dimensions are normalized.
CASES = [((4, 33), 1), ((33,), 1), ((2, 3, 5), 2), ((2, 3, 5), 3), ((2, 0, 3, 5), 2), ((1, 2, 3, 4), 3)]


@pytest.mark.parametrize(("shape", "count"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestResults:
    def test_layer_norm(self, shape: tuple[int, ...], count: int, dtype: Any) -> None:
        x = floats(*shape, dtype=dtype)
        last = shape[-count:]
        weight, bias = floats(*last, seed=1, dtype=dtype), floats(*last, seed=2, dtype=dtype)
        features = int(np.prod(last))
        flat = (*shape[: len(shape) - count], features)
        exact = reference.layer_norm(x.reshape(flat), weight.ravel(), bias.ravel())
        out = np.empty_like(x)
        for y in (
            F.layer_norm(x, last, weight, bias),
            F.layer_norm(x, list(last), weight=weight, bias=bias, eps=1e-5),
            F.layer_norm(x, [int(size) for size in last], weight, bias, out=out),
            F.layer_norm(np.asfortranarray(x), last, weight, bias),
        ):
            assert y.shape == x.shape
            assert y.dtype == dtype
            assert reference.errors(y.reshape(flat), exact.y, exact.y_size) <= reference.roundings(features)
        assert y is not out
        assert F.layer_norm(x, last, weight, bias, out=out) is out

    def test_rms_norm(self, shape: tuple[int, ...], count: int, dtype: Any) -> None:
        x = floats(*shape, dtype=dtype)
        last = shape[-count:]
        weight = floats(*last, seed=1, dtype=dtype)
        features = int(np.prod(last))
        flat = (*shape[: len(shape) - count], features)
        out = np.full_like(x, np.nan)
        for eps in (None, 0.25):
            meant = float(np.finfo(dtype).eps) if eps is None else eps
            exact = reference.rms_norm(x.reshape(flat), weight.ravel(), eps=meant)
            for y in (F.rms_norm(x, last, weight, eps), F.rms_norm(x, last, weight, eps=eps, out=out)):
                assert y.dtype == dtype
                assert reference.errors(y.reshape(flat), exact.y, exact.y_size) <= reference.roundings(
                    features
                )
        assert F.rms_norm(x, last, weight, out=out) is out


def test_parameters_may_be_left_out() -> None:
    x, bias = floats(4, 33), floats(33, seed=1)
    assert np.array_equal(F.layer_norm(x, (33,)), lnc.layer_norm(x))
    assert np.array_equal(F.layer_norm(x, (33,), bias=bias), lnc.layer_norm(x, bias=bias))
    assert np.array_equal(F.layer_norm(x, (33,), None, None, 0.5), lnc.layer_norm(x, eps=0.5))


def test_the_epsilon_of_rms_norm_is_that_of_the_compute_type() -> None:
    """float32's, or float64's once an argument is float64; seen where the epsilon is all there is."""
    tiny = np.full((1, 8), 1e-12, np.float32)
    for weight, epsilon in (
        (None, 2.0**-23),
        (np.ones(8, np.float32), 2.0**-23),
        (np.ones(8, np.float64), 2.0**-52),
    ):
        y = F.rms_norm(tiny, (8,), weight)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, 1e-12 / np.sqrt(1e-24 + epsilon), rtol=1e-6)


def test_out_may_be_the_input_in_any_layout() -> None:
    x = floats(2, 3, 5)
    expected = F.layer_norm(x, (3, 5))
    for out in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2], x.astype(">f4")):
        out[...] = x
        assert F.layer_norm(out, (3, 5), out=out) is out
        assert np.array_equal(out, expected)


def test_results_of_the_last_dimension_are_those_of_the_norm() -> None:
    x, weight, bias = floats(4, 33), floats(33, seed=1), floats(33, seed=2)
    assert np.array_equal(F.layer_norm(x, (33,), weight, bias), lnc.layer_norm(x, weight, bias))
    assert np.array_equal(F.rms_norm(x, (33,), weight, 1e-5), lnc.rms_norm(x, weight))


# Norms of arrays [n c ...]

#: Ranks two to five; channels 6.
SHAPES = [(5, 6), (4, 6, 5), (3, 6, 4, 5), (2, 6, 3, 2, 2)]
CHANNELS = 6
DTYPES = [entry.numpy for entry in TABLE.values()]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
#: Those with more than one value in each channel of each n.
spatial = pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
layouts = pytest.mark.parametrize("layout", ["C", "channels last", "strided", "F"])


def laid_out(x: Any, layout: str) -> Any:
    """The same array, elsewhere in memory."""
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if layout == "strided":
        return np.repeat(x, 2, axis=1)[:, ::2]
    return np.asarray(x, order=layout)  # type: ignore[call-overload]


def wide(*arrays: Any) -> Any:
    return [None if array is None else array.astype(np.float64) for array in arrays]


def along(x: Any, vector: Any) -> Any:
    """A vector [c] as it is broadcast to x [n c ...]."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def normalized(x: Any, axes: Any, weight: Any, bias: Any, eps: float) -> Any:
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return y * along(x, weight) + along(x, bias)


def by_statistics(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    scale = weight / np.sqrt(var + eps)
    return x * along(x, scale) + along(x, bias - mean * scale)


def close(actual: Any, exact: Any, roundings: float = 16) -> None:
    """Within some roundings, in the dtype of ``actual``, of the largest term."""
    assert actual.shape == exact.shape
    bound = roundings * epsilon(actual.dtype) * max(1.0, float(np.abs(exact).max(initial=0.0)))
    np.testing.assert_allclose(actual.astype(np.float64), exact, rtol=0, atol=bound)


def epsilon(dtype: Any) -> float:
    """The spacing of the numbers at 1, of any float dtype."""
    one = np.ones((), dtype)
    return float(np.nextafter(one, np.full((), 2, dtype))) - 1.0


def case(shape: tuple[int, ...], dtype: Any, layout: str = "C") -> Any:
    """x, weight, bias, and running statistics."""
    x = laid_out(3 * floats(*shape, dtype=dtype) + np.asarray(2, dtype), layout)
    weight, bias, mean = (floats(CHANNELS, seed=at, dtype=dtype) for at in (1, 2, 3))
    return x, weight, bias, mean, np.square(floats(CHANNELS, seed=4, dtype=dtype)) + np.asarray(0.5, dtype)


@shapes
@dtypes
@layouts
class TestBatchNorm:
    def test_training(self, shape: Any, dtype: Any, layout: str) -> None:
        x, weight, bias, mean, var = case(shape, dtype, layout)
        axes = (0, *range(2, x.ndim))
        wx, wweight, wbias, wmean, wvar = wide(x, weight, bias, mean, var)
        count = x.size // CHANNELS
        y = F.batch_norm(x, mean, var, weight, bias, True, 0.25, 1e-3)
        assert y.dtype == dtype
        close(y, normalized(wx, axes, wweight, wbias, 1e-3))
        close(mean, 0.75 * wmean + 0.25 * wx.mean(axes))
        close(var, 0.75 * wvar + 0.25 * wx.var(axes) * count / (count - 1))

    def test_evaluation(self, shape: Any, dtype: Any, layout: str) -> None:
        x, weight, bias, mean, var = case(shape, dtype, layout)
        before = mean.copy(), var.copy()
        mean.flags.writeable = var.flags.writeable = False
        y = F.batch_norm(x, mean, var, weight, bias, eps=1e-3)
        close(y, by_statistics(*wide(x, mean, var, weight, bias), 1e-3))
        assert np.array_equal(mean, before[0])
        assert np.array_equal(var, before[1])

    def test_out(self, shape: Any, dtype: Any, layout: str) -> None:
        for training in (False, True):
            x, weight, bias, mean, var = case(shape, dtype, layout)
            expected = F.batch_norm(x, mean.copy(), var.copy(), weight, bias, training)
            out = np.full(shape, np.nan, dtype)
            assert F.batch_norm(x, mean, var, weight, bias, training, out=out) is out
            assert np.array_equal(out, expected)
            # In place, where the input is read for the statistics before it is written over.
            x, weight, bias, mean, var = case(shape, dtype, layout)
            assert F.batch_norm(x, mean, var, weight, bias, training, out=x) is x
            assert np.array_equal(x, expected)


@spatial
@dtypes
@layouts
class TestInstanceNorm:
    def test_statistics_of_the_input(self, shape: Any, dtype: Any, layout: str) -> None:
        x, weight, bias, mean, var = case(shape, dtype, layout)
        axes = tuple(range(2, x.ndim))
        wx, wweight, wbias, wmean, wvar = wide(x, weight, bias, mean, var)
        count = x[0, 0].size
        expected = normalized(wx, axes, wweight, wbias, 1e-5)
        close(F.instance_norm(x, weight=weight, bias=bias), expected)
        close(F.instance_norm(x, mean, var, weight, bias, True, 0.25), expected)
        close(mean, 0.75 * wmean + 0.25 * wx.mean(axes).mean(0))
        close(var, 0.75 * wvar + 0.25 * wx.var(axes).mean(0) * count / (count - 1))
        out = np.full(shape, np.nan, dtype)
        assert F.instance_norm(x, mean, var, weight, bias, out=out) is out
        close(out, expected)

    def test_running_statistics(self, shape: Any, dtype: Any, layout: str) -> None:
        x, weight, bias, mean, var = case(shape, dtype, layout)
        y = F.instance_norm(x, mean, var, weight, bias, use_input_stats=False)
        close(y, by_statistics(*wide(x, mean, var, weight, bias), 1e-5))


@shapes
@dtypes
@layouts
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm(shape: Any, dtype: Any, layout: str, groups: int) -> None:
    x, weight, bias, *_ = case(shape, dtype, layout)
    wx, wweight, wbias = wide(x, weight, bias)
    parts = np.ascontiguousarray(wx).reshape(len(wx), groups, -1)
    one = np.ones(groups)
    expected = normalized(parts, 2, one, 0 * one, 1e-5).reshape(shape)
    y = F.group_norm(x, groups, weight, bias)
    close(y, expected * along(x, wweight) + along(x, wbias))
    close(F.group_norm(x, groups), expected)
    out = np.full(shape, np.nan, dtype)
    assert F.group_norm(x, groups, weight, bias, out=out) is out
    assert np.array_equal(out, y)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_channels_innermost_stay_innermost(shape: Any) -> None:
    """Results lie in memory as the input does, and the input is not copied."""
    x = laid_out(floats(*shape), "channels last")
    results = {
        "batch": F.batch_norm(x, None, None, training=True),
        "evaluated": F.batch_norm(x, np.zeros(CHANNELS), np.ones(CHANNELS)),
        "group": F.group_norm(x, 2),
        "instance": F.instance_norm(x),
        "instance, tracked": F.instance_norm(x, np.zeros(CHANNELS), np.ones(CHANNELS)),
    }
    assert {name: y.strides for name, y in results.items()} == dict.fromkeys(results, x.strides)
    # An array without extent beside the channels is both; it counts as what NumPy says of it.
    flat = laid_out(floats(4, CHANNELS, 1), "channels last")
    assert F.group_norm(flat, 2).flags.c_contiguous


@pytest.mark.parametrize("momentum", [0, 0.0, 0.1, 1.0, 2.0, -1.0, np.float32(0.5), np.int64(1)])
def test_momentum_is_the_part_that_is_new(momentum: Any) -> None:
    x, _, _, mean, var = case((4, 6, 5), np.float64)
    old = mean.copy()
    F.batch_norm(x, mean, var, training=True, momentum=momentum)
    close(mean, (1 - float(momentum)) * old + float(momentum) * x.mean((0, 2)))


@pytest.mark.parametrize("kind", DTYPES, ids=str)
def test_running_statistics_have_a_dtype_and_a_layout_of_their_own(kind: Any) -> None:
    x, weight, bias, mean, var = case((4, 6, 5), np.float32)
    places = {
        "strided": lambda a: np.repeat(a, 2)[::2],
        "reversed": lambda a: a[::-1].copy()[::-1],
        "plain": lambda a: a,
    }
    for place in places.values():
        m, v = (place(a.astype(kind)) for a in (mean, var))
        old_m, old_v = wide(m, v)
        F.batch_norm(x, m, v, weight, bias, training=True)
        # The statistics that come in are those of a float32 array.
        once = max(1, epsilon(x.dtype) / epsilon(m.dtype))
        close(m, 0.9 * old_m + 0.1 * x.astype(np.float64).mean((0, 2)), once)
        close(v, 0.9 * old_v + 0.1 * x.astype(np.float64).var((0, 2)) * 20 / 19, once)
        y = F.batch_norm(x, m, v, weight, bias)
        assert y.dtype == np.float32
        close(y, by_statistics(*wide(x, m, v, weight, bias), 1e-5))


def test_running_statistics_may_be_left_out_in_training() -> None:
    x, weight, bias, mean, var = case((4, 6, 5), np.float32)
    tracked = F.batch_norm(x, mean, var, weight, bias, training=True)
    assert np.array_equal(F.batch_norm(x, None, None, weight, bias, training=True), tracked)


@pytest.mark.parametrize("shape", [(0, 6, 5), (4, 6, 0), (4, 0, 5), (0, 6)], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_empty_inputs_change_nothing(shape: Any, training: bool) -> None:
    mean, var = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    x = np.empty(shape, np.float32)
    assert F.batch_norm(x, mean, var, training=training).shape == shape
    assert F.instance_norm(x, mean, var, use_input_stats=training and len(shape) > 2).shape == shape
    assert F.group_norm(x, 2).shape == shape
    assert not mean.any()
    assert (var == 1).all()


def refused(*culprits: str) -> Any:
    """``LncError`` whose message begins with the argument's name and has the other words."""
    return pytest.raises(lnc.LncError, match=rf"^{culprits[0]}: .*" + ".*".join(culprits[1:]))


def broadcast(count: int) -> Any:
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (count,), (0,))


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


#: What is wrong with the arguments of batch_norm in training, and the words of the message.
WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "integers": ({"input": np.ones((4, 6, 5), int)}, ("input", "int64")),
    "a list": ({"input": [[1.0]]}, ("input", "NumPy array", "list")),
    "one dimension": ({"input": floats(6)}, ("input", "at least 2 dimensions", r"\(6,\)")),
    "one value": ({"input": floats(1, 6, 1)}, ("input", "more than 1 value per channel", r"\(1, 6, 1\)")),
    "weight's shape": ({"weight": floats(5)}, ("weight", r"\(6,\)", r"\(5,\)")),
    "weight of size 1": ({"weight": floats(1)}, ("weight", r"\(6,\)", r"\(1,\)")),
    "bias of integers": ({"bias": np.ones(6, int)}, ("bias", "int64")),
    "mean's shape": ({"running_mean": floats(5)}, ("running_mean", r"\(6,\)", r"\(5,\)")),
    "mean of integers": ({"running_mean": np.ones(6, int)}, ("running_mean", "int64")),
    "mean read-only": ({"running_mean": read_only(floats(6))}, ("running_mean", "read-only")),
    "mean missing": ({"running_mean": None}, ("running_mean", "None for both")),
    "var missing": ({"running_var": None}, ("running_var", "None for both")),
    "var read-only": ({"running_var": read_only(floats(6))}, ("running_var", "read-only")),
    "var on itself": ({"running_var": broadcast(6)}, ("running_var", "share memory")),
    "momentum None": ({"momentum": None}, ("momentum", "number", "None")),
    "momentum text": ({"momentum": "0.1"}, ("momentum", "number", "0.1")),
    "momentum NaN": ({"momentum": np.nan}, ("momentum", "finite", "nan")),
    "momentum infinite": ({"momentum": np.float32(-np.inf)}, ("momentum", "finite", "-inf")),
    "eps None": ({"eps": None}, ("eps", "number", "None")),
    "eps NaN": ({"eps": np.nan}, ("eps", "finite", "nan")),
    "eps infinite": ({"eps": np.inf}, ("eps", "finite", "inf")),
    "training an array": ({"training": np.ones(1, bool)}, ("training", "True or False", "bool, shape")),
    "training a number": ({"training": 1}, ("training", "True or False", "int 1")),
    "training a text": ({"training": "no"}, ("training", "True or False", "'no'")),
    "training None": ({"training": None}, ("training", "True or False", "None")),
    "eps 0": ({"eps": 0.0}, ("eps", "positive", "0.0")),
    "eps negative": ({"eps": -1e-5}, ("eps", "positive", "-1e-05")),
    "out's shape": ({"out": floats(4, 6)}, ("out", r"\(4, 6, 5\)", r"\(4, 6\)")),
    "out's dtype": ({"out": floats(4, 6, 5, dtype=np.float64)}, ("out", "float32", "float64")),
    "out read-only": ({"out": read_only(floats(4, 6, 5))}, ("out", "read-only")),
    "out a tuple": ({"out": (floats(4, 6, 5),)}, ("out", "NumPy array", "tuple")),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_what_batch_norm_refuses_changes_nothing(arguments: Any, words: Any) -> None:
    mean, var = floats(6), np.ones(6, np.float32)
    given = {"input": floats(4, 6, 5), "running_mean": mean, "running_var": var} | arguments
    before = mean.copy()
    with refused(*words):
        F.batch_norm(**{"training": True} | given)
    assert np.array_equal(mean, before)
    assert (var == 1).all()


@pytest.mark.parametrize("eps", [np.nan, np.inf, -1e-5, None, True, np.ones(1)])
def test_eps_is_finite_and_not_negative(eps: Any) -> None:
    x, statistics = floats(4, 6, 5), (floats(6), np.ones(6, np.float32))
    for call in (
        lambda: F.layer_norm(x, (5,), eps=eps),
        lambda: F.group_norm(x, 2, eps=eps),
        lambda: F.instance_norm(x, eps=eps),
        lambda: F.instance_norm(x, *statistics, use_input_stats=False, eps=eps),
        lambda: F.batch_norm(x, *statistics, eps=eps),
        lambda: F.rms_norm(x, (5,), eps="default" if eps is None else eps),  # type: ignore[arg-type]
    ):
        with refused("eps", "expected"):
            call()


def test_settings_may_be_scalars_of_numpy() -> None:
    x, statistics = floats(4, 6, 5), (floats(6), np.ones(6, np.float32))
    expected = F.batch_norm(x, *statistics, training=True, eps=0.25)
    for eps in (np.float32(0.25), np.array(0.25), np.longdouble(0.25)):
        y = F.batch_norm(x, *statistics, training=np.bool_(True), eps=eps)  # type: ignore[arg-type]
        assert np.array_equal(y, expected)
    by_statistics = F.instance_norm(x, *statistics, use_input_stats=np.bool_(False))  # type: ignore[arg-type]
    assert np.array_equal(by_statistics, F.batch_norm(x, *statistics, training=False))
    with refused("use_input_stats", "True or False"):
        F.instance_norm(x, use_input_stats=np.ones(2, bool))  # type: ignore[arg-type]


def test_a_call_that_fails_late_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running statistics are written to when the result is there."""
    mean, var = np.zeros(6), np.ones(6)

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lncompile.channels.run", broken)
    with pytest.raises(KeyboardInterrupt):
        F.batch_norm(floats(4, 6, 5), mean, var, training=True)
    assert not mean.any()
    assert (var == 1).all()


def test_memory_that_is_written_to_belongs_to_one_array() -> None:
    x, both, shared = floats(4, 6, 5), floats(7), floats(4, 6, 6)
    with refused("running_var", "overlaps running_mean"):
        F.batch_norm(x, both[:6], both[1:], training=True)
    with refused("running_var", "overlaps running_mean"):
        F.batch_norm(x, both[:6], both[:6], training=True)
    with refused("running_mean", "overlaps input partly"):
        F.batch_norm(x, x[0, :, 0], floats(6), training=True)
    with refused("running_mean", "overlaps weight partly"):
        F.instance_norm(x, both[:6], floats(6), both[1:])
    with refused("out", "overlaps running_mean"):
        F.batch_norm(x, shared[0, :, 0], floats(6), training=True, out=shared[..., :5])
    with refused("out", "overlaps running_mean partly"):
        F.batch_norm(x, shared[0, :, 0], np.ones(6, np.float32), out=shared[..., :5])
    for function, arguments in ((F.group_norm, (2,)), (F.instance_norm, ()), (F.layer_norm, ((5,),))):
        with refused("out", "overlaps input partly"):
            function(shared[..., :5], *arguments, out=shared[..., 1:])


def test_evaluation_needs_running_statistics() -> None:
    x, mean = floats(4, 6, 5), floats(6)
    for arguments, name in (((None, None), "running_mean"), ((mean, None), "running_var")):
        with refused(name, "training=False", "None"):
            F.batch_norm(x, *arguments)
        with refused(name, "use_input_stats=False", "None"):
            F.instance_norm(x, *arguments, use_input_stats=False)
    with refused("eps", "at least 0", "-1"):
        F.batch_norm(x, mean, mean, eps=-1)
    with refused("running_var", r"\(6,\)", r"\(1,\)"):
        F.batch_norm(x, mean, mean[:1])


def test_what_instance_norm_refuses() -> None:
    for shape in ((4, 6), (4, 6, 1), (4, 6, 1, 1)):
        with refused("input", "more than 1 spatial element", str(shape[-1])):
            F.instance_norm(floats(*shape))
        ones = np.ones(6, np.float32)
        assert F.instance_norm(floats(*shape), ones, ones, use_input_stats=False).shape == shape
    with refused("running_var", "None for both"):
        F.instance_norm(floats(4, 6, 5), floats(6))


def test_what_group_norm_refuses() -> None:
    x = floats(4, 6, 5)
    for groups in (0, -1, 4, 12):
        with refused("num_groups", "divisor of the 6 channels", str(groups)):
            F.group_norm(x, groups)
    for wrong in (2.0, None, "2", (2,)):
        with refused("num_groups", "int"):
            F.group_norm(x, wrong)  # type: ignore[arg-type]
    with refused("weight", r"\(6,\)", r"\(2,\)"):
        F.group_norm(x, 2, floats(2))
    with refused("input", "more than 1 value"):
        F.group_norm(floats(1, 6), 6)
    # Of several rows torch lets groups of one value pass: they are their own mean.
    assert not F.group_norm(floats(2, 6), 6).any()


@pytest.mark.parametrize("option", ["eps", "momentum"])
def test_numbers_that_no_float_holds_are_refused(option: str) -> None:
    x, mean = floats(4, 3, dtype=np.float32), np.zeros(3, np.float32)
    with pytest.raises(lnc.LncError, match=f"{option}: expected a number that a float holds"):
        F.batch_norm(x, mean, mean + 1, training=True, **{option: 10**400})
