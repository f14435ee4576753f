"""One module an experiment: its jobs, and ``run``, which makes a job's rows.

``classify`` and ``generate`` hold what several share, the columns of their tables among it.
"""
