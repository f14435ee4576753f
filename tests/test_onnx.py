"""The normalizations of the backend test suite that ships with the ``onnx`` package: a judge from outside.

An operator is an equation on a pattern that its ``axis`` chooses; what ours lack of an operator stands here.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import lncompile as lnc

onnx = pytest.importorskip("onnx")


@lnc.norm("... [d]", scale="d", bias="d")
def layer_normalization(x, scale=1.0, bias=0.0, *, eps=1e-5):
    """ONNX's has the statistics as outputs."""
    mu = lnc.mean(x)
    rstd = lnc.rsqrt(lnc.mean(lnc.square(x - mu)) + eps)
    return (x - mu) * rstd * scale + bias, mu, rstd


@lnc.norm("... [d]")
def mean_variance_normalization(x):
    centred = x - lnc.mean(x)
    return centred / (lnc.sqrt(lnc.mean(lnc.square(centred))) + 1e-9)


@lnc.norm("... [d]")
def lp_normalization(x, *, p):
    """A zero vector stays what it is."""
    length = lnc.sum(lnc.abs(x)) if p == 1 else lnc.sqrt(lnc.sum(lnc.square(x)))
    return lnc.where(length > 0.0, x / length, 0.0)


@cache
def over(norm: Any, ndim: int, axes: tuple[int, ...]) -> Any:
    """``norm`` with these dimensions as features: ``i [j] k`` for (1,) of 3."""
    features = {axis % ndim for axis in axes}
    names = "ijklmn"[:ndim]  # none of the norms' own, so that parameters follow
    return norm.over(" ".join(f"[{name}]" if at in features else name for at, name in enumerate(names)))


def from_axis(norm: Any, x: Any, axis: int) -> Any:
    """``norm`` over the dimensions from ``axis`` to the last."""
    return over(norm, x.ndim, tuple(range(axis % x.ndim, x.ndim)))


def _layer(x, scale, bias, *, axis=-1, epsilon=1e-5):
    y, *statistics = from_axis(layer_normalization, x, axis)(x, scale, bias, eps=epsilon)
    ones = (1,) * (x.ndim - axis % x.ndim)
    return (y, *(each.reshape(each.shape + ones) for each in statistics))


def _rms(x, scale, *, axis=-1, epsilon=1e-5):
    return from_axis(lnc.rms_norm, x, axis)(x, scale, eps=epsilon)


def _batch(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    if not training_mode:
        return lnc.batch_norm_inference(x, mean, var, scale, bias, eps=epsilon)
    y, *now = lnc.batch_norm(x, scale, bias, eps=epsilon)
    return y, *(momentum * old + (1 - momentum) * new for old, new in zip((mean, var), now, strict=True))


def _instance(x, scale, bias, *, epsilon=1e-5):
    return lnc.instance_norm(x, scale, bias, eps=epsilon)


def _group(x, scale, bias, *, num_groups, epsilon=1e-5):
    return lnc.group_norm(x, scale, bias, eps=epsilon, g=num_groups)


def _mean_variance(x, *, axes=(0, 2, 3)):
    return over(mean_variance_normalization, x.ndim, tuple(axes))(x)


def _lp(x, *, axis=-1, p=2):
    return over(lp_normalization, x.ndim, (axis,))(x, p=p)


def _softmax(x, *, axis=-1):
    return over(lnc.softmax, x.ndim, (axis,))(x)


def _log_softmax(x, *, axis=-1):
    return over(lnc.log_softmax, x.ndim, (axis,))(x)


#: What computes each operator, and how many cases it has at least; some releases of onnx lack some.
OPERATORS: dict[str, tuple[Callable[..., Any], int]] = {
    "LayerNormalization": (_layer, 19),
    "RMSNormalization": (_rms, 0),
    "BatchNormalization": (_batch, 4),
    "InstanceNormalization": (_instance, 2),
    "GroupNormalization": (_group, 2),
    "MeanVarianceNormalization": (_mean_variance, 1),
    "LpNormalization": (_lp, 0),
    "Softmax": (_softmax, 7),
    "LogSoftmax": (_log_softmax, 7),
}


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Any]]:
    """The suite's cases of one node each by operator; to make them takes it some seconds."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {name: [] for name in OPERATORS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            nodes = case.model.graph.node
            if len(nodes) == 1 and nodes[0].op_type in found:
                found[nodes[0].op_type].append(case)
    return found


def as_tuple(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operator(operator: str, cases: dict[str, list[Any]]) -> None:
    function, least = OPERATORS[operator]
    assert len(cases[operator]) >= least
    for case in cases[operator]:
        options = {
            attribute.name: onnx.helper.get_attribute_value(attribute)
            for attribute in case.model.graph.node[0].attribute
        }
        for inputs, expected in case.data_sets:
            arrays = [np.ascontiguousarray(array) for array in inputs]
            got = as_tuple(function(*arrays, **options))
            exact = as_tuple(function(*(array.astype(np.float64) for array in arrays), **options))
            assert len(got) == len(expected), case.name
            for ours, theirs, precise in zip(got, expected, exact, strict=True):
                assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), case.name
                # The tolerances are the suite's; then a few roundings of the largest term.
                np.testing.assert_allclose(ours, theirs, case.rtol, case.atol, err_msg=case.name)
                scale = max(1.0, float(np.abs(precise).max()))
                bound = 8 * np.finfo(ours.dtype).eps * scale
                np.testing.assert_allclose(ours, precise, rtol=0, atol=bound, err_msg=case.name)


def test_the_suite_was_found(cases: dict[str, list[Any]]) -> None:
    assert sum(map(len, cases.values())) >= 42
