"""``python -m benchmarks`` in a checkout."""

from .command import main

main()
