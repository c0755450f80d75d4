"""Several processes at one run: who they are (`place.py`), what they exchange (`ranks.py`, `group.py`), and how they
notice that one of them has died (`watchdog.py`).
"""
