"""Emitted source to LLVM IR: Numba types it and writes unoptimised code, free of Numba's runtime."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as lir
from numba.core import codegen, compiler, typed_passes, types, untyped_passes
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target
from numba.core.types.misc import CPointer
from numba.core.typing import Context

from lncompile.backends.cpu import (
    arithmetic,
    checks,
    floating_point,
    folds,
    memory,
    operators,  # noqa: F401  # imported for what it registers
    scratch,
    tiles,
    values,
    vectors,
    windows,
)
from lncompile.backends.cpu.lowering import KernelLowering
from lncompile.backends.cpu.target import CpuTarget
from lncompile.backends.cpu.webs import SplitIntoWebs
from lncompile.digest import short_digest
from lncompile.emit.lower import Function, Lowered
from lncompile.interrupts import interrupts_held

#: What kernels call, as inline LLVM instructions; ``emit/standins.py`` gives the same names the same meaning.
_LANGUAGE = (memory, values, arithmetic, checks, folds, scratch, tiles, windows)
_SCALARS = {
    "float16": vectors.float16,
    "bfloat16": vectors.bfloat16,
    "float32": types.float32,
    "float64": types.float64,
}


class _RawLibrary(codegen.AOTCodeLibrary):
    """Collects modules and leaves optimising to ``pipeline.py``, which knows the target."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass


class _RawCodegen(codegen.AOTCPUCodegen):
    _library_class = _RawLibrary


class _KernelCompiler(compiler.CompilerBase):
    """The passes that a kernel needs: no closures, arrays or objects. Half the time of Numba's full list."""

    def define_pipelines(self) -> list[Any]:
        manager = compiler.PassManager("kernel")
        for stage in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            SplitIntoWebs,
            typed_passes.NopythonTypeInference,
            KernelLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(stage, stage.__name__)
        manager.finalize()
        return [manager]


class _KernelContext(CPUContext):
    """Compiles numbers, ranges and tuples. Numba's own loads arrays, strings and lists, and SciPy: 0.28 s."""

    def load_additional_registries(self) -> None:
        from numba.cpython import (  # noqa: F401  # imported for what they register
            builtins,
            iterators,
            numbers,
            rangeobj,
            tupleobj,
        )

        # Where others have compiled before, what overloads define may go to any registry that they loaded.
        for registry in tuple(self._registries):
            self.install_registry(registry)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Add nothing: kernels have no objects that a runtime would count."""


class _KernelTyping(Context):
    """Types calls, each kind once a module: kernels make the same ones hundreds of times.

    Of the 1333 calls of layer norm of 1024 features 314 are left: 0.36 s of typing under a profiler, not 1.5.
    """

    lnc_signatures: dict[Any, Any]

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The signature of a call."""
        call = (func, args, tuple(kws.items()))
        found = self.lnc_signatures.get(call)
        if found is None:
            found = self.lnc_signatures[call] = super().resolve_function_type(func, args, kws)
        return found


@contextmanager
def _kernel_context() -> Iterator[Any]:
    """Numba's context of the CPU, which intrinsics are defined in, as one of kernels; the lock is held.

    What else is compiled in this process, before or after, loads what it needs.
    """
    context, typing = cpu_target.target_context, cpu_target.typing_context
    before = context.__class__, typing.__class__
    context.__class__, typing.__class__ = _KernelContext, _KernelTyping
    typing.lnc_signatures = {}
    try:
        yield context
    finally:
        context.__class__, typing.__class__ = before
        del typing.lnc_signatures


def prepare() -> None:
    """Let Numba load what it types and compiles with, once a process."""
    with interrupts_held(), global_compiler_lock, _kernel_context() as context:
        cpu_target.typing_context.refresh()
        context.refresh()


def raw_ir(lowered: Lowered, target: CpuTarget) -> str:
    """One LLVM module with every function of ``lowered`` as a C function; private names end in no counter."""
    namespace = _executed(lowered.source)
    prepare()
    with interrupts_held() as let_interrupts_in, global_compiler_lock, _kernel_context() as context:
        return _linked(context, namespace, lowered.functions, target, let_interrupts_in)


def _linked(
    context: Any,
    namespace: dict[str, Any],
    functions: Sequence[Function],
    target: CpuTarget,
    between: Callable[[], None],
) -> str:
    context = context.subtarget(_internal_codegen=_RawCodegen("lncompile"), aot_mode=True)
    context.lnc_target = target  # for the intrinsics
    library = context.codegen().create_library("lncompile")
    for function in functions:
        _add(context, library, namespace[function.name], function, target)
        between()
    library.finalize()
    return str(library._final_module)


def _executed(source: str) -> dict[str, Any]:
    """The module's functions, over the intrinsics instead of the stand-ins."""
    path = f"<lncompile {short_digest(source)}>"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    namespace: dict[str, Any] = {}
    exec(compile(source, path, "exec"), namespace)
    for name in namespace:
        for words in _LANGUAGE:
            namespace[name] = getattr(words, name, namespace[name])
    return namespace


def _add(context: Any, library: Any, kernel: Any, function: Function, target: CpuTarget) -> None:
    arguments = [CPointer(_SCALARS[dtype]) for _, dtype in function.pointers]
    arguments += [types.int64] * (len(function.sizes) + 2)
    result = compiler.compile_extra(
        cpu_target.typing_context,
        context,
        kernel,
        tuple(arguments),
        types.int32,
        _flags(),
        locals={},
        library=library,
        pipeline_class=_KernelCompiler,
    )
    module = library.create_ir_module(function.name)
    convention = context.call_conv
    callee_type = convention.get_function_type(result.fndesc.restype, result.fndesc.argtypes)
    callee = lir.Function(module, callee_type, result.fndesc.llvm_func_name)
    parameters = [context.get_value_type(kind) for kind in arguments]
    exported = lir.Function(module, lir.FunctionType(lir.IntType(32), parameters), function.name)
    builder = lir.IRBuilder(exported.append_basic_block("entry"))
    restore = floating_point.use_defaults(builder, target)
    # Kernels neither raise nor divide by a number that may be zero, so the status is always "done".
    _, value = convention.call_function(
        builder, callee, result.fndesc.restype, result.fndesc.argtypes, exported.args
    )
    restore()
    builder.ret(value)
    library.add_ir_module(module)


def _flags() -> compiler.Flags:
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_pyobject = False
    flags.boundscheck = False
    flags.nrt = False
    return flags
