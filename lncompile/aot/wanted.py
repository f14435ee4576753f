"""What a build is asked for, and the names that follow from it.

layer_norm on 4096x1024 in float32    -->    layer_norm_1024_float32
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lncompile import axes as ax
from lncompile.errors import LncValueError
from lncompile.norm import Dispatcher
from lncompile.specialize import Specialization

#: Words that C or C++ keep for themselves, also as macros of standard headers that programs include.
KEYWORDS = frozenset(
    (
        *("NULL", "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break"),
        *(
            "case",
            "catch",
            "char",
            "class",
            "compl",
            "complex",
            "concept",
            "const",
            "const_cast",
            "consteval",
        ),
        *("constexpr", "constinit", "continue", "co_await", "co_return", "co_yield", "decltype", "default"),
        *("delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false"),
        *(
            "float",
            "for",
            "friend",
            "goto",
            "if",
            "imaginary",
            "inline",
            "int",
            "long",
            "mutable",
            "namespace",
        ),
        *("new", "noexcept", "noreturn", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private"),
        *("protected", "public", "register", "reinterpret_cast", "requires", "restrict", "return", "short"),
        *("signed", "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template"),
        *("this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename", "typeof", "union"),
        *("unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq"),
    )
)


@dataclass(frozen=True)
class Wanted:
    """One kernel to build, for some targets.

    ``name`` is what it is called (the norm's name, or another one); ``special`` is the specialization for the
    first target, ``sizes`` those of all axes in the shape that was given, batch axes included.
    """

    name: str
    dispatcher: Dispatcher
    special: Specialization
    sizes: ax.Sizes
    targets: tuple[str, ...]

    @property
    def stem(self) -> str:
        """What the names of the kernel's files and functions begin with: name, features, dtypes."""
        return "_".join(part for part in (c_name(self.name), self._features(), self._dtypes()) if part)

    def at(self, target: str) -> Specialization:
        """The specialization for one of the targets."""
        return self.special._replace(target=target)

    def only(self, targets: tuple[str, ...]) -> Wanted:
        """The same for some of the targets."""
        return replace(self, targets=targets)

    def _features(self) -> str:
        parts = []
        for name, size in self.special.sizes:
            if name == ax.ELLIPSIS:
                parts += [str(size) for size in self.special.dots]
            else:
                parts.append(str(size))
        return "x".join(parts)

    def _dtypes(self) -> str:
        given = dict(self.special.dtypes)
        each = [given.get(argument.name, "none") for argument in self.dispatcher.equation.arguments]
        parts = each[:1] if len(set(each)) == 1 else each
        if self.special.out_dtype is not None:
            parts = [*parts, "to", self.special.out_dtype]
        return "_".join(parts)


def c_name(name: str) -> str:
    """``name`` with letters, digits and underscores of ASCII alone."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def c_parameters(names: Iterable[str]) -> list[str]:
    """For each name one that C and C++ allow for a parameter; all differ."""
    chosen: list[str] = []
    for name in names:
        legal = c_name(name)
        while legal in KEYWORDS or legal in chosen:
            legal += "_"
        chosen.append(legal)
    return chosen


def distinct(wanted: Iterable[Wanted]) -> list[Wanted]:
    """What is wanted, each kernel once: other batch sizes of the same make no other kernel.

    Raises ``LncError`` where two kernels would have the same name.
    """
    found: dict[str, Wanted] = {}
    norms: dict[str, Dispatcher] = {}
    for one in wanted:
        if norms.setdefault(one.name, one.dispatcher) is not one.dispatcher:
            raise LncValueError(
                f"{one.name}: two norms have this name; give one another (the key of its table in a file)"
            )
        if 0 in dict(one.special.sizes).values():
            raise LncValueError(f"shape: {one.name} over zero features has nothing to build")
        earlier = found.setdefault(one.stem, one)
        if earlier.name != one.name or earlier.special.key != one.special.key:
            raise LncValueError(
                f"{one.name}: two kernels would be called {one.stem}; "
                "give one of them another name (the key of its table in a file)"
            )
    return list(found.values())
