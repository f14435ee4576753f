"""What build tools find libraries by: a pkg-config file, and a CMake package for ``find_package``.

Both find the files beside themselves, so that a directory may be moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lncompile import __version__

#: What CMake and compilers call each kind of processor.
_CMAKE = {"x86_64": "x86_64|AMD64|amd64", "aarch64": "aarch64|arm64|ARM64"}
_MACROS = {"x86_64": "__x86_64__", "aarch64": "__aarch64__"}


class Member(NamedTuple):
    """One library: the beginning of its files' names, its processor, and whether there is a static one."""

    stem: str
    processor: str
    static: bool


def package_files(name: str, members: Sequence[Member]) -> dict[str, str]:
    """The files of the package ``name``: one C header with all others, pkg-config's and CMake's."""
    if not members:
        return {}
    processors = list(dict.fromkeys(member.processor for member in members))
    files = {
        f"{name}.h": _umbrella(name, members, processors),
        f"{name}-config.cmake": _cmake(name, members, processors),
        f"{name}-config-version.cmake": _cmake_version(),
    }
    for processor in processors:
        # pkg-config does not know for which processor it is asked.
        label = name if len(processors) == 1 else f"{name}-{processor}"
        files[f"{label}.pc"] = _pkg_config(name, [m for m in members if m.processor == processor])
    return files


def _umbrella(name: str, members: Sequence[Member], processors: Sequence[str]) -> str:
    parts = [f"/* All kernels of {name}. */\n"]
    for processor in processors:
        lines = [f'#include "{m.stem}.h"\n' for m in members if m.processor == processor]
        parts.append(f"#if defined({_MACROS[processor]})\n{''.join(lines)}#endif\n")
    return "".join(parts)


def _pkg_config(name: str, members: Sequence[Member]) -> str:
    libraries = " ".join(f"-l:{member.stem}.so" for member in members)
    return (
        "prefix=${pcfiledir}\n\n"
        f"Name: {name}\n"
        "Description: normalization kernels compiled by lncompile\n"
        f"Version: {__version__}\n"
        "Cflags: -I${prefix}\n"
        f"Libs: -L${{prefix}} {libraries}\n"
    )


def _cmake(name: str, members: Sequence[Member], processors: Sequence[str]) -> str:
    text = [
        f"# Targets: {name}::STEM for each library, {name}::STEM_static where there is a static one,",
        f"# and {name}::{name} for all shared ones.",
        f"add_library({name}::{name} INTERFACE IMPORTED)",
    ]
    for processor in processors:
        text.append(f'if(CMAKE_SYSTEM_PROCESSOR MATCHES "^({_CMAKE[processor]})$")')
        for member in (m for m in members if m.processor == processor):
            target = f"{name}::{member.stem}"
            text += _imported(target, "SHARED", f"{member.stem}.so", f'IMPORTED_SONAME "{member.stem}.so"')
            if member.static:
                text += _imported(f"{target}_static", "STATIC", f"{member.stem}.a")
            text += [
                f"  set_property(TARGET {name}::{name} APPEND PROPERTY INTERFACE_LINK_LIBRARIES {target})"
            ]
        text.append("endif()")
    guard = f"if(TARGET {name}::{name})\n  return()\nendif()\n"
    return guard + "\n".join(text) + "\n"


def _imported(target: str, kind: str, file: str, *properties: str) -> list[str]:
    location = f'IMPORTED_LOCATION "${{CMAKE_CURRENT_LIST_DIR}}/{file}"'
    include = 'INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}"'
    settings = " ".join((location, *properties, include))
    return [
        f"  add_library({target} {kind} IMPORTED)",
        f"  set_target_properties({target} PROPERTIES {settings})",
    ]


def _cmake_version() -> str:
    return (
        f"set(PACKAGE_VERSION {__version__})\n"
        "if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)\n"
        "  set(PACKAGE_VERSION_EXACT TRUE)\n"
        "endif()\n"
        "if(NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)\n"
        "  set(PACKAGE_VERSION_COMPATIBLE TRUE)\n"
        "endif()\n"
    )
