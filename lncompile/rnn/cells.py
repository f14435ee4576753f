"""The cells: parameters, the loop over a sequence, and back through time.

    all steps   zx = xs @ Wx                     dWx, dxs from dzx; dWh from hs, dzh
    each step   zh = h @ Wh                      dh  = dhs[t] + dzh @ Wh.T + ...
                h, ... = step(zh, zx[t], ...)    dzh[t], dzx[t], ... = step.backward(dh, ...)

A product with the inputs is one for the whole sequence, one with the state for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lncompile.errors import LncTypeError, LncValueError
from lncompile.kernel import access_to
from lncompile.rnn import equations
from lncompile.rnn.checks import Array, checked, checked_integer, described, library_of


@dataclass(frozen=True)
class Structure:
    """What a cell consists of: names of parameters, each with the number of gates that it has.

    The arguments of ``step`` are the products with the state by ``recurrent``, those with the inputs by
    ``entering``, those of the ``states`` that are ``carried`` over elementwise, and the ``vectors``; it
    returns the states.
    """

    step: Any
    states: tuple[str, ...]
    carried: tuple[str, ...]
    recurrent: Mapping[str, int]
    entering: Mapping[str, int]
    vectors: Mapping[str, int]


@dataclass(frozen=True)
class Context:
    """What ``forward`` keeps for ``backward``; ``state`` is that after the last step."""

    state: Any
    cell: object
    xs: Array
    #: h before each step [T, B, H].
    before: Array
    steps: tuple[Any, ...]
    #: The matrices by name.
    weights: Mapping[str, Array]


class Cell:
    """A recurrent cell with layer normalization; its kinds differ in their ``structure`` alone.

    Args:
        input_size: I, the length of an input.
        hidden_size: H, the number of hidden units.
        seed: fixes the weights to the bit: uniform in ±1/√H. Gains start at 1, biases at 0.
        dtype: ``"float32"`` or ``"float64"``, of all arrays; None is float32, as torch's default.

    Raises:
        LncError: a size is no positive integer, the seed a negative one, or the dtype another one.
    """

    structure: ClassVar[Structure]

    def __init__(
        self, input_size: int, hidden_size: int, seed: int = 0, dtype: str | None = "float32"
    ) -> None:
        self.input_size = checked_integer("input_size", input_size, 1)
        self.hidden_size = checked_integer("hidden_size", hidden_size, 1)
        try:
            # NumPy's own None is float64.
            self.dtype = np.dtype("float32" if dtype is None else dtype)
        except TypeError:
            raise LncTypeError(f"dtype: expected 'float32' or 'float64'; got {dtype!r}") from None
        if self.dtype.name not in ("float32", "float64"):
            raise LncTypeError(f"dtype: expected 'float32' or 'float64'; got {self.dtype.name!r}")
        rng = np.random.default_rng(checked_integer("seed", seed, 0))
        bound = self.hidden_size**-0.5
        #: The parameters by name; writing into the arrays changes the cell. To run on a GPU, they have to be
        #: CuPy's: ``cell.params = {name: cupy.asarray(array) for name, array in cell.params.items()}``.
        self.params: dict[str, Array] = {
            name: rng.uniform(-bound, bound, shape).astype(self.dtype)
            if len(shape) == 2
            else np.full(shape, 1.0 if name.startswith("gain") else 0.0, self.dtype)
            for name, shape in self._shapes().items()
        }

    def forward(self, xs: Array, state: Any = None) -> tuple[Array, Context]:
        """Run over a sequence.

        Args:
            xs: [T, B, I], of NumPy or CuPy as the parameters are. It is kept for :meth:`backward`, not
                copied, and so are the parameters and the state: to change them in between changes gradients.
            state: before the first step: h [B, H], for the LSTM a pair (h, c) of those; None is zeros.

        Returns:
            The h after every step [T, B, H], and the context for :meth:`backward`, whose ``state`` continues
            the sequence.

        Raises:
            LncError: an array or a parameter has another shape or dtype.
        """
        library = library_of("xs", xs)
        checked("xs", xs, ("T", "B", self.input_size), self.dtype, library)
        params = self._checked_params(library)
        with access_to(xs).device_of(xs):
            states = self._initial(state, xs.shape[1], library)
            return self._run(xs, states, params, library)

    def _run(
        self, xs: Array, states: dict[str, Array], params: dict[str, Array], library: Any
    ) -> tuple[Array, Context]:
        """The forward on checked arrays of ``library``."""
        steps, batch, _ = xs.shape
        structure, hidden = self.structure, self.hidden_size
        hs = library.empty((steps, batch, hidden), self.dtype)
        before = library.empty_like(hs)
        products = {
            name: (xs.reshape(steps * batch, self.input_size) @ params[name]).reshape(
                steps, *self._wide(batch, gates)
            )
            for name, gates in structure.entering.items()
        }
        vectors = self._vectors(params)
        contexts = []
        for t in range(steps):
            before[t] = h = states["h"]
            arguments = [
                (h @ params[name]).reshape(self._wide(batch, gates))
                for name, gates in structure.recurrent.items()
            ]
            arguments += [product[t] for product in products.values()]
            arguments += [states[name] for name in structure.carried]
            results, kept = structure.step.forward(*arguments, *vectors)
            states = dict(zip(structure.states, self._several(results), strict=True))
            hs[t] = states["h"]
            contexts.append(kept)
        # Copies: neither the caller's own arrays nor what backward still reads.
        last = [states[name].copy() for name in structure.states]
        weights = {name: params[name] for name in (*structure.recurrent, *structure.entering)}
        state = last[0] if len(last) == 1 else tuple(last)
        return hs, Context(state, self, xs, before, tuple(contexts), weights)

    def backward(self, dhs: Array, ctx: Context) -> tuple[dict[str, Array], Array]:
        """Gradients through all steps, the initial state being a constant.

        Args:
            dhs: [T, B, H], the gradient of the h after every step.
            ctx: from :meth:`forward` of this cell; arrays and parameters must not have changed since.

        Returns:
            Gradients by the names of ``params``, and that of xs [T, B, I].

        Raises:
            LncError: an array of another shape or dtype, or the context of another cell.
        """
        if not isinstance(ctx, Context) or ctx.cell is not self:
            raise LncTypeError(
                f"ctx: expected the context of a forward of this {type(self).__name__}; got {described(ctx)}"
            )
        library = library_of("xs", ctx.xs)
        checked("dhs", dhs, ctx.before.shape, self.dtype, library)
        with access_to(ctx.xs).device_of(ctx.xs):
            return self._run_back(dhs, ctx, library)

    def _run_back(self, dhs: Array, ctx: Context, library: Any) -> tuple[dict[str, Array], Array]:
        """The backward on checked arrays of ``library``."""
        steps, batch, _ = ctx.before.shape
        structure = self.structure
        products = {
            name: library.empty((steps, *self._wide(batch, gates)), self.dtype)
            for name, gates in (*structure.recurrent.items(), *structure.entering.items())
        }
        # In float64, so that the sums over long sequences do not lose what the kernels kept.
        vectors = {
            name: library.zeros(array.shape)
            for name, array in zip(structure.vectors, self._vectors(self.params), strict=True)
        }
        zeros = library.zeros((batch, self.hidden_size), self.dtype)
        dstates: dict[str, Array] = dict.fromkeys(structure.states, zeros)
        for t in reversed(range(steps)):
            dstates["h"] = dstates["h"] + dhs[t]
            incoming = tuple(dstates.values())
            gradients = structure.step.backward(incoming if len(incoming) > 1 else incoming[0], ctx.steps[t])
            named = iter(gradients)
            for product in products.values():
                product[t] = next(named)
            dstates = dict.fromkeys(structure.states, zeros) | {
                name: next(named) for name in structure.carried
            }
            for total in vectors.values():
                total += next(named)
            for name in structure.recurrent:
                weight = ctx.weights[name]
                dstates["h"] = dstates["h"] + products[name][t].reshape(batch, weight.shape[1]) @ weight.T
        return self._gradients(ctx, products, vectors, library)

    def _gradients(
        self, ctx: Context, products: dict[str, Array], vectors: dict[str, Array], library: Any
    ) -> tuple[dict[str, Array], Array]:
        """Those of parameters and inputs from those of all products and vectors."""
        rows = ctx.xs.shape[0] * ctx.xs.shape[1]
        flat = {name: product.reshape(rows, ctx.weights[name].shape[1]) for name, product in products.items()}
        factors: dict[str, Array] = dict.fromkeys(self.structure.recurrent, ctx.before)
        factors |= dict.fromkeys(self.structure.entering, ctx.xs)
        found = {name: f.reshape(rows, f.shape[-1]).T @ flat[name] for name, f in factors.items()}
        found |= {name: total.reshape(-1).astype(self.dtype) for name, total in vectors.items()}
        dxs = library.zeros((rows, self.input_size), self.dtype)
        for name in self.structure.entering:
            dxs += flat[name] @ ctx.weights[name].T
        return {name: found[name] for name in self.params}, dxs.reshape(ctx.xs.shape)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all parameters, weights first."""
        hidden, structure = self.hidden_size, self.structure
        shapes: dict[str, tuple[int, ...]] = {}
        for entering, recurrent in zip(structure.entering, structure.recurrent, strict=True):
            shapes[entering] = (self.input_size, structure.entering[entering] * hidden)
            shapes[recurrent] = (hidden, structure.recurrent[recurrent] * hidden)
        return shapes | {name: (gates * hidden,) for name, gates in structure.vectors.items()}

    def _checked_params(self, library: Any) -> dict[str, Array]:
        shapes = self._shapes()
        if self.params.keys() != shapes.keys():
            raise LncValueError(f"params: expected {', '.join(shapes)}; got {', '.join(self.params)}")
        return {
            name: checked(f"params[{name!r}]", self.params[name], shape, self.dtype, library)
            for name, shape in shapes.items()
        }

    def _initial(self, state: Any, batch: int, library: Any) -> dict[str, Array]:
        names, shape = self.structure.states, (batch, self.hidden_size)
        if state is None:
            return {name: library.zeros(shape, self.dtype) for name in names}
        given = (state,) if len(names) == 1 else state
        if not isinstance(given, tuple | list) or len(given) != len(names):
            raise LncTypeError(f"state: expected a pair ({', '.join(names)}); got {described(state)}")
        several = len(names) > 1
        return {
            name: checked(f"state, its {name}" if several else "state", array, shape, self.dtype, library)
            for name, array in zip(names, given, strict=True)
        }

    def _wide(self, batch: int, gates: int) -> tuple[int, ...]:
        """The shape of one step's product: the kernels know the gates as an axis of their own."""
        return (batch, self.hidden_size) if gates == 1 else (batch, gates, self.hidden_size)

    def _vectors(self, params: Mapping[str, Array]) -> list[Array]:
        return [
            params[name].reshape(self._wide(1, gates)[1:]) for name, gates in self.structure.vectors.items()
        ]

    @staticmethod
    def _several(results: Any) -> tuple[Array, ...]:
        return results if isinstance(results, tuple) else (results,)


