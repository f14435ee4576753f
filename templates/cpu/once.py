"""What is done once for all rows: sums over blocks are added up, gradients of parameters finished."""

from lncompile.emit.standins import hole


def once(begin, end):
    if begin < end:
        hole("everything")


def once_in_tiles(begin, end, LANES):
    hole("once")
    for tile in range(begin, end):
        i = tile * LANES
        hole("tile")


def over_blocks(blocks):
    for block in range(blocks):
        hole("add")
