"""The library for AArch64, run: on an emulator where the processor is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="no emulator")

from emulator import AArch64
from foreign import evaluated

Array = np.ndarray[Any, np.dtype[Any]]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def kernel(rows_library: Path) -> dict[str, Any]:
    """The manifest's entry of the AArch64 library."""
    kernels = json.loads((rows_library / "manifest.json").read_text())["kernels"]
    return next(kernel for kernel in kernels if kernel["targets"] == ["cpu:aarch64"])


def test_layer_norm_on_aarch64(rows_library: Path, kernel: dict[str, Any]) -> None:
    library = AArch64((rows_library / kernel["library"]).read_bytes())
    rows = 70
    arrays = {
        name: np.zeros([evaluated(extent, rows) for extent in buffer["shape"]], np.float32)
        for name, buffer in kernel["buffers"].items()
    }
    for name in ("x", "weight", "bias", "dy"):
        arrays[name][...] = RNG.standard_normal(arrays[name].shape)

    def run(phase: str) -> None:
        for call in kernel[phase]:
            extent = evaluated(call["extent"], rows)
            for begin, end in ((extent // 3, extent), (0, extent // 3)):
                values: list[Array | int] = []
                for param in call["params"]:
                    if "buffer" in param:
                        values.append(arrays[param["buffer"]])
                    elif "range" in param:
                        values.append(begin if param["range"] == "begin" else end)
                    else:
                        values.append(evaluated(param["size"], rows))
                assert library.call(call["function"], *values) == 0

    run("forward")
    run("backward")
    x, weight, bias, dy = (arrays[name].astype(float) for name in ("x", "weight", "bias", "dy"))
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    normed = (x - x.mean(axis=1, keepdims=True)) * scale
    assert np.abs(arrays["y"] - (normed * weight + bias)).max() < 3e-6
    g = dy * weight
    dx = scale * (g - g.mean(axis=1, keepdims=True) - normed * (g * normed).mean(axis=1, keepdims=True))
    assert np.abs(arrays["dx"] - dx).max() < 5e-6
    assert np.abs(arrays["dweight"] - (dy * normed).sum(axis=0)).max() < 3e-5
    assert np.abs(arrays["dbias"] - dy.sum(axis=0)).max() < 3e-5

    # The whole phase serially: the OpenMP is NULL.
    whole = arrays | {"y": np.zeros_like(arrays["y"])}
    params = kernel["run"]["forward"]["params"]
    values = [whole[p["buffer"]] if "buffer" in p else rows if "size" in p else None for p in params]
    assert library.call(kernel["run"]["forward"]["function"], *values) == 0
    assert whole["y"].tobytes() == arrays["y"].tobytes()
