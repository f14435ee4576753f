"""PTX text to an `Entry`: what stands at a module's top level."""

from __future__ import annotations

import re

from .body import Body
from .syntax import Entry, PtxError
from .text import NAME, Function, Module, line_of, listed, matching, variables_of

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def parse(ptx: str, entry: str) -> Entry:
    """The entry of that name in a module."""
    module = _read_module(ptx)
    if entry not in module.entries:
        raise PtxError(f"the module has no .entry {entry}, but {', '.join(module.entries) or 'none'}")
    return Body(module).entry(module.entries[entry])


def _blank(match: re.Match[str]) -> str:
    """A comment as white space, so that lines keep their numbers."""
    return re.sub(r"[^\n]", " ", match[0])


FUNCTION = re.compile(
    rf"(?:\.(?:visible|weak|extern|common|entry|func|noreturn)\s+)*?\.(entry|func)\s*"
    rf"(?:\(([^)]*)\)\s*)?({NAME})\s*(?:\(([^)]*)\))?([^{{;]*)([{{;])"
)


def _read_module(ptx: str) -> Module:
    text = COMMENT.sub(_blank, ptx)
    module, position = Module(), 0
    while (match := re.compile(r"\S").search(text, position)) is not None:
        start = match.start()
        function = FUNCTION.match(text, start)
        if function is not None:
            kind, results, name, parameters, directives, last = function.groups()
            position = function.end()
            if last == "{":
                position = matching(text, function.end() - 1) + 1
                into = module.entries if kind == "entry" else module.functions
                into[name] = Function(
                    name,
                    listed(results),
                    listed(parameters),
                    tuple(directives.split()),
                    text,
                    function.end(),
                    position - 1,
                )
        elif (section := re.compile(r"\.section[^{]*\{").match(text, start)) is not None:
            position = matching(text, section.end() - 1) + 1
        elif (
            skip := re.compile(r"\.(version|target|address_size|file)\b[^\n]*").match(text, start)
        ) is not None:
            position = skip.end()
        else:
            position = text.find(";", start) + 1
            if position == 0:
                raise PtxError(f"line {line_of(text, start)}: cannot read {text[start : start + 60]!r}")
            module.variables += variables_of(text[start : position - 1])
    return module
