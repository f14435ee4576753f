"""Programs as text, close to the mathematics that they came from.

Values that the equation names, reductions and values used more than once get a line of their own; the rest
stands inside the expression that uses it::

    program layer_norm
      axes     ... batch, d feature 1024
      compute  float32

      x        [... d]  float32  input
      weight   [d]      float32  input

      mean     [...]    = mean[d](x)
      var      [...]    = mean[d](square(x - mean))
      y        [... d]  = (x - mean) * rsqrt(var + 1e-05) * weight     float32  output
"""

from __future__ import annotations

from lncompile.ir import (
    BINARY,
    COMPARE,
    UNARY,
    Axes,
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Select,
    Stack,
    Take,
    Unary,
    label_of,
    use_counts,
)

#: How tightly an operator binds; what binds less than its place asks for is put in parentheses.
_ATOM = 9
_BINDING = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3} | dict.fromkeys(COMPARE, 0)


def names_of(program: Program, reserved: frozenset[str] = frozenset()) -> dict[Node, str]:
    """A unique name for every value: the equation's own where it has one, ``t1, t2, ...`` elsewhere.

    No name is among ``reserved``.
    """
    names: dict[Node, str] = {}
    taken = set(reserved | program.names)
    # A value that is an output and has no other name is called after the output.
    by_output = {output.value: output.name for output in reversed(program.outputs)}
    temporaries = 0
    for node in program.nodes:
        if isinstance(node, Input):
            names[node] = node.name
        elif isinstance(node, Const):
            names[node] = number(node.value)
        elif node in by_output and not (label_of(node) and label_of(node) not in taken):
            names[node] = by_output[node]
        else:
            base = label_of(node) or f"t{(temporaries := temporaries + 1)}"
            name, suffix = base, 2
            while name in taken:
                name, suffix = f"{base}_{suffix}", suffix + 1
            names[node] = name
            taken.add(name)
    return names


def number(value: float | bool) -> str:
    """A constant as Python writes it."""
    return repr(value)


def axes_text(names: Axes | tuple[str, ...], program: Program) -> str:
    """Axes in the program's order, as ``[... d]``."""
    return "[" + " ".join(axis.name for axis in program.axes if axis.name in names) + "]"


def expression(
    node: Node, program: Program, names: dict[Node, str], inline: frozenset[Node] | set[Node]
) -> str:
    """What a value is, in terms of the names of its operands; nodes in ``inline`` are written out."""

    def operand(part: Node, tightness: int) -> str:
        if part not in inline:
            return names[part] if tightness <= 2 or not names[part].startswith("-") else f"({names[part]})"
        text = expression(part, program, names, inline)
        return text if _binding(part) >= tightness else f"({text})"

    match node:
        case Input() | Const():
            return names[node]
        case Unary("neg", value):
            return f"-{operand(value, 3)}"
        case Unary(op, value):
            return UNARY[op].format(operand(value, 0))
        case Binary(op, left, right):
            level = _BINDING.get(op, -1)
            return BINARY[op].format(operand(left, level), operand(right, level + 1 if level >= 0 else 0))
        case Select(condition, chosen, other):
            return f"where({operand(condition, 0)}, {operand(chosen, 0)}, {operand(other, 0)})"
        case Reduce(op, value, over):
            return f"{op}{axes_text(over, program)}({operand(value, 0)})"
        case Cast(value, dtype):
            return f"cast({operand(value, 0)}, {dtype})"
        case Take(value, axis, position):
            return f"take({operand(value, 0)}, {axis}, {position})"
        case Stack(parts, axis):
            return f"stack({', '.join(operand(part, 0) for part in parts)}, {axis})"


def inlined(program: Program) -> set[Node]:
    """The values that are written inside their one user: unnamed, elementwise, used once."""
    uses = use_counts(program)
    outputs = {output.value for output in program.outputs}
    return {
        node
        for node in program.nodes
        if isinstance(node, Unary | Binary | Select | Cast | Take | Stack)
        and not node.label
        and uses.get(node, 0) == 1
        and node not in outputs
    }


def show(program: Program) -> str:
    """The whole program as text, the same in every process."""
    names = names_of(program)
    inline = inlined(program)
    axes = ", ".join(f"{a.name} feature {a.size}" if a.feature else f"{a.name} batch" for a in program.axes)
    rows: list[tuple[str, str, str]] = [
        (
            node.name,
            _dims_text(node.dims),
            f"{node.dtype}  {node.role}" + (f" of {node.of}" if node.of else ""),
        )
        for node in program.inputs
    ]
    blank = len(rows)
    for node in program.nodes:
        if not isinstance(node, Input | Const) and node not in inline:
            rows.append(
                (names[node], axes_text(node.axes, program), "= " + expression(node, program, names, inline))
            )
    results = len(rows)
    for output in program.outputs:
        note = f"{output.dtype}  {output.role}" + (f" of {output.of}" if output.of else "")
        source = "" if names[output.value] == output.name else f"= {names[output.value]}  "
        rows.append((output.name, _dims_text(output.dims), source + note))
    width = max(8, *(len(name) for name, _, _ in rows))
    axes_width = max(len(text) for _, text, _ in rows)
    lines = [
        f"program {program.name}",
        f"  {'axes':<{width}}  {axes}",
        f"  {'compute':<{width}}  {program.compute}",
    ]
    for index, (name, dims, text) in enumerate(rows):
        if index in (0, blank, results):
            lines.append("")
        lines.append(f"  {name:<{width}}  {dims:<{axes_width}}  {text}")
    return "\n".join(lines) + "\n"


def _binding(node: Node) -> int:
    if isinstance(node, Binary):
        return _BINDING.get(node.op, _ATOM)
    return _BINDING["neg"] if isinstance(node, Unary) and node.op == "neg" else _ATOM


def _dims_text(dims: tuple[str, ...]) -> str:
    return "[" + " ".join(dims) + "]"
