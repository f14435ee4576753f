"""``python -m benchmarks`` in a checkout."""

from .commands import main

main()
