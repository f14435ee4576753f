"""A row without statistics that could leave the range of the compute type."""

from lncompile.emit.standins import hole


def row():
    hole("pointers")
    hole("statistics")
    hole("elements")
    hole("results")
