"""One command per file; each function's docstring is its help. Heavy imports are inside the functions."""
