"""Programs around runs: plan, bench, doctor, studies, tracking, and exchange (import and export)."""
