"""The recurrent cells of the layer normalization paper (arXiv 1607.06450), forward and back through time.

Between the matrix products, which are NumPy's or CuPy's, a step is one compiled kernel each way::

    from lncompile.rnn import LNLSTM

    cell = LNLSTM(input_size=64, hidden_size=512, seed=0)
    hs, ctx = cell.forward(xs)                  # xs [T, B, 64] -> hs [T, B, 512]
    grads, dxs = cell.backward(dhs, ctx)        # dhs [T, B, 512] -> arrays like cell.params, and like xs
"""

from __future__ import annotations

from lncompile.rnn.cells import LNGRU, LNLSTM, LNRNN

__all__ = ["LNGRU", "LNLSTM", "LNRNN"]
