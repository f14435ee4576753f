"""Kernels as files: libraries for C with headers, cubins, a manifest; and the way back into Python.

wanted --plan--> products --compile their parts, in worker processes--> files --> directory
directory --read, verified--> kernels, without a compiler
"""
