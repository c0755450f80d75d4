"""Benchmarks: what the engine costs on this machine, beside what published code costs on the same machine.

Each candidate runs in its own process, in turns (worker.py, turns.py), beside reference_implementation.py.
"""
