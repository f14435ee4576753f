"""All features in vectors of LANES; where they do not fill the last one, it is partial.

Those that load more vectors before any result is stored come first, in a loop of their own. In blocks, what a
block of features adds up to is added to a total with more digits. Streamed, whole vectors begin where the row
that is written crosses a boundary of BYTES.
"""

from lncompile.emit.standins import hole


def features_whole(BEGIN, END, LANES):
    for i in range(BEGIN, END, LANES):
        hole("whole")


def features_partial(BEGIN):
    i = BEGIN
    hole("partial")


def features_ahead(BEGIN, LENGTH, LANES):
    middle = BEGIN + (LENGTH - BEGIN) // LANES * LANES
    for i in range(BEGIN, middle, LANES):
        hole("whole")


def features_unknown(BEGIN, LENGTH, LANES):
    stop = LENGTH // LANES * LANES
    for i in range(BEGIN, stop, LANES):
        hole("whole")
    if stop < LENGTH:
        i = stop
        left = LENGTH - stop
        hole("partial")


def features_in_blocks(FULL, LANES, BLOCK):
    for start in range(0, FULL, BLOCK):
        hole("open")
        for i in range(start, min(start + BLOCK, FULL), LANES):
            hole("whole")
        hole("close")


def features_streamed(TARGET, FEATURES, LANES, BYTES):
    start = min(elements_to_boundary(TARGET, BYTES), FEATURES)
    stop = start + (FEATURES - start) // LANES * LANES
    left = FEATURES - stop
    hole("shifted")
    if start > 0:
        i = 0
        hole("head")
    hole("whole")
    if left > 0:
        i = stop
        hole("partial")


def streamed_or_not():
    if streamed:
        hole("streamed")
    else:
        hole("plain")
