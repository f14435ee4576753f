"""The C header of a library: documented prototypes, sizes of workspaces, numbers of units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lncompile import __version__
from lncompile.aot.cpu.describe import Record
from lncompile.backends.cpu.levels import UNSUPPORTED_CPU

_ROLES = {
    "input": "read",
    "output": "written",
    "saved": "statistics that the forward writes and the backward reads",
    "cotangent": "read: the gradient of {of}",
    "gradient": "written: the gradient of {of}",
    "workspace": "uninitialised memory for the calls of this phase",
}

_SHARED = f"""\
#ifndef LNC_SHARED
#define LNC_SHARED

/* What every function returns. */
#define LNC_SUCCESS 0
#define LNC_UNSUPPORTED_CPU {UNSUPPORTED_CPU} /* this CPU lacks instructions; nothing was written */

/* The OpenMP runtime of the program, for the functions that end in _run. */
typedef struct lnc_openmp {{
    void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags); /* GOMP_parallel */
    int (*thread_num)(void);  /* omp_get_thread_num */
    int (*num_threads)(void); /* omp_get_num_threads */
    int64_t threads;          /* at most so many; 0: as many as the runtime likes */
}} lnc_openmp;

/* Where a program is compiled with OpenMP: const lnc_openmp openmp = LNC_OPENMP; */
#ifdef _OPENMP
void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
#define LNC_OPENMP {{GOMP_parallel, omp_get_thread_num, omp_get_num_threads, 0}}
#endif

#endif /* LNC_SHARED */
"""


def header(record: Record, stem: str) -> str:
    """The text of ``STEM.h`` for what :func:`lncompile.aot.cpu.describe.described` says of a library."""
    guard = f"LNC_{stem.upper()}_H"
    parts = [
        _comment(_introduction(record)),
        f"#ifndef {guard}\n#define {guard}\n",
        "#include <stdint.h>\n#ifdef _OPENMP\n#include <omp.h>\n#endif\n",
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        _SHARED,
        *_functions(record),
        "#ifdef __cplusplus\n}\n#endif\n",
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(parts)


def _introduction(record: Record) -> list[str]:
    dtypes = ", ".join(f"{name} {dtype}" for name, dtype in record["dtype"].items())
    constants = ", ".join(f"{name}={value!r}" for name, value in record["constants"].items())
    return [
        f"{record['norm']}: {dtypes}{f'; {constants}' if constants else ''}.",
        f"Built by lncompile {__version__} for {', '.join(record['targets'])}.",
        "",
        "Arrays are contiguous in row-major order and aligned to their element type; float16 and bfloat16",
        "are uint16_t. rows is the number of rows of x: the product of its batch axes. Arrays of one call",
        "must not overlap where one is written, unless the comment says that they may be the same.",
        "",
        "A phase is all its calls in order. Each does the units of work begin <= i < end, so a call over",
        "0 .. its number of units may be cut anywhere and done by any threads at once; the bits of the",
        "result are the same. All pieces of a call come before the next call. Where units are rows, begin",
        "and end are row_begin and row_end. The function that ends in _run does a whole phase.",
        "",
        "Functions return LNC_SUCCESS or LNC_UNSUPPORTED_CPU. They are thread-safe: they keep nothing",
        "between calls, allocate nothing and call nothing but, in _run, the OpenMP that is given. Rounding",
        "mode and flushing of subnormal numbers are set for the time of a call and put back.",
    ]


def _functions(record: Record) -> Iterator[str]:
    for phase in ("forward", "backward"):
        calls, run = record[phase], record["run"][phase]
        yield from _workspaces(record, run)
        for number, call in enumerate(calls, 1):
            order = f", call {number} of {len(calls)}" if len(calls) > 1 else ""
            text = [f"The {phase}{order}.", "", *_parameters(record, call["params"])]
            yield _sized(
                f"{call['function']}_units", call["extent"], "The number of units of the call below."
            )
            yield _comment(text) + _prototype(call)
        text = [f"The whole {phase}, on the program's OpenMP or serially.", ""]
        yield _comment([*text, *_parameters(record, run["params"])]) + _prototype(run)


def _workspaces(record: Record, run: Record) -> Iterator[str]:
    stem = run["function"].removesuffix("_run")
    for param in run["params"]:
        array = record["buffers"].get(param.get("buffer"), {})
        if array.get("role") == "workspace":
            what = f"The number of elements of the workspace {param['name']}."
            yield _sized(f"{stem}_{param['name']}_elements", array["shape"][0], what)


def _sized(name: str, extent: int | str, what: str) -> str:
    value = f"(int64_t){extent}" if isinstance(extent, int) else extent
    unused = "" if "rows" in value else "    (void)rows;\n"
    return f"/* {what} */\nstatic inline int64_t {name}(int64_t rows) {{\n{unused}    return {value};\n}}\n"


def _parameters(record: Record, params: list[Record]) -> Iterator[str]:
    width = max(len(param["name"]) for param in params)
    for param in params:
        yield f"{param['name']:<{width}}  {_meaning(record, param)}"


def _meaning(record: Record, param: Mapping[str, Any]) -> str:
    if "range" in param:
        return {"begin": "the first unit to do", "end": "the unit after the last to do"}[param["range"]]
    if "openmp" in param:
        return "the OpenMP to use, NULL for none"
    if "buffer" not in param:
        if "value" in param:
            return f"a size: {param['value']} for the shape that was built for"
        return "the number of rows" if param["size"] == "rows" else f"a size: {param['size']}"
    array = record["buffers"][param["buffer"]]
    shape = ", ".join(str(extent) for extent in array["shape"])
    role = _ROLES[array["role"]].format(of=array.get("of"))
    if "optional" in param:
        role += ", or NULL"
    if shared := array.get("may_be"):
        role += f"; may be the same array as {' or '.join(shared)}"
    return f"{array['dtype']}[{shape}], {role}"


def _prototype(function: Record) -> str:
    params = ",\n".join(f"    {_declared(param)}" for param in function["params"])
    return f"{function['returns']} {function['function']}(\n{params});\n"


def _declared(param: Mapping[str, Any]) -> str:
    space = "" if param["ctype"].endswith("*") else " "
    return f"{param['ctype']}{space}{param['name']}"


def _comment(lines: list[str]) -> str:
    # A name may hold what ends a comment no more than an identifier may.
    body = "\n".join(f" * {re.sub(r'[*]/', '* /', line)}".rstrip() for line in lines)
    return f"/*\n{body}\n */\n"
