"""Units of work, one after another, and the loops around the vectors of one."""

from lncompile.emit.standins import hole


def units(begin, end):
    hole("once")
    for UNIT in range(begin, end):
        hole("unit")
    hole("last")


def only_unit(begin, end):
    hole("once")
    if begin < end:
        hole("unit")
    hole("last")


def rows_of_block(ROW, FIRST, LAST):
    hole("open")
    for ROW in range(FIRST, LAST):
        hole("row")


def groups_of_rows(FIRST, LAST, GROUP):
    for from_row in range(FIRST, LAST, GROUP):
        to_row = min(from_row + GROUP, LAST)
        hole("body")


def rows_of_group(ROW):
    for ROW in range(from_row, to_row):
        hole("row")


def steps(STOP):
    for INDEX in range(STOP):
        hole("body")


def steps_in_blocks(STOP, BLOCK):
    for from_step in range(0, STOP, BLOCK):
        hole("open")
        for INDEX in range(from_step, min(from_step + BLOCK, STOP)):
            hole("body")
        hole("close")
