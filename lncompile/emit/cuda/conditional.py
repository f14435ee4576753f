"""Lines under conditions."""

from __future__ import annotations

from lncompile.emit.templates import fill


def only_if(conditions: list[str], lines: list[str]) -> list[str]:
    """``lines`` where all of the conditions hold; where they are one ``if`` themselves, it gets more."""
    if not conditions or not lines:
        return lines
    head, *rest = lines
    if head.startswith("if ") and rest and all(line.startswith("    ") for line in rest):
        conditions = [*conditions, head.removeprefix("if ").removesuffix(":")]
        lines = [line.removeprefix("    ") for line in rest]
    return fill("cuda/rows.py", "only_if", {"then": lines}, CONDITION=" and ".join(conditions))
