"""Rows in blocks of a fixed number, each with sums of its own, so that no sum depends on the threads."""

from lncompile.emit.standins import hole


def rows_in_blocks(rows, begin, end, BLOCK_ROWS):
    hole("once")
    for block in range(begin, end):
        hole("open_block")
        for row in range(block * BLOCK_ROWS, min(block * BLOCK_ROWS + BLOCK_ROWS, rows)):
            hole("row")
        hole("close_block")
    hole("last")
