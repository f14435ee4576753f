"""One module an experiment: ``COLUMNS`` of its table, its jobs, and ``run``, which makes a job's rows."""
