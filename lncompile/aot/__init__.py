"""Kernels as files: libraries for C with headers and a manifest, and the way back into Python.

wanted --plan--> libraries --compile, in worker processes--> objects --link--> files --> directory
directory --read, verified--> kernels, without a compiler
"""
