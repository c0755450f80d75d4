"""The methods that TESLA is compared with, one module each; docs/baselines.md has their protocols and measurements.

To add one: a module here that ends in a `Method`, its name in `MethodName` (settings/schema.py) and its published
rates in settings/methods.toml, and a line in engine/methods/registry.py.
"""
