"""What a tuner changes of schedules: one field, then two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import TypeAlias

#: Fields of a schedule that differ from the heuristic's, by name.
Changes: TypeAlias = Mapping[str, int]


def changes(tried: Mapping[str, tuple[int, ...]]) -> Iterator[Changes]:
    """No change, then one field, then two fields at a time with one of the values in ``tried`` each.

    More at once would be thousands of kernels, for gains that mostly add up.
    """
    for count in (0, 1, 2):
        for names in combinations(tried, count):
            for values in product(*(tried[name] for name in names)):
                yield dict(zip(names, values, strict=True))
