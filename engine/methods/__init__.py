"""TESLA and the methods it is compared with, one module each; docs/baselines.md has their protocols and measurements.

To add one: a module here that ends in a `Method`, and its table in engine/settings/methods.toml.
"""
