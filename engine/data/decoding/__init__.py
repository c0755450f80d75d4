"""Decoding: pictures become uint8 arrays, on all cores, and a stopped decoding is resumed."""
