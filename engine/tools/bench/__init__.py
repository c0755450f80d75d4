"""Benchmarks: what the engine costs on this machine, beside what published code costs on it."""
