"""Atomic, verified files: locks, checksums, format versions, and validated reading of untrusted files."""
