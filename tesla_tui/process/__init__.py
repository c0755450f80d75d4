"""Runs in processes of their own: detached drivers, workers, signals."""
