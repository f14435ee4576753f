"""What a row remembers from one loop over it to the next: few values, none twice, and the same bits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers import arrays_for, compilation_of, run_emitted

import lncompile as lnc
from lncompile.emit import stage
from lncompile.emit.lower import lower
from lncompile.norms import softmax
from lncompile.rnn.equations import gru_step, lstm_step


@lnc.norm("n [d]")
def centred_twice(x: Any) -> Any:
    """One slow value under two cheap ones, both of which the second loop needs."""
    e = lnc.exp(x)
    return lnc.mean(e) + lnc.mean(2.0 * e + 1.0) + e * (2.0 * e + 1.0)


def memories(norm: Any, sizes: dict[str, int], dtype: str = "float32") -> tuple[list[str], list[str]]:
    """What the kernels of the forward and of the backward make memory for."""
    compilation = compilation_of(norm, sizes, dtype)
    source = lower(compilation.pair, compilation.schedule, compilation.request).source
    forward, backward = source.split(f"def lnc_{norm.__name__}_backward", 1)
    made = r"(\w+)_memory = f(?:32|64)_memory"
    return re.findall(made, forward), re.findall(made, backward)


def test_values_are_computed_once_and_as_few_remembered_as_do() -> None:
    forward, _ = memories(softmax, {"...": 4, "d": 300})
    assert forward == ["e"]
    forward, backward = memories(lstm_step, {"n": 4, "gate": 4, "d": 300})
    assert forward == ["new_c"], "of two sigmoids and a tanh"
    assert 1 <= len(backward) <= 8
    forward, _ = memories(centred_twice, {"n": 4, "d": 300})
    assert len(forward) == 1, "the exponential, not what is cheap to make of it"
    together, _ = memories(softmax, {"...": 4, "d": 200})
    assert "e" in together, "rows together have other memory, too"


@pytest.mark.parametrize(("norm", "sizes"), [(softmax, {"...": 2}), (lstm_step, {"n": 2, "gate": 4})])
def test_rows_too_long_for_the_stack_and_rows_in_the_lanes_remember_nothing(norm: Any, sizes: Any) -> None:
    assert memories(norm, sizes | {"d": 65536})[0] == []
    assert memories(softmax, {"...": 4, "d": 8}) == ([], [])


@pytest.mark.parametrize("features", [150, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "norm", [softmax, lstm_step, gru_step, centred_twice], ids=lambda norm: norm.__name__
)
def test_what_is_remembered_has_the_bits_that_it_would_have_again(
    norm: Any, dtype: str, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"...": 3, "n": 3, "gate": 2 if norm is gru_step else 4, "d": features}
    compilation = compilation_of(norm, sizes, dtype)
    inputs = (*compilation.program.inputs, *compilation.pair.backward.inputs)
    arrays = arrays_for(tuple(node for node in inputs if node.role in ("input", "cotangent")), sizes)
    remembering = run_emitted(compilation, arrays, sizes)
    monkeypatch.setattr(stage, "MOST_BYTES", 0)
    forgetting = run_emitted(compilation, arrays, sizes)
    assert remembering.keys() == forgetting.keys()
    for name, value in remembering.items():
        assert np.array_equal(value, forgetting[name], equal_nan=True), name
