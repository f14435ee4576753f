"""lncompile side by side with a copy of the same bytes and with other libraries.

``lncompile bench`` runs this; so does ``python -m benchmarks`` in a checkout. In data's order:

``grid``        the cells: a norm on a shape, forward or backward
``contenders``  one module a contender, each run in processes of its own by ``contenders.worker``
``processes``   those processes, as the driver sees them
``run``         rounds that alternate between contenders
``store``       the results as JSON; runs add to what is there
``stats``       medians, spreads, ratios to the limit
``table``, ``plots``, ``reach``, ``readme``   what is made of the JSON
``growth``, ``startup``   time against sizes; what a process pays once
``command``     the command line
"""
