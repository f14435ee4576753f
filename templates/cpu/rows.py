"""One row after another: the features of a row lie side by side."""

from lncompile.emit.standins import hole


def rows(begin, end):
    hole("once")
    for row in range(begin, end):
        hole("row")
    hole("last")
