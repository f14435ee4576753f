"""``python -m benchmarks.paper`` in a checkout."""

import os

# Curves run side by side, one process and one thread each: the same numbers whatever the cores, and no
# threads of two libraries that wait for work on each other's core (10 times as long where others use the
# machine too). NumPy and OpenMP read this when loaded; the processes inherit it.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "LNCOMPILE_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from .commands import main  # noqa: E402

if __name__ == "__main__":
    main()
