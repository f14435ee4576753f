"""lncompile side by side with a copy of the same bytes and with other libraries.

``lncompile bench`` runs this; so does ``python -m benchmarks`` in a checkout. In the order of the data:

``grid``        the cells: a norm on a shape, forward or backward
``contenders``  one module a contender, each run in processes of its own by ``contenders.worker``
``rounds``      those processes as the driver sees them, rounds, results as JSON
``shown``       tables, plots, lines of reach, growth, the README's figures
``commands``    the command line
``paper``       the layer norm paper's experiments, with a command line of their own

``METHOD.md`` says how all of it is measured.
"""
