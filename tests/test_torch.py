"""The same results as PyTorch, where it is installed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
import lncompile.functional as F

torch = pytest.importorskip("torch")

#: Both sides are off by some dozens of roundings, of values of about ten at most.
TOLERANCE = {np.float32: 64 * 2.0**-24 * 10, np.float64: 64 * 2.0**-53 * 10}


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "count"), [((4, 33), 1), ((2, 3, 5), 2)])
def test_forward(shape: tuple[int, ...], count: int, dtype: Any) -> None:
    x = floats(*shape, dtype=dtype)
    last = shape[-count:]
    weight, bias = floats(*last, seed=1, dtype=dtype), floats(*last, seed=2, dtype=dtype)
    theirs = torch.nn.functional
    t = [torch.from_numpy(a) for a in (x, weight, bias)]
    for ours, others in (
        (F.layer_norm(x, last, weight, bias), theirs.layer_norm(t[0], last, t[1], t[2])),
        (F.layer_norm(x, last, eps=0.1), theirs.layer_norm(t[0], last, eps=0.1)),
        (F.rms_norm(x, last, weight), theirs.rms_norm(t[0], last, t[1])),
        (F.rms_norm(x, last, eps=0.1), theirs.rms_norm(t[0], last, eps=0.1)),
    ):
        np.testing.assert_allclose(ours, others.numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_backward(name: str, dtype: Any) -> None:
    x, weight, bias, dy = (
        floats(*shape, seed=at, dtype=dtype) for at, shape in enumerate([(4, 33), (33,), (33,), (4, 33)])
    )
    rest = [weight, bias][: 2 if name == "layer_norm" else 1]
    _, ctx = getattr(lnc, name).forward(x, *rest)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, *rest)]
    y = getattr(torch.nn.functional, name)(tensors[0], (33,), *tensors[1:], eps=1e-5)
    y.backward(torch.from_numpy(dy))
    for ours, tensor in zip(getattr(lnc, name).backward(dy, ctx), tensors, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", [n for n in F.__dict__ if n.endswith("_norm")])
def test_parameters_have_torchs_names_and_order(name: str) -> None:
    ours = list(inspect.signature(getattr(F, name)).parameters)
    theirs = list(inspect.signature(getattr(torch.nn.functional, name)).parameters)
    assert ours[: len(theirs)] == theirs


# The whole family against autograd in float64, over random shapes

SEEDS = range(4)


def numbers(seed: int) -> Any:
    return np.random.default_rng(seed)


def tensors(*arrays: Any) -> list[Any]:
    return [None if array is None else torch.from_numpy(array.copy()) for array in arrays]


def same(ours: Any, theirs: Any) -> None:
    """Equal to some dozens of roundings of the largest element, in float64."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    bound = 256 * 2.0**-53 * max(1.0, float(np.abs(theirs).max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


