"""The experiments of the layer norm paper (arXiv 1607.06450) on lncompile's kernels.

``python -m benchmarks.paper NAME`` runs one in a checkout (``pip install -e '.[paper]'``). In the order
of the data:

``images``, ``text``  what is learned from
``nets``              layers, cells and networks in NumPy, each with its normalization as a parameter
``experiments``       one module an experiment: settings in, a table out
``records``           such tables as CSV files
``shown``             plots in the paper's form, and what was measured beside what the paper claims
``commands``          the command line
"""
