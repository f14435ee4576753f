"""What a team of threads does for one row, and where its threads meet."""

from lncompile.emit.standins import hole


def steps(START, STOP, GROUPS):
    for step in range(START, unrolled_never(STOP), GROUPS):
        hole("body")


def vectors(START, STOP, STEP):
    for i in range(START, unrolled_never(STOP), STEP):
        hole("body")


def only_if(CONDITION):
    if CONDITION:
        hole("then")


def meeting():
    hole("put")
    barrier()
    hole("get")


def meeting_of_cluster():
    hole("put")
    cluster_barrier()
    hole("get")


def lanes(LANES):
    for _turn in range(unrolled_never(LANES)):
        hole("body")
