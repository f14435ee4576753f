"""A unit of work for each team of threads, and the rows of one."""

from lncompile.emit.standins import hole


def units_of_warps(UNITS, THREADS, TEAMS):
    hole("start")
    unit = block_index() * TEAMS + team
    if unit < UNITS:
        hole("unit")


def units_within_warps(UNITS, THREADS, TEAMS):
    hole("start")
    unit = block_index() * TEAMS + team
    there = unit < UNITS
    unit = at_most(unit, UNITS - 1)
    hole("unit")


def unit_of_cluster(BLOCKS):
    hole("start")
    unit = quotient(block_index(), BLOCKS)
    hole("unit")
    cluster_barrier()


def steps(STOP):
    for INDEX in range(STOP):
        hole("body")


def rows_of_block(BLOCK, PER, ROW, ROWS):
    hole("open")
    for ROW in range(BLOCK * PER, at_most(BLOCK * PER + PER, ROWS)):
        hole("row")
    hole("close")


def rows_side_by_side(BLOCK, PER, ROW, ROWS):
    hole("open")
    has_unit = there
    for turn in range(PER):
        there = has_unit and BLOCK * PER + turn < ROWS
        ROW = at_most(BLOCK * PER + turn, ROWS - 1)
        hole("row")
    hole("close")
