"""Kernels for CUDA: a cubin for each launch, and in the manifest how a program launches them for any rows."""
