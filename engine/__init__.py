"""Dataset distillation by matching training trajectories: a library that prints nothing and knows no interface."""

__version__ = "0.1.0"
