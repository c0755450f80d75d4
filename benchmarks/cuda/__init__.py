"""Everything worth checking on one GPU, in minutes: `python -m benchmarks.cuda`, or `make cuda`.

Each group of checks is a module with a function `run(check, part)`, listed in `groups.py`. Each part runs in a process
of its own with a time limit (`runner.py`, `worker.py`), appends its rows to a file as they come (`rows.py`), and
`markdown.py` turns that file into one page, whatever was finished.
"""
