"""A row whose sums were taken while the row before it was written; while it is, those of the next one are.

The first row of all has its sums taken ahead of the loop over rows, and the last one is written alone.
"""

from lncompile.emit.standins import hole


def first_row(ROW, FIRST, LAST):
    last_row = LAST
    ROW = FIRST
    hole("opening")
    hole("sums")


def next_row(ROW, NEXT):
    NEXT = min(ROW + 1, last_row)
    hole("opening")


def overlapped(this_row):
    hole("pointers")
    hole("statistics")
    hole("next")
    if this_row < last_row:
        hole("elements")
    else:
        hole("alone")
    hole("results")


def overlapped_with_fallback(this_row):
    hole("pointers")
    hole("statistics")
    hole("next")
    if ordinary:
        if this_row < last_row:
            hole("elements")
        else:
            hole("alone")
    else:
        hole("careful")
        if this_row < last_row:
            hole("sums")
    hole("results")


def streamed_in_blocks(FULL, LANES, BLOCK):
    for chunk in range(start, start + FULL, BLOCK):
        hole("open")
        for i in range(chunk, min(chunk + BLOCK, stop), LANES):
            hole("both")
        if chunk + BLOCK >= start + FULL:
            for i in range(stop, start + FULL, LANES):
                hole("sums")
        hole("close")
