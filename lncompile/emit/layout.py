"""Lines that fit the project's line length, whatever the equation's names are.

# y = a very long comment             # y = a very
                              -->     #     long comment
name = a long expression              name = (
                                          a long expression
                                      )
"""

from __future__ import annotations

import re
import textwrap

LIMIT = 110
_ASSIGNMENT = re.compile(r"^( *)(\w+) (\+?=) (.+)$")


def fitted(line: str) -> list[str]:
    """``line`` as lines of at most ``LIMIT`` columns."""
    if len(line) <= LIMIT:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    if line.lstrip().startswith("#"):
        return textwrap.wrap(
            line.strip(),
            LIMIT,
            initial_indent=indent,
            subsequent_indent=f"{indent}#     ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    assignment = _ASSIGNMENT.match(line)
    if assignment is None:
        return [f"{line}  # noqa: E501"]
    _, name, sign, expression = assignment.groups()
    inner = [f"{indent}    {expression}"]
    if len(inner[0]) > LIMIT:
        inner = [f"{indent}    {part}" for part in re.split(r" (?=and |& )", expression)]
    inner = [part if len(part) <= LIMIT else f"{part}  # noqa: E501" for part in inner]
    return [f"{indent}{name} {sign} (", *inner, f"{indent})"]