def image(random: Any) -> tuple[Any, Any, Any, int]:
    """x [n c ...] of two to five dimensions, weight and bias [c], and a number of groups."""
    groups = int(random.integers(1, 4))
    channels = groups * int(random.integers(1, 5))
    spatial = random.integers(2, 6, random.integers(1, 4))
    x = 2 + 3 * random.standard_normal((int(random.integers(1, 5)), channels, *spatial))
    return x, *random.standard_normal((2, channels)), groups


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("last", [False, True])
class TestFunctional:
    """torch's functions on the same arrays, channels innermost in memory or not."""

    def arrays(self, seed: int, last: bool) -> Any:
        random = numbers(seed)
        x, weight, bias, groups = image(random)
        if last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        mean, var = random.standard_normal(x.shape[1]), random.random(x.shape[1])
        return x, weight, bias, mean, var, groups

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize("affine", [False, True])
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
    def test_running_statistics(self, name: str, training: bool, affine: bool, seed: int, last: bool) -> None:
        x, weight, bias, mean, var, _ = self.arrays(seed, last)
        if not affine:
            weight = bias = None
        t, tweight, tbias, tmean, tvar = tensors(x, weight, bias, mean, var)
        for momentum in (0.1, 0.75):  # twice, so that what was tracked is used
            y = getattr(F, name)(x, mean, var, weight, bias, training, momentum, 1e-4)
            expected = getattr(torch.nn.functional, name)(
                t, tmean, tvar, tweight, tbias, training, momentum, 1e-4
            )
            same(y, expected)
            same(mean, tmean)
            same(var, tvar)

    def test_without_running_statistics(self, seed: int, last: bool) -> None:
        x, weight, bias, *_ = self.arrays(seed, last)
        t, tweight, tbias = tensors(x, weight, bias)
        theirs = torch.nn.functional
        same(
            F.batch_norm(x, None, None, weight, bias, training=True),
            theirs.batch_norm(t, None, None, tweight, tbias, training=True),
        )
        same(
            F.instance_norm(x, weight=weight, bias=bias, eps=0.1),
            theirs.instance_norm(t, weight=tweight, bias=tbias, eps=0.1),
        )

    @pytest.mark.sampled(3)
    def test_group_norm(self, seed: int, last: bool) -> None:
        x, weight, bias, *_, groups = self.arrays(seed, last)
        t, tweight, tbias = tensors(x, weight, bias)
        theirs = torch.nn.functional
        same(F.group_norm(x, groups, weight, bias), theirs.group_norm(t, groups, tweight, tbias))
        same(F.group_norm(x, groups, bias=bias), theirs.group_norm(t, groups, None, tbias))
        same(F.group_norm(x, groups, eps=0.5), theirs.group_norm(t, groups, eps=0.5))

    @pytest.mark.sampled(3)
    def test_layer_and_rms_norm(self, seed: int, last: bool) -> None:
        x, *_ = self.arrays(seed, last)
        for count in range(1, x.ndim + 1):
            shape = x.shape[-count:]
            weight, bias = numbers(seed).standard_normal((2, *shape))
            t, tweight, tbias = tensors(x, weight, bias)
            theirs = torch.nn.functional
            same(F.layer_norm(x, shape, weight, bias), theirs.layer_norm(t, shape, tweight, tbias))
            same(F.rms_norm(x, shape, weight), theirs.rms_norm(t, shape, tweight))


def test_outputs_lie_in_memory_as_torchs_do() -> None:
    """Of what torch calls channels_last; its instance_norm alone makes another layout of it."""
    x = floats(2, 4, 5, 6).transpose(0, 3, 1, 2)
    mean, var = np.zeros(6, np.float32), np.ones(6, np.float32)
    t, tmean, tvar = torch.from_numpy(x), *tensors(mean, var)
    assert t.is_contiguous(memory_format=torch.channels_last)
    theirs = torch.nn.functional
    for ours, others in (
        (F.batch_norm(x, mean, var), theirs.batch_norm(t, tmean, tvar)),
        (F.batch_norm(x, None, None, training=True), theirs.batch_norm(t, None, None, training=True)),
        (F.group_norm(x, 3), theirs.group_norm(t, 3)),
    ):
        assert tuple(stride // ours.itemsize for stride in ours.strides) == others.stride()


def layer(x: Any, *parameters: Any) -> Any:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], *parameters, eps=1e-5)


def rms(x: Any, weight: Any) -> Any:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps=1e-5)


def batch(x: Any, weight: Any, bias: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)
    return y, x.mean(axes), x.var(axes, correction=0)


