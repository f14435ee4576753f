"""What a build is asked for, and the names that follow from it.

layer_norm on 4096x1024 in float32    -->    layer_norm_1024_float32
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from lncompile import axes as ax
from lncompile.aot.target import kind_of
from lncompile.errors import LncValueError
from lncompile.norm import Dispatcher
from lncompile.specialization import Specialization

#: Words that C or C++ keep for themselves, also as macros of standard headers that programs include, and
#: types that the library's own header uses.
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
        *("int32_t", "int64_t", "uint16_t"),
        *("unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq"),
    )
)


@dataclass(frozen=True)
class Wanted:
    """One kernel to build, for some targets.

    ``name`` is what it is called (the norm's name, or another one); ``special`` is the specialization for the
    first target, ``sizes`` those of all axes in the shape that was given, batch axes included. Targets of one
    kind have the same specialization but for their names.
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

    @property
    def kind(self) -> str:
        """The kind of the first target, such as ``cpu``."""
        return kind_of(self.targets[0])

    def kinds(self) -> list[Wanted]:
        """The same for the targets of each kind."""
        kinds = dict.fromkeys(map(kind_of, self.targets))
        return [self._only(tuple(t for t in self.targets if kind_of(t) == kind)) for kind in kinds]

    def record(self, targets: Iterable[str]) -> dict[str, Any]:
        """What a manifest says of the kernel whatever it is for."""
        dtypes = dict(self.special.dtypes)
        return {
            "norm": self.name,
            "targets": list(targets),
            "dtype": {n: dtypes[n] for n in self.dispatcher.signature.arguments if n in dtypes},
            "constants": dict(self.special.constants),
        }

    def _only(self, targets: tuple[str, ...]) -> Wanted:
        options = dict(self.special.constants)
        if self.special.out_dtype is not None:
            options["out_dtype"] = self.special.out_dtype
        dtypes = dict(self.special.dtypes)
        # Other sizes are fixed for a device than for a CPU.
        special = self.dispatcher.specialization(dtypes, self.sizes, options, targets[0])
        return replace(self, special=special, targets=targets)

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
    """What is wanted, each kernel once a kind of target: other batch sizes of the same make no other kernel.

    Raises ``LncError`` where two kernels would have the same name.
    """
    found: dict[tuple[str, str], Wanted] = {}
    norms: dict[str, Dispatcher] = {}
    for one in wanted:
        if norms.setdefault(one.name, one.dispatcher) is not one.dispatcher:
            raise LncValueError(
                f"{one.name}: two norms have this name; give one another (the key of its table in a file)"
            )
        if 0 in dict(one.special.sizes).values():
            raise LncValueError(f"shape: {one.name} over zero features has nothing to build")
        earlier = found.setdefault((one.kind, one.stem), one)
        if earlier.name != one.name or earlier.special.key != one.special.key:
            raise LncValueError(
                f"{one.name}: two kernels would be called {one.stem}; "
                "give one of them another name (the key of its table in a file)"
            )
    return list(found.values())
