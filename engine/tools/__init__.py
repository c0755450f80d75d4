"""Plan, bench, doctor, studies and tracking: programs around a run."""
