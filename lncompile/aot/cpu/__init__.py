"""Libraries for CPUs: one a kernel and kind of processor, with every level that was asked for in it."""
