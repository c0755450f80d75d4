"""Dataset distillation by matching training trajectories: exact gradient, constant memory, bit-exact resume.

A pure library: it never prints, never imports a user interface, and every stage is a generator of typed events.
Importing `engine` itself is free of heavy imports; `engine.matching` is the heart.
"""

__version__ = "0.1.0"
