"""Randomness that is counted, not carried.

Every draw comes from a generator seeded by (run seed, purpose, counters ...). Nothing needs to be saved to resume
bit-exactly, results do not depend on the number of workers, and the global generator is not used.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def counted_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed that is a pure function of its arguments (the same on every machine and Python)."""
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def counted_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose at one count; draws are moved to the device they are used on."""
    return torch.Generator().manual_seed(counted_seed(seed, purpose, *counters))


@contextmanager
def forked_global_rng(seed: int) -> Iterator[None]:
    """Seed the global CPU generator inside the block and restore it after.

    Only for code that cannot take a generator: `nn.Module` constructors draw their initial weights globally.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
