"""Handwritten digits: those that ship with scikit-learn, or files of MNIST."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lncompile.cli.demo.data import CLASSES, Array

#: As in the paper: of MNIST's 60 000, the other 5000 are for choosing settings, which nothing here does.
_MNIST_TRAINING = 55_000

_DIGITS_TEST_SHARE = 1 / 6


class NotImages(ValueError):
    """Images are missing, or are not what they should be."""


@dataclass(frozen=True)
class Images:
    """Inputs [samples, pixels] float32 from 0 to 1, and labels [samples] from 0 to 9."""

    title: str
    inputs: Array
    labels: Array
    test_inputs: Array
    test_labels: Array

    def first(self, count: int | None) -> Images:
        """No more than so many of each, for a quick look; all of them without a number."""
        parts = (self.inputs, self.labels, self.test_inputs, self.test_labels)
        return Images(self.title, *(part[:count] for part in parts))


def digits() -> Images:
    """The 1797 digits of 8x8 that scikit-learn ships, in an order of their own; the last sixth is unseen.

    Raises:
        NotImages: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise NotImages("the digits ship with scikit-learn: pip install 'lncompile[paper]'") from None
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    inputs = (found.data[order] / 16).astype(np.float32)
    labels = found.target[order]
    count = len(labels) - int(len(labels) * _DIGITS_TEST_SHARE)
    return Images("scikit-learn's digits", inputs[:count], labels[:count], inputs[count:], labels[count:])


def mnist(folder: Path) -> Images:
    """MNIST's four files, packed by gzip or not: the first 55 000 images to learn from, 10 000 unseen.

    Raises:
        NotImages: a file is missing, damaged, or something else.
    """
    parts = []
    for part in ("train", "t10k"):
        images, labels = (
            _read(_find(folder, part, f"{kind}-idx{dimensions}-ubyte"), dimensions)
            for kind, dimensions in (("images", 3), ("labels", 1))
        )
        if len(images) != len(labels):
            raise NotImages(f"{folder}: expected a label for each of {len(images)} images; got {len(labels)}")
        if not len(images):
            raise NotImages(f"{folder}: expected images; got none")
        if labels.max() >= CLASSES:
            raise NotImages(f"{folder}: expected labels from 0 to 9; got {labels.max()}")
        inputs = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
        parts += [inputs[:_MNIST_TRAINING], labels[:_MNIST_TRAINING].astype(np.int64)]
    if parts[0].shape[1] != parts[2].shape[1]:
        raise NotImages(f"{folder}: expected images of one size; got two")
    return Images("MNIST", *parts)


def _find(folder: Path, part: str, kind: str) -> Path:
    names = [f"{part}-{kind}", f"{part}-{kind}.gz", f"{part}-{kind.replace('-idx', '.idx')}"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise NotImages(f"{folder}: expected one of the files {', '.join(names)}")


def _read(path: Path, dimensions: int) -> Array:
    """The bytes of an idx file: two zeros, 8 for bytes, the number of dimensions, their sizes, the bytes."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise NotImages(f"{path}: cannot be read ({error})") from None
    head = 4 + 4 * dimensions
    if len(data) < head or data[:4] != bytes((0, 0, 8, dimensions)):
        raise NotImages(f"{path}: expected an idx file of bytes with {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(data[4:head], ">u4"))
    if len(data) - head != int(np.prod(shape, dtype=object)):
        raise NotImages(f"{path}: expected {shape} bytes after the header; got {len(data) - head}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
