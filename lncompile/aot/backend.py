"""The kinds of targets that kernels are built for: a further one is one more line in ``BACKENDS``.

A backend plans one or more products for a kernel (:mod:`lncompile.aot.part`). The parts of all products are
compiled in worker processes; each product then makes its files of what its parts gave, and its entry of the
manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lncompile.aot.cpu.product import planned as cpu_products
from lncompile.aot.cuda.product import planned as cuda_products
from lncompile.aot.part import Product
from lncompile.aot.wanted import Wanted

#: What a target's name begins with -> the products for a kernel, all of whose targets begin so.
BACKENDS: dict[str, Callable[[Wanted], Sequence[Product]]] = {"cpu": cpu_products, "cuda": cuda_products}


def products_for(wanted: Wanted) -> Sequence[Product]:
    """The products that serve all targets of a kernel, which are of one kind."""
    return BACKENDS[wanted.kind](wanted)
