"""Every op of the table, timed beside what a user would write without it: `python -m benchmarks.report`."""
