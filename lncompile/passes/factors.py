"""What is the same all along a row leaves the loops over elements: factors of sums, the low part of means.

    sum[d](dy * rstd * weight)           -->   rstd * sum[d](dy * weight)
    sum[d](dy * weight * (u - low))      -->   sum[d](dy * weight * u) - low * sum[d](dy * weight)
    dy * rstd - sum[d](dy) * rstd        -->   (dy - sum[d](dy)) * rstd
    (u - low) * weight * rstd            -->   (u * rstd - low * rstd) * weight
    (u * rstd - low * rstd) + r          -->   r - low * rstd + u * rstd

with ``low`` what rounding a mean lost (``moments.py``), u = x - high, and rstd, r one value a row. The sums
are those of a gradient, and one is taken apart only where the second of its parts is added up anyway. Layer
norm backward then takes 4 operations an element for its sums instead of 7.

No digits are lost. ``high`` is the number of the compute type that is nearest to the mean, and every x is
such a number, so abs(low) <= abs(x - mean) for each x of a row: what rounding ``low * rstd`` loses is no more
than what rounding the deviation itself would. Of ``high`` that is not true, so it stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import NamedTuple

from lncompile.ir import (
    Axes,
    Binary,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Unary,
    depending_on,
    operands,
    rewrite,
    use_counts,
)
from lncompile.passes.products import factors_in_and_out, factors_of, product
from lncompile.passes.settled import settled


def factored(forward: Program, backward: Program) -> tuple[Program, Program]:
    """Both programs with the same meaning in exact arithmetic, and fewer operations an element."""
    saved = frozenset(
        output.name for output in forward.outputs if output.role == "saved" and _is_low(output.value)
    )
    return _lean(forward, frozenset()), _lean(backward, saved)


def _lean(program: Program, lows: frozenset[str]) -> Program:
    for rule in (_lean_sum, _of_deviations, _split_deviation, _narrow_first):

        def sweep(before: Program, rule: Callable[[_Facts, Node], Node | None] = rule) -> Program:
            return rewrite(before, partial(rule, _Facts(before, lows)))

        program = settled(program, sweep, rule.__name__)
    return program


class _Sum(NamedTuple):
    """sum[over](inside) * outside, both products."""

    over: Axes
    inside: list[Node]
    outside: list[Node]


class _Split(NamedTuple):
    """(u - low) * narrow * wide, products of what varies along rows alone, and of what varies inside them."""

    deviation: Binary
    narrow: list[Node]
    wide: list[Node]


@dataclass(frozen=True)
class _Facts:
    """What is known of the program before a sweep; ``lows`` are the saved inputs that are parts of means."""

    program: Program
    lows: frozenset[str]

    @cached_property
    def of_gradient(self) -> set[Node]:
        """The values that depend on a cotangent."""
        return depending_on(
            self.program.nodes, lambda node: isinstance(node, Input) and node.role == "cotangent"
        )

    @cached_property
    def sums(self) -> dict[Node, _Sum]:
        """The sums that belong to a gradient."""
        return {
            node: _Sum(node.over, *factors_in_and_out(node))
            for node in self.program.nodes
            if isinstance(node, Reduce) and node.op == "sum" and node in self.of_gradient
        }

    def leaves(self, low: Node, deviation: Node, over: Axes) -> bool:
        """Whether the low part of a deviation leaves sums over these axes, and no other sum needs it inside.

        Sums over other axes, but in part the same, may be made of sums of this product (``plan.py``).
        """
        overs = [other.over for other in self.sums.values() if deviation in other.inside]
        return not low.axes & over and all(other == over or not other & over for other in overs)

    @cached_property
    def within(self) -> set[Node]:
        """Products that are factors, and sums and differences that are terms, and are used nowhere else."""
        found: set[Node] = set()
        for node in self.program.nodes:
            if isinstance(node, Binary):
                found |= {part for part in operands(node) if _continues(node, part)}
        counts = use_counts(self.program)
        return {node for node in found if counts[node] == 1}

    @cached_property
    def splits(self) -> dict[Node, _Split]:
        """The products that take a deviation apart, if all that use it do."""
        splits = {node: split for node in self.program.nodes if (split := self._split(node)) is not None}
        taken = Counter(split.deviation for split in splits.values())
        counts = use_counts(self.program)
        return {
            node: split for node, split in splits.items() if taken[split.deviation] == counts[split.deviation]
        }

    def common_factors(self, wide: Node, narrow: Node) -> Counter[Node]:
        """The factors that a product of a cotangent has in common with what a row knows of it."""
        (factors, _), (of_narrow, _) = factors_of(wide), factors_of(narrow)
        inside = [factor for factor in factors if not factor.axes <= narrow.axes]
        if (
            not narrow.axes < wide.axes
            or self.of_gradient.isdisjoint(inside)
            or narrow not in self.of_gradient
        ):
            return Counter()
        return Counter(factors) & Counter(of_narrow)

    def _split(self, node: Node) -> _Split | None:
        if not (isinstance(node, Binary) and node.op == "mul") or node in self.within:
            return None
        factors, constant = factors_of(node, self.within)
        for deviation in factors:
            low = self.low_of(deviation)
            if low is not None and isinstance(deviation, Binary) and factors.count(deviation) == 1:
                rest = [factor for factor in factors if factor is not deviation]
                rest += [] if constant == 1.0 else [Const(constant)]
                narrow = [factor for factor in rest if factor.axes <= low.axes]
                if narrow:
                    return _Split(deviation, narrow, [factor for factor in rest if factor not in narrow])
        return None

    def is_low(self, node: Node) -> bool:
        """Whether ``node`` is the low part of a mean."""
        return _is_low(node) or (isinstance(node, Input) and node.role == "saved" and node.name in self.lows)

    def low_of(self, node: Node) -> Node | None:
        """The low part of the mean that ``node`` is a deviation from, if it is one."""
        match node:
            case Binary("sub", _, low) if self.is_low(low):
                return low
        return None


def _is_low(node: Node) -> bool:
    return isinstance(node, Reduce) and node.op == "mean_low"


def _continues(node: Binary, part: Node) -> bool:
    """Whether ``part`` of a product is one, too, or of a sum or difference a sum or difference."""
    same = {"mul": ("mul",), "add": ("add", "sub"), "sub": ("add", "sub")}
    return isinstance(part, Binary) and part.op in same.get(node.op, ())


def _lean_sum(facts: _Facts, node: Node) -> Node | None:
    """A sum of a product without what does not vary in it, and of products that others add up."""
    found = facts.sums.get(node)
    if found is None or not found.inside:
        return None
    over, inside = found.over, Counter(found.inside)
    others = [Counter(other.inside) for other in facts.sums.values() if other.over == over]
    for factor in found.inside:
        low = facts.low_of(factor)
        rest = inside - Counter([factor])
        if low is not None and rest in others and facts.leaves(low, factor, over):
            shared = _in_terms_of(others, rest)
            first = Reduce("sum", product([shared, operands(factor)[0]]), over)
            second = product([Reduce("sum", shared, over), low])
            return product([Binary("sub", first, second), *found.outside])
    if not found.outside and _longest_in(inside, others) is None:
        return None
    return product([Reduce("sum", _in_terms_of(others, inside), over), *found.outside])


def _in_terms_of(others: Sequence[Counter[Node]], factors: Counter[Node]) -> Node:
    """The product of ``factors``, of the longest of the ``others`` that is a part of it and what is left."""
    part = _longest_in(factors, others)
    if part is None:
        return product(factors.elements())
    return product([_in_terms_of(others, part), *(factors - part).elements()])


def _longest_in(factors: Counter[Node], others: Sequence[Counter[Node]]) -> Counter[Node] | None:
    parts = [other for other in others if other.total() > 1 and other < factors]
    return max(parts, key=Counter.total, default=None)


def _split_deviation(facts: _Facts, node: Node) -> Node | None:
    """(u - low) * r as u * r - low * r, which is one multiply-add an element."""
    split = facts.splits.get(node)
    if split is None:
        return None
    factor = product(split.narrow)
    first, second = (product([part, factor]) for part in operands(split.deviation))
    return product([Binary("sub", first, second), *split.wide])


class _Term(NamedTuple):
    """A value that is added or, with a sign of -1, subtracted."""

    sign: int
    value: Node


def _of_deviations(facts: _Facts, node: Node) -> Node | None:
    """g * r - m * r as (g - m) * r: a cotangent that is its own mean leaves nothing, however r is rounded."""
    if not _is_sum(facts, node) or node not in facts.of_gradient:
        return None
    terms = _terms(facts, _Term(1, node))
    for wide in terms:
        for narrow in terms:
            common = facts.common_factors(wide.value, narrow.value)
            if common:
                rest = [term for term in terms if term is not wide and term is not narrow]
                sign, deviation = _added(*(_Term(t.sign, _without(t.value, common)) for t in (wide, narrow)))
                return _signed(reduce(_added, [_Term(sign, product([deviation, *common.elements()])), *rest]))
    return None


def _without(value: Node, factors: Counter[Node]) -> Node:
    """``value`` without some of its factors."""
    found, constant = factors_of(value)
    rest = [*(Counter(found) - factors).elements(), *([] if constant == 1.0 else [Const(constant)])]
    return product(rest) if rest else Const(1.0)


def _narrow_first(facts: _Facts, node: Node) -> Node | None:
    """Terms in such an order that those of a row are one value, and products multiply-adds.

    Of a gradient, or where a deviation was taken apart: x - 1e6 + row is to stay as the equation has it.
    """
    if not _is_sum(facts, node):
        return None
    terms = _terms(facts, _Term(1, node))
    if len(terms) < 3 or not (node in facts.of_gradient or any(_has_low(facts, t.value) for t in terms)):
        return None
    narrow: dict[Axes, list[_Term]] = {}
    wide: dict[bool, list[_Term]] = {False: [], True: []}
    for term in terms:
        if term.value.axes == node.axes:
            wide[isinstance(term.value, Binary) and term.value.op == "mul"].append(term)
        else:
            narrow.setdefault(term.value.axes, []).append(term)
    if not narrow:
        return None
    sign, value = reduce(
        _added, [*(reduce(_added, group) for group in narrow.values()), *wide[False], *wide[True]]
    )
    return _signed(_Term(sign, value))


def _is_sum(facts: _Facts, node: Node) -> bool:
    """Whether ``node`` is a whole sum or difference, no term of another."""
    return isinstance(node, Binary) and node.op in ("add", "sub") and node not in facts.within


def _signed(term: _Term) -> Node:
    return term.value if term.sign > 0 else Unary("neg", term.value)


def _terms(facts: _Facts, total: _Term) -> list[_Term]:
    """The terms of a sum or difference; a deviation is one, as its parts belong together."""
    terms = []
    match total.value:
        case Binary("add" | "sub" as op, left, right):
            for sign, part in ((1, left), (1 if op == "add" else -1, right)):
                term = _Term(sign * total.sign, part)
                apart = part in facts.within and facts.low_of(part) is None
                terms += _terms(facts, term) if apart else [term]
    return terms


def _added(total: _Term, term: _Term) -> _Term:
    """The sum of two terms, whose sign is -1 only where both are subtracted."""
    if total.sign == term.sign:
        return _Term(total.sign, Binary("add", total.value, term.value))
    plus, minus = (total, term) if total.sign > 0 else (term, total)
    return _Term(1, Binary("sub", plus.value, minus.value))


def _has_low(facts: _Facts, value: Node) -> bool:
    """Whether ``value`` is the low part of a mean times something."""
    factors, _ = factors_of(value)
    return len(factors) > 1 and any(map(facts.is_low, factors))
