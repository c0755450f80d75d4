"""The report of a run: one HTML file with everything in it, from the run's files alone and without PyTorch."""
