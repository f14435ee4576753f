"""A row in the compute type; in float64 where its statistics leave the range of the compute type."""

from lncompile.emit.standins import hole


def row_with_fallback(ORDINARY):
    hole("pointers")
    hole("statistics")
    if ORDINARY:
        hole("elements")
    else:
        hole("careful")
    hole("results")
