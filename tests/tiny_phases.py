"""Small phases whose kernels are a few lines of LLVM IR, compiled and loaded: what calls are tested on."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import llvmlite.binding as llvm

from lncompile.backends.cpu import elf
from lncompile.backends.cpu.entry import entry_ir
from lncompile.interface import Buffer, Call, Phase, Size


def _kernel(name: str, pointers: str, sizes: str, width: str | int, body: str, rows_per_unit: int = 1) -> str:
    """A C function over elements %e of rows of ``width``: %row and %col; units are one or more rows each."""
    parameters = [f"ptr %{name}" for name in pointers.split()] + [f"i64 %{name}" for name in sizes.split()]
    last_row = "%rows" if rows_per_unit > 1 else "%uncut"
    return f"""
define i32 @{name}({", ".join(parameters)}, i64 %begin, i64 %end) {{
  %begin_row = mul i64 %begin, {rows_per_unit}
  %uncut = mul i64 %end, {rows_per_unit}
  %end_row = call i64 @llvm.smin.i64(i64 %uncut, i64 {last_row})
  %first = mul i64 %begin_row, {width}
  %last = mul i64 %end_row, {width}
  br label %loop
loop:
  %e = phi i64 [%first, %0], [%next, %more]
  %done = icmp sge i64 %e, %last
  br i1 %done, label %exit, label %more
more:
  %row = udiv i64 %e, {width}
  %col = urem i64 %e, {width}
  {body}
  %next = add i64 %e, 1
  br label %loop
exit:
  ret i32 0
}}
"""


def _load(result: str, pointer: str, index: str) -> str:
    place = f"%{result}.p = getelementptr float, ptr %{pointer}, i64 %{index}\n"
    return place + f"  %{result} = load float, ptr %{result}.p\n"


def _store(value: str, pointer: str, index: str) -> str:
    place = f"%{value}.to = getelementptr float, ptr %{pointer}, i64 %{index}\n"
    return place + f"  store float %{value}, ptr %{value}.to\n"


def _buffer(name: str, role: str, *dims: int | str, optional: bool = False) -> Buffer:
    return Buffer(name, role, "float32", dims, optional=optional)  # type: ignore[arg-type]


#: y = 2 x + weight + bias; mean = the last element of x; share = where the range began that did this row.
ROWS = Phase(
    "rows_entry",
    (
        _buffer("x", "input", "...", 64),
        _buffer("weight", "input", 64),
        _buffer("bias", "input", 64),
        _buffer("y", "output", "...", 64),
        _buffer("mean", "saved", "..."),
        _buffer("share", "saved", "..."),
    ),
    (Size("rows", ("...",)),),
    (Call("rows", ("x", "weight", "bias", "y", "mean", "share"), "rows", "64"),),
)

_ROWS_IR = _kernel(
    "rows",
    "x weight bias y mean share",
    "rows",
    64,
    _load("x_", "x", "e")
    + _load("w", "weight", "col")
    + _load("b", "bias", "col")
    + "%double = fmul float %x_, 2.0\n %sum = fadd float %double, %w\n %result = fadd float %sum, %b\n"
    + _store("result", "y", "e")
    + _store("x_", "mean", "row")
    + "%began = sitofp i64 %begin to float\n"
    + _store("began", "share", "row"),
)

#: dx = dy x; partial = dx; dw[0] = the sum of dx[:, 0], by a second call. Four rows a unit, 8 features.
SUMS = Phase(
    "sums_entry",
    (
        _buffer("dy", "cotangent", "b", "...", 8),
        _buffer("x", "input", "b", "...", 8),
        _buffer("dx", "gradient", "b", "...", 8),
        _buffer("dw", "gradient", 8),
        _buffer("partial", "workspace", "(rows + 3) / 4 * 4 * 8 - 2 * (1 - 1)"),
    ),
    (Size("rows", ("b", "...")), Size("b", ("b",)), Size("one", ())),
    (
        Call("products", ("dy", "x", "dx", "partial"), "(rows + 3) / 4", "32"),
        Call("sums", ("partial", "dw"), "1", "1"),
    ),
)

_SUMS_IR = _kernel(
    "products",
    "dy x dx partial",
    "rows b one",
    8,
    _load("dy_", "dy", "e")
    + _load("x_", "x", "e")
    + "%product = fmul float %dy_, %x_\n"
    + _store("product", "dx", "e")
    + "%same = fadd float %product, 0.0\n"
    + _store("same", "partial", "e"),
    rows_per_unit=4,
) + _kernel(
    "sums",
    "partial dw",
    "rows b one",
    "%rows",
    "%at = mul i64 %e, 8\n %first_col = mul i64 %col, 0\n"
    + _load("old", "dw", "first_col")
    + _load("new", "partial", "at")
    + "%is_first = icmp eq i64 %e, 0\n %before = select i1 %is_first, float 0.0, float %old\n"
    + "%total = fadd float %before, %new\n"
    + _store("total", "dw", "first_col"),
)

#: y[b, n, :] = x[b, n, :] + scale[b, :], with x itself for an absent scale; n comes after the group.
SCALES = Phase(
    "scales_entry",
    (
        _buffer("room", "workspace", "b * 2", optional=True),
        _buffer("scale", "input", "b", 4, optional=True),
        _buffer("x", "input", "b", "...", "n", 4),
        _buffer("y", "output", "b", "...", "n", 4),
        _buffer("last", "saved", "n", "...", optional=True),
    ),
    (Size("b", ("b",)), Size("inner", ("...", "n"))),
    (Call("scales", ("scale", "x", "y"), "b", "1"),),
)

_SCALES_IR = _kernel(
    "scales",
    "scale x y",
    "b inner",
    "%wide",
    "%c = urem i64 %col, 4\n %start = mul i64 %row, 4\n %k = add i64 %start, %c\n"
    + "%absent = icmp eq ptr %scale, null\n"
    + "%from = select i1 %absent, ptr %x, ptr %scale\n %index = select i1 %absent, i64 %e, i64 %k\n"
    + _load("x_", "x", "e")
    + _load("s", "from", "index")
    + "%sum = fadd float %x_, %s\n"
    + _store("sum", "y", "e"),
).replace("%begin_row =", "%wide = mul i64 %inner, 4\n  %begin_row =", 1)

_IR = "declare i64 @llvm.smin.i64(i64, i64)\n" + _ROWS_IR + _SUMS_IR + _SCALES_IR


def build(directory: Path, *phases: Phase, ir: str = _IR) -> ctypes.CDLL:
    """A loaded library with the entry points of ``phases`` and the functions that they call."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, reloc="pic", codemodel="default")
    module = llvm.parse_assembly(ir)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    for phase in phases:
        part = llvm.parse_assembly(entry_ir(phase))
        part.triple, part.data_layout = module.triple, module.data_layout
        module.link_in(part)
    module.verify()
    options = llvm.create_pipeline_tuning_options(3)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    exports = [phase.entry for phase in phases]
    exports += sorted({call.function for phase in phases for call in phase.calls})
    library = directory / "tiny.so"
    library.write_bytes(elf.link(machine.emit_object(module), exports, library.name))
    return ctypes.CDLL(os.fspath(library))
