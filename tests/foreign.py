"""A program in another language, played by ctypes: it knows ``manifest.json`` and nothing of lncompile.

``Foreign`` calls the functions of one kernel of a directory with the parameters that the manifest lists, over
pieces of their extents that the caller chooses.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: From an extent to the places where it is cut.
Cuts = Callable[[int], list[int]]

DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)} | {
    name: np.dtype(name) for name in ("float16", "float32", "float64")
}


def whole(extent: int) -> list[int]:
    """One piece."""
    return [0, extent]


def pieces(extent: int) -> list[int]:
    """Pieces of many sizes, one of them empty."""
    return [0, *(cut for cut in (1, 1, 2, 5, 6, 11, 30) if cut < extent), extent]


def evaluated(extent: int | str, rows: int) -> int:
    """An extent of the manifest: C's integer arithmetic over ``rows``, none of it negative."""
    return extent if isinstance(extent, int) else int(eval(extent.replace("/", "//"), {}, {"rows": rows}))


class Foreign:
    """One kernel of a directory, and its library."""

    def __init__(self, directory: Path, at: int = 0) -> None:
        self.manifest = json.loads((directory / "manifest.json").read_text())
        self.kernel = self.manifest["kernels"][at]
        self.library = ctypes.CDLL(str(directory / self.kernel["library"]))

    def shape(self, name: str, rows: int) -> tuple[int, ...]:
        """The shape of an array for so many rows."""
        return tuple(evaluated(extent, rows) for extent in self.kernel["buffers"][name]["shape"])

    def arrays(self, given: Mapping[str, Array], rows: int) -> dict[str, Array]:
        """``given`` in the shapes that the manifest says, and all other arrays filled with a pattern."""
        found = {}
        for name, buffer in self.kernel["buffers"].items():
            shape = self.shape(name, rows)
            if name in given:
                found[name] = np.ascontiguousarray(given[name]).reshape(shape)
            else:
                found[name] = np.full(shape, 7.5, DTYPES[buffer["dtype"]])
        return found

    def run(self, phase: str, arrays: Mapping[str, Array], rows: int, cuts: Cuts = whole) -> int:
        """All calls of a phase in order, each in pieces, the last piece first; gives the last status."""
        status = 0
        for call in self.kernel[phase]:
            edges = cuts(evaluated(call["extent"], rows))
            for begin, end in reversed(list(pairwise(edges))):
                status = self._call(call, arrays, rows, begin, end)
        return status

    def run_whole(self, phase: str, arrays: Mapping[str, Array], rows: int, openmp: Any = None) -> int:
        """The function that does the whole phase."""
        return self._call(self.kernel["run"][phase], arrays, rows, openmp=openmp)

    def _call(
        self, call: Any, arrays: Mapping[str, Array], rows: int, *edges: int, openmp: Any = None
    ) -> int:
        function = self.library[call["function"]]
        function.restype = {"int32_t": ctypes.c_int32, "void": None}[call["returns"]]
        values: list[Any] = []
        for param in call["params"]:
            if "buffer" in param:
                assert re.fullmatch(r"(const )?(float|double|uint16_t) \*", param["ctype"])
                values.append(ctypes.c_void_p(arrays[param["buffer"]].ctypes.data))
            elif "openmp" in param:
                values.append(openmp)
            else:
                assert param["ctype"] == "int64_t"
                if "range" in param:
                    value = edges[("begin", "end").index(param["range"])]
                else:
                    value = evaluated(param["size"], rows) if "size" in param else param["value"]
                values.append(ctypes.c_int64(value))
        return int(function(*values))
