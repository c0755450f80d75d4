"""Benchmarks: what the engine costs on this machine, beside what published code costs on the same machine.

Everything is measured in processes of their own, in turns (worker.py, turns.py); published.py is the yardstick.
"""
