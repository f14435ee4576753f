"""The function of a library that Python calls: it checks its arrays and executes a phase, all in native code.

The entry point of a phase has the form METH_FASTCALL, ``PyObject *NAME(PyObject *self, PyObject **args,
Py_ssize_t nargs)``, and is built from the :class:`Phase` alone. ``self`` is the array of
:mod:`lncompile.backends.cpu.runtime` that holds all that the function needs of the process. It goes::

    types -> dtypes and flags -> shapes -> sizes -> overlaps --if any is wrong--> NotImplemented
                                              |
          each call in order, serial or on threads of OpenMP -------------------> None

Nothing is written before the last check. :func:`lncompile.backends.cpu.calls.accepts` is the same in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any

from llvmlite import ir

from lncompile.backends.cpu import runtime
from lncompile.backends.cpu.calls import may_coincide, required_count, workspace_expression
from lncompile.backends.cpu.parallel import OpenMP, call_indirect, declared, evaluated, run_units
from lncompile.backends.cpu.runtime import DTYPE_NUMBERS, Slot
from lncompile.dtypes import TABLE
from lncompile.errors import CompilerBug
from lncompile.interface import WRITTEN, Buffer, Call, Phase
from lncompile.memory import ALIGNMENT

_BOOL, _BYTE, _INT32, _INT64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POINTER = ir.PointerType()


def entry_ir(phase: Phase) -> str:
    """LLVM IR of ``phase.entry``, to be linked into the module that defines the phase's C functions.

    The text names no target and no data layout: give it those of the module that it goes into.

    Raises:
        CompilerBug: a batch axis occurs in optional buffers alone, or the size of a workspace is not an
            expression of the phase's sizes.
    """
    return str(_Entry(phase).module)


#: Parts are done so many at a time that they have about as many elements: half a MiB of float32 an array.
_CACHED_ELEMENTS = 1 << 17
#: Where threads get so many parts at least, one part more or less matters little.
_PARTS_OF_A_THREAD = 8


@dataclass(frozen=True)
class _Task:
    """A call with its arguments, number of units and number of elements, known to the code built so far."""

    call: Call
    arguments: list[Any]
    units: Any
    work: Any


@dataclass
class _Argument:
    """One argument, as far as the code built so far knows it: ``data`` and ``bytes`` once it is checked."""

    buffer: Buffer
    object: Any
    ndim: Any = None
    data: Any = None
    bytes: Any = None


class _Entry:
    """The module of one entry point, built step by step in the order of its checks."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.module = ir.Module(phase.entry)
        self.module.triple = ""
        self.matched_size = self._define_matched_size()
        self.function = self._new_function(
            phase.entry, _POINTER, {"self": _POINTER, "args": _POINTER, "n": _INT64}
        )
        self.build = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.miss = self.function.append_basic_block("miss")
        self.required: list[Any] = []
        self.axes: dict[str, Any] = {}
        self.group: tuple[Any, Any] | None = None
        self.sizes: dict[str, Any] = {}

        self.table = self._field(self.function.args[0], runtime.ARRAY_DATA, _POINTER, "table")
        arguments = self._check_types()
        self._check_arrays(arguments)
        self._check_overlaps(arguments)
        units = [self._evaluated(call.units) for call in phase.calls]
        works = [
            self.build.mul(n, self._evaluated(call.unit_work))
            for n, call in zip(units, phase.calls, strict=True)
        ]
        python_threads_from = self._slot(Slot.PYTHON_THREADS_FROM)
        for work in works:
            self._require(self.build.icmp_signed("<", work, python_threads_from))
        self._settle("execute")
        self._execute({a.buffer.name: a.data for a in arguments}, units, works)
        self._return(Slot.NONE)
        self.build.position_at_end(self.miss)
        self._return(Slot.NOT_IMPLEMENTED)

    # Checks

    def _check_types(self) -> list[_Argument]:
        _, objects, count = self.function.args
        least, most = required_count(self.phase), len(self.phase.buffers)
        self._require(self.build.icmp_signed(">=", count, _int(least)))
        self._require(self.build.icmp_signed("<=", count, _int(most)))
        self._settle("counted")
        ndarray, none = self._slot(Slot.NDARRAY, _POINTER), self._slot(Slot.NONE, _POINTER)
        arguments = []
        for index, buffer in enumerate(self.phase.buffers):
            place = self._place(objects, _int(index))
            if index >= least:
                given = self.build.icmp_signed("<", _int(index), count)
                place = self.build.select(given, place, self._place(self.table, _int(Slot.NONE)))
            argument = _Argument(buffer, self.build.load(place, typ=_POINTER, name=buffer.name))
            if buffer.role == "absent":
                self._require(self.build.icmp_unsigned("==", argument.object, none))
                continue
            type_ = self._field(argument.object, runtime.OBJECT_TYPE, _POINTER)
            right = self.build.icmp_unsigned("==", type_, ndarray)
            if buffer.optional:
                right = self.build.or_(right, self.build.icmp_unsigned("==", argument.object, none))
            self._require(right)
            arguments.append(argument)
        self._settle("typed")
        return arguments

    def _check_arrays(self, arguments: list[_Argument]) -> None:
        firm = [a for a in arguments if not a.buffer.optional]
        for argument in firm:
            self._check_header(argument)
        self._settle("headed")
        for argument in firm:
            if argument.buffer.role != "workspace":
                self._check_dims(argument)
        self._settle("shaped")
        # All sizes are known from here on: what follows is compared with them.
        self._bind_sizes()
        for argument in firm:
            self._check_extent(argument)
        self._settle("sized")
        for argument in arguments:
            if argument.buffer.optional:
                self._check_optional(argument)

    def _check_optional(self, argument: _Argument) -> None:
        absent = self.build.block
        none = self._slot(Slot.NONE, _POINTER)
        with self.build.if_then(self.build.icmp_unsigned("!=", argument.object, none)):
            self._check_header(argument)
            self._settle(f"{argument.buffer.name}.headed")
            if argument.buffer.role != "workspace":
                self._check_dims(argument)
            self._check_extent(argument)
            self._settle(f"{argument.buffer.name}.shaped")
            present = self.build.block
        argument.data = self._merge(argument.data, present, _POINTER(None), absent)
        argument.bytes = self._merge(argument.bytes, present, _int(0), absent)

    def _check_header(self, argument: _Argument) -> None:
        buffer, object_ = argument.buffer, argument.object
        descr = self._field(object_, runtime.ARRAY_DESCR, _POINTER)
        number = self._field(descr, runtime.DESCR_TYPE_NUM, _INT32)
        fixed = TABLE[buffer.dtype].number
        expected = self._slot(DTYPE_NUMBERS[buffer.dtype], _INT32) if fixed is None else _INT32(fixed)
        self._require(self.build.icmp_signed("==", number, expected))
        # Of the four, '=' '|' '<' '>', only the last is foreign where the self-test holds.
        order = self._field(descr, runtime.DESCR_BYTEORDER, _BYTE)
        self._require(self.build.icmp_unsigned("!=", order, _BYTE(ord(">"))))
        needed = _INT32(runtime.WRITABLE if buffer.role in WRITTEN else runtime.READABLE)
        flags = self._field(object_, runtime.ARRAY_FLAGS, _INT32)
        self._require(self.build.icmp_unsigned("==", self.build.and_(flags, needed), needed))
        ndim = self._field(object_, runtime.ARRAY_NDIM, _INT32)
        if "..." in buffer.dims:
            self._require(self.build.icmp_signed(">=", ndim, _INT32(len(buffer.dims) - 1)))
        else:
            self._require(self.build.icmp_signed("==", ndim, _INT32(len(buffer.dims))))
        argument.ndim = self.build.zext(ndim, _INT64)
        argument.data = self._field(object_, runtime.ARRAY_DATA, _POINTER, f"{buffer.name}.data")

    def _check_dims(self, argument: _Argument) -> None:
        names = argument.buffer.dims
        dims = self._field(argument.object, runtime.ARRAY_DIMS, _POINTER)
        group_at = names.index("...") if "..." in names else len(names)
        for at, name in enumerate(names):
            if at == group_at:
                self._match_group(
                    self._place(dims, _int(at)), self.build.sub(argument.ndim, _int(len(names) - 1))
                )
                continue
            index = _int(at) if at < group_at else self.build.sub(argument.ndim, _int(len(names) - at))
            size = self.build.load(self._place(dims, index), typ=_INT64)
            # An axis stands for the first size found for it, and every further one must be the same.
            expected = _int(name) if isinstance(name, int) else self.axes.setdefault(name, size)
            if expected is not size:
                self._require(self.build.icmp_signed("==", size, expected))

    def _match_group(self, sizes: Any, count: Any) -> None:
        if self.group is None:
            self.group = sizes, count
            self.axes["..."] = self.build.call(self.matched_size, [sizes, count, sizes, count])
            return
        size = self.build.call(self.matched_size, [sizes, count, *self.group])
        self._require(self.build.icmp_signed("==", size, self.axes["..."]))

    def _bind_sizes(self) -> None:
        known = {*self.axes}
        wanted = {
            n
            for b in self.phase.buffers
            if b.role not in ("workspace", "absent")
            for n in b.dims
            if isinstance(n, str)
        }
        wanted.update(axis for size in self.phase.sizes for axis in size.axes)
        if not wanted <= known:
            raise CompilerBug(
                f"{self.phase.entry}: no array that is always given has the axes {wanted - known}"
            )
        for size in self.phase.sizes:
            factors = [_int(size.factor), *(self.axes[axis] for axis in size.axes)]
            self.sizes[size.name] = self._product(factors)

    def _check_extent(self, argument: _Argument) -> None:
        buffer = argument.buffer
        itemsize = _int(TABLE[buffer.dtype].itemsize)
        if buffer.role == "workspace":
            needed = self._evaluated(workspace_expression(buffer))
            dims = self._field(argument.object, runtime.ARRAY_DIMS, _POINTER)
            elements = self.build.load(dims, typ=_INT64)
            self._require(self.build.icmp_signed(">=", elements, needed))
            argument.bytes = self.build.mul(needed, itemsize)
            room = self.build.mul(self.build.sub(elements, needed), itemsize)
            argument.data = self._aligned(argument.data, room)
        else:
            dims = [_int(name) if isinstance(name, int) else self.axes[name] for name in buffer.dims]
            argument.bytes = self._product([itemsize, *dims])

    def _aligned(self, data: Any, room: Any) -> Any:
        """The next boundary of a cache line where it is no farther than ``room`` bytes, else ``data`` itself.

        A vector across one is loaded and stored as two. Layer norm backward in the caches of an EPYC (Zen 4),
        ns an element in six processes each before and after: 64x960 0.28 to 0.31 and 0.26 to 0.28, 128x1000
        0.29 to 0.40 and 0.275 to 0.29.
        """
        start = self.build.ptrtoint(data, _INT64)
        boundary = self.build.and_(self.build.add(start, _int(ALIGNMENT - 1)), _int(-ALIGNMENT))
        fits = self.build.icmp_signed("<=", self.build.sub(boundary, start), room)
        return self.build.select(fits, self.build.inttoptr(boundary, _POINTER), data)

    def _check_overlaps(self, arguments: list[_Argument]) -> None:
        ranges = []
        for argument in arguments:
            # An empty array may point anywhere; at 0 it overlaps nothing.
            empty = self.build.icmp_signed("==", argument.bytes, _int(0))
            begin = self.build.select(empty, _int(0), self.build.ptrtoint(argument.data, _INT64))
            ranges.append((argument.buffer, begin, self.build.add(begin, argument.bytes)))
        for (first, first_begin, first_end), (second, second_begin, second_end) in combinations(ranges, 2):
            if WRITTEN.isdisjoint({first.role, second.role}):
                continue
            apart = self.build.or_(
                self.build.icmp_unsigned("<=", first_end, second_begin),
                self.build.icmp_unsigned("<=", second_end, first_begin),
            )
            if may_coincide(self.phase, first, second) or may_coincide(self.phase, second, first):
                apart = self.build.or_(apart, self.build.icmp_unsigned("==", first_begin, second_begin))
            self._require(apart)

    # Execution

    def _evaluated(self, expression: str) -> Any:
        return evaluated(self.build, expression, self.sizes)

    def _execute(self, data: dict[str, Any], units: list[Any], works: list[Any]) -> None:
        total = _int(0)
        for work in works:
            total = self.build.add(total, work)
        release = self.build.icmp_signed(">", total, self._slot(Slot.GIL_RELEASE_ABOVE))
        holding = self.build.block
        with self.build.if_then(release, likely=False):
            state = self._call_pointer(Slot.SAVE_THREAD, _POINTER, [])
            releasing = self.build.block
        state = self._merge(state, releasing, _POINTER(None), holding)
        tasks = [
            _Task(call, self._arguments(call, data), count, work)
            for call, count, work in zip(self.phase.calls, units, works, strict=True)
        ]
        for parts, run in groupby(tasks, key=lambda task: task.call.parts):
            if parts:
                self._execute_in_parts(list(run), self._evaluated(parts))
            else:
                for task in run:
                    self._execute_call(task)
        with self.build.if_then(release, likely=False):
            self._call_pointer(Slot.RESTORE_THREAD, ir.VoidType(), [state])

    def _arguments(self, call: Call, data: dict[str, Any]) -> list[Any]:
        return [data[name] for name in call.buffers] + list(self.sizes.values())

    def _execute_call(self, task: _Task) -> None:
        target = declared(self.module, task.call.function, task.arguments)
        self._execute_units(target, task.arguments, task.units, task.work)

    def _execute_in_parts(self, tasks: list[_Task], parts: Any) -> None:
        """All calls on some parts, then all on the next ones, as many at a time as stay in the cache.

        Call by call where threads would get unequal numbers of parts, or none.
        """
        build, threads = self.build, self._slot(Slot.THREADS)
        total = _int(0)
        for task in tasks:
            total = build.select(build.icmp_signed(">", task.work, total), task.work, total)
        few = build.icmp_signed("<", parts, build.mul(threads, _int(_PARTS_OF_A_THREAD)))
        uneven = build.icmp_signed("!=", build.urem(parts, threads), _int(0))
        alone = build.icmp_signed("<", total, self._slot(Slot.OPENMP_FROM))
        fair = build.or_(alone, build.not_(build.and_(few, uneven)))
        some = build.icmp_signed(">", parts, _int(0))
        with build.if_else(build.and_(some, fair)) as (in_parts, one_by_one):
            with in_parts:
                part_work = build.add(build.sdiv(total, parts), _int(1))
                at_once = build.add(build.sdiv(_int(_CACHED_ELEMENTS), part_work), _int(1))
                arguments = [argument for task in tasks for argument in task.arguments]
                arguments += [build.sdiv(task.units, parts) for task in tasks]
                target = self._define_parts(tasks, arguments)
                self._execute_units(target, [*arguments, at_once], parts, total)
            with one_by_one:
                for task in tasks:
                    self._execute_call(task)

    def _define_parts(self, tasks: list[_Task], arguments: list[Any]) -> Any:
        """A function that does the parts from ``begin`` to ``end``, ``at_once`` at a time, of all calls."""
        types = [argument.type for argument in arguments]
        signature = ir.FunctionType(_INT32, [*types, _INT64, _INT64, _INT64])
        name = self.module.get_unique_name(f"{self.phase.entry}.parts")
        function = ir.Function(self.module, signature, name)
        function.linkage = "internal"
        *values, at_once, begin, end = function.args
        entry, loop, more, done = (
            function.append_basic_block(block) for block in ("entry", "loop", "more", "done")
        )
        build = ir.IRBuilder(entry)
        build.branch(loop)
        build.position_at_end(loop)
        first = build.phi(_INT64, "first")
        build.cbranch(build.icmp_signed("<", first, end), more, done)
        build.position_at_end(more)
        following = build.add(first, at_once)
        last = build.select(build.icmp_signed("<", following, end), following, end)
        given, per_part = iter(values), values[-len(tasks) :]
        for task, units in zip(tasks, per_part, strict=True):
            own = [next(given) for _ in task.arguments]
            share = [build.mul(first, units), build.mul(last, units)]
            build.call(declared(self.module, task.call.function, own), [*own, *share], attrs=("noinline",))
        build.branch(loop)
        first.add_incoming(begin, entry)
        first.add_incoming(following, more)
        build.position_at_end(done)
        build.ret(_INT32(0))
        return function

    def _execute_units(self, target: Any, arguments: list[Any], units: Any, work: Any) -> None:
        many = self.build.icmp_signed(">=", work, self._slot(Slot.OPENMP_FROM))
        run_units(self.module, self.build, target, arguments, units, many, self._openmp)

    def _openmp(self) -> OpenMP:
        """The functions and the number of threads in the table."""
        return OpenMP(
            self._slot(Slot.GOMP_PARALLEL, _POINTER),
            self._slot(Slot.OMP_GET_THREAD_NUM, _POINTER),
            self._slot(Slot.OMP_GET_NUM_THREADS, _POINTER),
            self._slot(Slot.THREADS),
        )

    # Building blocks

    def _require(self, condition: Any) -> None:
        self.required.append(condition)

    def _settle(self, name: str) -> None:
        """Go to ``miss`` unless all that was required since the last time holds, and on to a new block if so.

        What a check reads must be safe to read by the checks before the last time.
        """
        condition = _BOOL(1)
        for required in self.required:
            condition = self.build.and_(condition, required)
        self.required.clear()
        block = self.function.append_basic_block(name)
        self.build.cbranch(condition, block, self.miss).set_weights([1000, 1])
        self.build.position_at_end(block)

    def _field(self, base: Any, offset: int, type_: Any, name: str = "") -> Any:
        place = self.build.gep(base, [_int(offset)], source_etype=_BYTE)
        return self.build.load(place, typ=type_, name=name)

    def _place(self, sizes: Any, index: Any) -> Any:
        return self.build.gep(sizes, [index], source_etype=_INT64)

    def _slot(self, slot: Slot, type_: Any = _INT64) -> Any:
        return self._field(self.table, 8 * slot, type_, slot.name.lower())

    def _merge(self, value: Any, block: Any, other: Any, other_block: Any) -> Any:
        phi = self.build.phi(value.type)
        phi.add_incoming(value, block)
        phi.add_incoming(other, other_block)
        return phi

    def _product(self, factors: list[Any]) -> Any:
        product = _int(1)
        for factor in factors:
            product = self.build.mul(product, factor)
        return product

    def _call_pointer(self, slot: Slot, result: Any, arguments: list[Any]) -> Any:
        return call_indirect(self.build, self._slot(slot, _POINTER), result, arguments)

    def _return(self, slot: Slot) -> None:
        object_ = self._slot(slot, _POINTER)
        references = self.build.load(object_, typ=_INT64)
        self.build.store(self.build.add(references, self._slot(Slot.SINGLETON_REFERENCE)), object_)
        self.build.ret(object_)

    def _new_function(self, name: str, result: Any, parameters: dict[str, Any], linkage: str = "") -> Any:
        function = ir.Function(self.module, ir.FunctionType(result, list(parameters.values())), name)
        function.linkage = linkage
        for argument, parameter in zip(function.args, parameters, strict=True):
            argument.name = parameter
        return function

    def _define_matched_size(self) -> Any:
        """A function that gives the product of ``n`` sizes, or -1 if they differ from ``m`` others."""
        function = self._new_function(
            f"{self.phase.entry}.matched_size",
            _INT64,
            {"sizes": _POINTER, "n": _INT64, "others": _POINTER, "m": _INT64},
            linkage="internal",
        )
        # Inlined, the loop is vectorised for hundreds of dimensions, in an entry that is to take 0.1 µs.
        function.attributes.add("noinline")
        sizes, n, others, m = function.args
        entry, loop, more, done, differ = (
            function.append_basic_block(name) for name in ("entry", "loop", "more", "done", "differ")
        )
        build = ir.IRBuilder(entry)
        build.cbranch(build.icmp_signed("==", n, m), loop, differ)
        build.position_at_end(loop)
        index, product = build.phi(_INT64, "index"), build.phi(_INT64, "product")
        build.cbranch(build.icmp_signed("==", index, n), done, more)
        build.position_at_end(more)
        size = build.load(build.gep(sizes, [index], source_etype=_INT64), typ=_INT64)
        other = build.load(build.gep(others, [index], source_etype=_INT64), typ=_INT64)
        for phi, first, following in (
            (index, _int(0), build.add(index, _int(1))),
            (product, _int(1), build.mul(product, size)),
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(following, more)
        build.cbranch(build.icmp_signed("==", size, other), loop, differ)
        build.position_at_end(done)
        build.ret(product)
        build.position_at_end(differ)
        build.ret(_int(-1))
        return function


def _int(value: int) -> Any:
    return _INT64(value)