class LNRNN(Cell):
    """h = tanh(LN(h @ Wh + x @ Wx; gain, bias)): equation (4)."""

    structure = Structure(
        step=equations.rnn_step,
        states=("h",),
        carried=(),
        recurrent={"Wh": 1},
        entering={"Wx": 1},
        vectors={"gain": 1, "bias": 1},
    )


class LNLSTM(Cell):
    """The LSTM with normalized sums and cells: the supplement's (20)-(22); its state is a pair (h, c).

    Along the last axis of Wx, Wh and the gains and biases of their products lie the forget, the input and the
    output gate, and the candidate.
    """

    structure = Structure(
        step=equations.lstm_step,
        states=("h", "c"),
        carried=("c",),
        recurrent={"Wh": 4},
        entering={"Wx": 4},
        vectors={"b": 4, "gain_h": 4, "bias_h": 4, "gain_x": 4, "bias_x": 4, "gain_c": 1, "bias_c": 1},
    )


class LNGRU(Cell):
    """The gated recurrent unit with normalized sums: the supplement's (26)-(28).

    Along the last axis of Wx, Wh and their gains and biases lie the update gate z and the reset gate r;
    h = (1 - s(z)) h + s(z) n, while the authors' published code has z the other way round.
    """

    structure = Structure(
        step=equations.gru_step,
        states=("h",),
        carried=("h",),
        recurrent={"Wh": 2, "U": 1},
        entering={"Wx": 2, "W": 1},
        vectors={
            "gain_h": 2,
            "bias_h": 2,
            "gain_x": 2,
            "bias_x": 2,
            "gain_w": 1,
            "bias_w": 1,
            "gain_u": 1,
            "bias_u": 1,
        },
    )
