"""Measuring: the contenders' processes, rounds that alternate between them, results that add up."""
