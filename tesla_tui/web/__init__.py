"""The live screens in a browser."""
