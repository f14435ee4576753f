"""Which patterns kernels are generated for: the one switch that random programs and promises obey."""

from __future__ import annotations

from typing import Literal

#: ``rows``: batch axes outside, feature axes inside, parameters over all of either, reductions over all
#: features. ``every``: whatever can be written.
Form = Literal["rows", "every"]

GENERATED: Form = "every"
