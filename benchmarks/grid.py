"""The cells of the grid: which norm, on which shape and layout, in which dtype, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

ROWS = (
    (1, 64),
    (8, 512),
    (128, 1000),
    (512, 1024),
    (4096, 768),
    (4096, 1024),
    (4096, 4096),
    (32768, 1024),
    (64, 65536),
    (100000, 33),
    (1000000, 8),
)
IMAGES = ((32, 64, 56, 56), (8, 256, 28, 28), (64, 2048))

ROW_NORMS = ("layer_norm", "rms_norm")
IMAGE_NORMS = ("batch_norm", "group_norm", "instance_norm")
NORMS = (*ROW_NORMS, *IMAGE_NORMS)

#: What group norm divides its channels into.
GROUPS = 32

EPS = 1e-5

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
DTYPES = tuple(ITEM_BYTES)

PHASES = ("forward", "backward")

#: ``mapped``: results go to memory that the process has touched before, by ``out=`` or by an allocator that
#: gives nothing back to the system. ``called``: as users call it, ``y = norm(x, weight, bias)``.
MODE_TEXT = {
    "mapped": "results into memory that is mapped already",
    "called": "as users call it, results in new arrays",
}
MODES = tuple(MODE_TEXT)

Layout = Literal["rows", "first", "last"]


@dataclass(frozen=True)
class Case:
    """What a contender prepares.

    ``shape`` is that of x with channels first; in layout ``last``, channels are innermost in memory. In
    layout ``rows``, which layer norm and RMS norm have, the features are the last dimension.
    """

    norm: str
    shape: tuple[int, ...]
    layout: Layout
    dtype: str
    phase: str

    @property
    def physical(self) -> tuple[int, ...]:
        """The sizes in the order of memory."""
        if self.layout != "last":
            return self.shape
        n, c, *rest = self.shape
        return (n, *rest, c)

    @property
    def channels(self) -> int:
        """The number of weights."""
        return self.shape[-1] if self.layout == "rows" else self.shape[1]

    @property
    def has_bias(self) -> bool:
        """Whether there is a bias beside the weight."""
        return self.norm != "rms_norm"

    @property
    def size(self) -> int:
        """The number of elements of x."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What must move: x to y forward, x and dy to dx backward. Weights and statistics are not counted."""
        arrays = 2 if self.phase == "forward" else 3
        return arrays * self.size * ITEM_BYTES[self.dtype]

    @property
    def label(self) -> str:
        """For people: ``batch_norm 32×64×56×56 last``."""
        layout = "" if self.layout == "rows" else f" {self.layout}"
        return f"{self.norm} {'×'.join(map(str, self.shape))}{layout}"

    def as_json(self) -> dict[str, Any]:
        """As a mapping that :func:`from_json` reads."""
        return asdict(self)


def operations(norm: str, phase: str) -> int:
    """Additions and multiplications for each element of x, as the formulas are written down.

    Layer norm's forward: the sum (1), the deviation and its square's sum (3), the mean taken off, times
    rstd, weight and bias (4). Backward: the normalized x again (2), times weight (1), two sums (3), dx (4),
    the sums for weight and bias (3). RMS norm has no mean and no bias. The others are like layer norm.
    """
    by_phase = {"forward": 4, "backward": 9} if norm == "rms_norm" else {"forward": 8, "backward": 13}
    return by_phase[phase]


def from_json(data: dict[str, Any]) -> Case:
    """The case of a mapping, which may hold more."""
    return Case(data["norm"], tuple(data["shape"]), data["layout"], data["dtype"], data["phase"])


def in_grid(case: Case) -> bool:
    """Whether the case is one of the grid's, in whichever dtype."""
    return case.shape in (ROWS if case.norm in ROW_NORMS else IMAGES)


def layouts_of(norm: str, shape: Sequence[int]) -> tuple[Layout, ...]:
    """The layouts in which the norm makes sense on the shape; without positions, there is but one order."""
    if norm in ROW_NORMS:
        return ("rows",)
    if norm == "group_norm" and shape[1] % GROUPS:
        return ()
    if len(shape) == 2:
        return () if norm == "instance_norm" else ("first",)
    return ("first", "last")


def cases(
    norms: Sequence[str] = NORMS,
    shapes: Sequence[tuple[int, ...]] = (),
    dtype: str = "float32",
    phases: Sequence[str] = PHASES,
) -> Iterator[Case]:
    """The grid; ``shapes`` replaces its shapes: of two sizes for row norms, of two or four for the others."""
    for norm in norms:
        if norm in ROW_NORMS:
            wanted: list[tuple[int, ...]] = [shape for shape in shapes or ROWS if len(shape) == 2]
        else:
            wanted = [shape for shape in shapes or IMAGES if len(shape) in (2, 4)]
        for shape in wanted:
            for layout in layouts_of(norm, shape):
                for phase in phases:
                    yield Case(norm, tuple(shape), layout, dtype, phase)
