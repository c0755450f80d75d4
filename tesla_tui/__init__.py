"""The terminal workbench: the `tesla` command over the engine."""
