"""Networks in NumPy: what is normalized is normalized by lncompile's kernels, forward and backward.

A model has ``params``, a dictionary of arrays that training changes in place, and gives its loss and the
gradients by the same names. Its dtype is that of its parameters: float32, or float64 for tests by finite
differences.
"""