def inference(x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> Any:
    # torch's own has no gradients for the statistics.
    shape = (-1, *(1,) * (x.ndim - 2))
    scale = weight / (var + 1e-5).sqrt()
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


def rows(random: Any) -> Any:
    """x [... d]."""
    return 1 + 2 * random.standard_normal(
        (*random.integers(1, 5, random.integers(0, 3)), int(random.integers(2, 40)))
    )


def of_rows(*kinds: str) -> Any:
    """Arrays for a norm of rows: like x, or with its last dimension alone."""

    def make(random: Any) -> Any:
        x = rows(random)
        shapes = {"x": x.shape, "d": x.shape[-1:], "": ()}
        return [x, *(random.standard_normal(shapes[kind]) for kind in kinds)], {}

    return make


def of_images(random: Any) -> Any:
    x, weight, bias, groups = image(random)
    return [x, weight, bias], {"g": groups}


def without_groups(random: Any) -> Any:
    return of_images(random)[0], {}


def with_statistics(random: Any) -> Any:
    x, weight, bias, _ = image(random)
    return [x, bias.copy(), np.square(weight) + 0.5, weight, bias], {}


def adaptive(random: Any) -> Any:
    x = random.standard_normal((3, *random.integers(1, 5, random.integers(0, 3)), 7))
    return [x, *random.standard_normal((2, 3, 7))], {}


def modulated(x: Any, scale: Any, shift: Any) -> Any:
    shape = (len(x), *(1,) * (x.ndim - 2), -1)
    return layer(x) * (1 + scale.reshape(shape)) + shift.reshape(shape)


#: What torch computes, and arrays (and sizes) to compute it from.
FAMILY: dict[str, tuple[Any, Any]] = {
    "layer_norm": (lambda x, w, b, **_: layer(x, w, b), of_rows("d", "d")),
    "rms_norm": (lambda x, w, **_: rms(x, w), of_rows("d")),
    "add_layer_norm": (lambda x, r, w, b, **_: (layer(x + r, w, b), x + r), of_rows("x", "d", "d")),
    "add_rms_norm": (lambda x, r, w, **_: (rms(x + r, w), x + r), of_rows("x", "d")),
    "l2_norm": (lambda x, **_: torch.nn.functional.normalize(x, dim=-1), of_rows()),
    "softmax": (lambda x, **_: torch.softmax(x, -1), of_rows()),
    "log_softmax": (lambda x, **_: torch.log_softmax(x, -1), of_rows()),
    "dyt": (lambda x, a, w, b, **_: torch.tanh(a * x) * w + b, of_rows("", "d", "d")),
    "ada_layer_norm": (lambda x, scale, shift, **_: modulated(x, scale, shift), adaptive),
    "batch_norm": (lambda x, w, b, **_: batch(x, w, b), without_groups),
    "batch_norm_inference": (lambda *arrays, **_: inference(*arrays), with_statistics),
    "group_norm": (lambda x, w, b, g: torch.nn.functional.group_norm(x, g, w, b), of_images),
    "instance_norm": (
        lambda x, w, b, **_: torch.nn.functional.instance_norm(x, weight=w, bias=b),
        without_groups,
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAMILY)
def test_the_family(name: str, seed: int) -> None:
    """Outputs, and the gradients of all arguments for random cotangents of all outputs."""
    function, make = FAMILY[name]
    random = numbers(100 + seed)
    arrays, options = make(random)
    norm = getattr(lnc, name)
    results, ctx = norm.forward(*arrays, **options)
    given = [tensor.requires_grad_() for tensor in tensors(*arrays)]
    expected = function(*given, **options)
    several = isinstance(results, tuple)
    pairs = list(zip(results if several else [results], expected if several else [expected], strict=True))
    for ours, theirs in pairs:
        same(ours, theirs)
    dy = tuple(random.standard_normal(ours.shape) for ours, _ in pairs)
    gradients = norm.backward(dy if several else dy[0], ctx)
    torch.autograd.backward([theirs for _, theirs in pairs], tensors(*dy))
    for ours, tensor in zip(gradients, given, strict=True):
        same(ours, tensor.grad)


def test_the_family_is_all_there_is() -> None:
    norms = {name for name in lnc.__all__ if hasattr(getattr(lnc, name), "lnc_dispatcher")}
    assert norms == set(FAMILY)


class AsModule(torch.autograd.Function):  # type: ignore[misc]
    """A norm within autograd, as a user would put it there."""

    @staticmethod
    def forward(ctx: Any, norm: Any, options: Any, *arrays: Any) -> Any:
        result, ctx.kept = norm.forward(*(a.detach().numpy() for a in arrays), **options)
        ctx.norm = norm
        several = isinstance(result, tuple)
        return tuple(map(torch.from_numpy, result)) if several else torch.from_numpy(result)

    @staticmethod
    def backward(ctx: Any, *dy: Any) -> Any:
        given = tuple(np.ascontiguousarray(each.numpy()) for each in dy)
        gradients = ctx.norm.backward(given if len(given) > 1 else given[0], ctx.kept)
        return None, None, *(torch.from_numpy(np.asarray(gradient)) for gradient in gradients)


@pytest.mark.parametrize("name", FAMILY)
def test_gradcheck(name: str) -> None:
    """torch's own check of gradients by differences, element by element, on small arrays."""
    arrays, options = FAMILY[name][1](numbers(3))
    small = [tensor.requires_grad_() for tensor in tensors(*arrays)]
    assert torch.autograd.gradcheck(
        lambda *given: AsModule.apply(getattr(lnc, name), options, *given), small, eps=1e-6, atol=1e-5
    )
