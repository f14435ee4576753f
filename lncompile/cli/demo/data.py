"""What the demo learns from: handwritten digits, or patches of an image."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lncompile.errors import LncValueError

Array = np.ndarray[Any, np.dtype[Any]]

CLASSES = 10
SIDE = 8

_CENTRE = slice(SIDE // 2 - 1, SIDE // 2 + 1)

# As many as there are digits, so that the demo takes as long on any image.
_MOST_PATCHES = 1800
_FEWEST_PATCHES = 200


@dataclass(frozen=True)
class Problem:
    """Inputs [samples, 64] float32 and labels [samples] from 0 to 9, in random order."""

    title: str
    task: str
    inputs: Array
    labels: Array


def load(path: Path | None) -> Problem:
    """The image in ``path``, else the digits of scikit-learn, else the image that ships with the package.

    Raises ``LncError`` naming what is wrong with the file.
    """
    if path is not None:
        return from_image(_read(path), str(path))
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        shipped = resources.files("lncompile.cli.demo") / "image.npy"
        with resources.as_file(shipped) as file:
            return from_image(_read(file), "an image that ships with lncompile")
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return Problem(
        "handwritten digits (UCI, by way of scikit-learn)",
        "which digit is it",
        (digits.data[order] / 16).astype(np.float32),
        digits.target[order],
    )


def from_image(image: Array, title: str) -> Problem:
    """Patches of 8x8 with their centre hidden, and the centre's brightness, in ten classes, to be told.

    Brightness counts from the mean of the patch's other pixels, in units of their standard deviation.
    """
    patches = _patches(image if image.ndim == 3 else image[None])
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[_CENTRE, _CENTRE] = True
    visible = patches[:, ~hidden]
    spread = visible.std(axis=1)
    if np.count_nonzero(spread) < _FEWEST_PATCHES:
        raise LncValueError("input: nearly every patch is of one brightness, so there is nothing to learn")
    patches = (patches - visible.mean(axis=1)[:, None, None])[spread > 0] / spread[spread > 0, None, None]
    centre = patches[:, hidden].mean(axis=1)
    edges = np.quantile(centre, np.linspace(0, 1, CLASSES + 1)[1:-1])
    patches[:, hidden] = 0
    return Problem(
        title,
        "how bright is the hidden centre of an 8x8 patch, in ten classes",
        patches.reshape(len(patches), SIDE * SIDE).astype(np.float32),
        np.searchsorted(edges, centre, side="right"),
    )


def _read(path: Path) -> Array:
    try:
        image = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise LncValueError(f"input: {path} is not a .npy file of numbers") from None
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "uif":
        raise LncValueError(f"input: {path}: expected an array of integers or floats")
    if image.ndim not in (2, 3):
        raise LncValueError(f"input: {path}: expected shape (h, w) or (n, h, w); got {image.shape}")
    if min(image.shape[-2:]) < SIDE or not image.size:
        raise LncValueError(
            f"input: {path}: expected images of at least {SIDE}x{SIDE}; got shape {image.shape}"
        )
    if not np.isfinite(image).all():
        raise LncValueError(f"input: {path}: contains NaN or infinity")
    return image.astype(np.float64)


def _patches(images: Array) -> Array:
    """Random patches that overlap by half or more, an array of its own."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    count = int(np.prod(windows.shape[:3]))
    if count < _FEWEST_PATCHES:
        raise LncValueError(
            f"input: expected room for {_FEWEST_PATCHES} patches of {SIDE}x{SIDE}; got {count}"
        )
    chosen = np.random.default_rng(0).choice(count, min(count, _MOST_PATCHES), replace=False)
    return windows[np.unravel_index(chosen, windows.shape[:3])].copy()
