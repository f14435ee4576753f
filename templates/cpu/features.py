"""All features in vectors of LANES, the last LEFT of them in a partial vector."""

from lncompile.emit.standins import hole


def features(FULL, LANES):
    for i in range(0, FULL, LANES):
        hole("whole")
    i = FULL
    hole("partial")


def features_whole(FULL, LANES):
    for i in range(0, FULL, LANES):
        hole("whole")


def features_partial():
    i = 0
    hole("partial")
