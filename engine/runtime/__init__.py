"""The machine a run uses: device, memory, processes, threads and randomness."""
