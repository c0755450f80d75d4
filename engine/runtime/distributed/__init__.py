"""Several processes for one run: who they are (`environment.py`), what they exchange (`ranks.py`, `process_group.py`),
and how they notice that one of them has died (`watchdog.py`).
"""
