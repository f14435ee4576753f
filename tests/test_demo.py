"""The demo on real data: the network learns, the kernel is right, and everything is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lncompile.cli.demo import data, kernel, report
from lncompile.cli.demo.measure import gradients_numpy, layer_norm_numpy
from lncompile.errors import LncValueError
from lncompile.norms import layer_norm

EPOCHS = 3


def demo(directory: Path, *options: str, **environment: str) -> str:
    """The output of a demo with a cache of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "lncompile", "demo", "--epochs", str(EPOCHS), *options],
        env=os.environ | {"LNCOMPILE_CACHE_DIR": str(directory / "cache")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cache of all demos is."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def results(directory: Path) -> dict[str, Any]:
    """What the first demo found."""
    found: dict[str, Any] = json.loads(demo(directory, "--json"))
    return found


def test_digits_are_learned_and_sooner_with_layer_norm(results: dict[str, Any]) -> None:
    normalized, plain = results["training"]["layer_norm"], results["training"]["plain"]
    assert results["samples"] == 1797
    for run in (normalized, plain):
        assert len(run["losses"]) == EPOCHS
        assert all(later < earlier for earlier, later in zip(run["losses"], run["losses"][1:], strict=False))
        assert run["accuracy"] > 0.8
    assert normalized["losses"][-1] < plain["losses"][-1]


def test_activations_are_standardised(results: dict[str, Any]) -> None:
    for layer in results["layers"]:
        assert layer["mean_after"] < 1e-6
        assert abs(layer["std_after"] - 1) < 1e-3


def test_the_kernel_is_right(results: dict[str, Any]) -> None:
    for found in results["deviations"].values():
        assert [deviation["what"] for deviation in found] == ["y", "dx", "dweight", "dbias"]
        assert all(deviation["ulp"] < 8 for deviation in found)


def test_timings_are_complete(results: dict[str, Any]) -> None:
    timings = results["timings"]
    assert {timing["phase"] for timing in timings} == {"forward", "backward"}
    assert all(0 < timing["lower"] <= timing["median"] <= timing["upper"] for timing in timings)


def test_the_kernel_comes_from_the_cache_the_second_time(results: dict[str, Any], directory: Path) -> None:
    assert results["kernel"]["compiled"]
    library = results["kernel"]["library"]
    assert Path(library).is_relative_to(directory)
    assert Path(library).read_bytes().startswith(b"\x7fELF")
    said = demo(directory)
    assert "from the cache" in said
    assert library in said
    assert "def layer_norm(x" in said
    assert "def lnc_layer_norm_forward(" in said
    assert "\x1b" not in said


def test_an_image_of_ones_own(results: dict[str, Any], directory: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :80]
    waves = np.sin(x / 3) * np.cos(y / 4) * 100 + 128
    np.save(tmp_path / "waves.npy", np.stack([waves, waves[::-1]]).astype(np.uint8))
    found = json.loads(demo(directory, "--json", "--input", str(tmp_path / "waves.npy")))
    losses = found["training"]["layer_norm"]["losses"]
    assert losses[-1] < losses[0]


def test_without_scikit_learn_there_is_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    problem = data.load(None)
    assert problem.inputs.shape == (1800, 64)
    assert np.bincount(problem.labels, minlength=10).min() > 100


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.array(["text"]), "integers or floats"),
        (np.zeros(100), "expected shape"),
        (np.zeros((7, 100)), "at least 8x8"),
        (np.zeros((0, 20, 20)), "at least 8x8"),
        (np.zeros((20, 20)), "room for 200 patches"),
        (np.zeros((64, 64)), "one brightness"),
        (np.full((64, 64), np.nan), "NaN"),
    ],
)
def test_images_that_will_not_do(tmp_path: Path, image: np.ndarray, said: str) -> None:
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(LncValueError, match=said):
        data.load(tmp_path / "image.npy")


def test_a_file_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "image.npy").write_text("no image")
    with pytest.raises(LncValueError, match=r"not a \.npy file"):
        data.load(tmp_path / "image.npy")


def test_the_gradients_that_the_kernel_is_measured_by() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 4, 9))
    weight, bias, step = rng.normal(size=9), rng.normal(size=9), 1e-6

    def loss(x: Any, weight: Any, bias: Any) -> float:
        return float((layer_norm_numpy(x, weight, bias) * dy).sum())

    dx, dweight, dbias = gradients_numpy(x, weight, dy)
    change = rng.normal(size=x.shape)
    slope = (loss(x + step * change, weight, bias) - loss(x - step * change, weight, bias)) / (2 * step)
    assert slope == pytest.approx((dx * change).sum(), rel=1e-6)
    slope = (loss(x, weight + step, bias) - loss(x, weight - step, bias)) / (2 * step)
    assert slope == pytest.approx(dweight.sum(), rel=1e-6)
    slope = (loss(x, weight, bias + step) - loss(x, weight, bias - step)) / (2 * step)
    assert slope == pytest.approx(dbias.sum(), rel=1e-6)


def test_the_equation_is_shown_without_its_docstring() -> None:
    text = kernel.equation_text(layer_norm)
    assert text.startswith("@norm(")
    assert '"""' not in text
    assert "return (x - " in text


def test_bars_and_sparklines() -> None:
    assert (report.bar(0), report.bar(0.5), report.bar(1)) == ("", "█" * 8, "█" * 16)
    assert report.sparkline([1.0, 0.1, 0.01]) == "█▅▁"
    assert report.sparkline([2.0]) == "▁"
