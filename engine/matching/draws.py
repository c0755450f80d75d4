"""Random numbers that a model or an augmentation draws: the same in every sweep over a step.

The second sweep must differentiate the function that the first one computed, so with dropout it needs the same masks.
Nothing is recorded for it: before a step the generators are seeded by (seed, part of the step, number of the step),
and after it they are put back, so that a call leaves every generator as it found it. Where nothing is drawn, nothing
is seeded: the first visit of a step notices by comparing states.
"""

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from engine.networks.dropout import Dropout, has_dropout
from engine.networks.flat import FlatNetwork
from engine.runtime.rng import counted_seed

Part = Literal["augment", "student"]
"""What of a step draws. Each has its own numbers: an augmentation is replayed without the student, and reversed."""

T = TypeVar("T")


class Source(NamedTuple):
    """Something that random numbers come from."""

    state: Callable[[], Any]
    restore: Callable[[Any], Any]
    seed: Callable[[int], Any]


class Draws:
    """What the steps of one call draw.

    Seen are the global generators of PyTorch (host and device), Python and NumPy, generators of all three that a module
    has as attributes, and counted dropout layers. `repeats.py` refuses what draws elsewhere.

    Args:
        model: the student.
        device: of its images.
        seed: of the draws; None for a function of the state of PyTorch's global generator, which is not changed.
    """

    def __init__(self, model: nn.Module, device: torch.device, seed: int | None) -> None:
        self._seed = seed
        self._often = [*_torch_sources(device), *_sources_of(model)]
        # Reading their states takes as long as a small layer, so they are watched in the first step only: who uses
        # them does so in every pass.
        self._seldom = _slow_sources()
        # Where layers show that something is drawn, no step has to find out and be repeated.
        self._drawn: list[Source] = list(self._often) if model.training and has_dropout(model) else []
        """The sources that numbers are drawn from, as far as is known."""

    @property
    def made(self) -> bool:
        """Whether anything was drawn, in what `watched` has seen."""
        return bool(self._drawn)

    def watched(self, step: int, compute: Callable[[], T]) -> T:
        """The result of the first visit of a step.

        Args:
            step: its number.
            compute: with `at` around everything that may draw. Called once more, with seeds, if it drew without.
        """
        while True:
            watched = [s for s in self._often + (self._seldom if step == 0 else []) if s not in self._drawn]
            before = [source.state() for source in watched]
            found = compute()
            new = [(s, old) for s, old in zip(watched, before, strict=True) if not _equal(s.state(), old)]
            if not new:
                return found
            for source, old in new:
                source.restore(old)
                self._drawn.append(source)

    @contextmanager
    def at(self, part: Part, step: int) -> Iterator[None]:
        """Draw the numbers of that part of that step inside the block; every generator is as before after it."""
        if not self._drawn:
            yield
            return
        if self._seed is None:
            self._seed = _global_seed()
        seed = counted_seed(self._seed, f"matching {part}", step)
        before = [source.state() for source in self._drawn]
        try:
            for number, source in enumerate(self._drawn):
                source.seed(seed ^ number)
            yield
        finally:
            for source, old in zip(self._drawn, before, strict=True):
                source.restore(old)


@torch.no_grad()
def draws_random(network: FlatNetwork, theta: Tensor, images: Tensor) -> bool:
    """Whether a network with parameters `theta` `(P,)` draws in a forward pass over `images` `(B, C, H, W)`."""
    draws = Draws(network.model, images.device, seed=0)

    def forward() -> Tensor:
        with draws.at("student", 0):
            return network(theta, images)

    draws.watched(0, forward)
    return draws.made


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return all(_equal(value, b[key]) for key, value in a.items())
    if hasattr(a, "tobytes"):
        return bool(a.tobytes() == b.tobytes())
    if isinstance(a, tuple):  # NumPy's holds an array, whose comparison is one by one
        return all(x.tobytes() == y.tobytes() if hasattr(x, "tobytes") else x == y for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _global_seed() -> int:
    """A seed that is a function of the state of PyTorch's global generator: `torch.manual_seed` decides about it."""
    state = torch.default_generator.get_state().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "little") >> 1


def _torch_sources(device: torch.device) -> list[Source]:
    found = [_source_of_generator(torch.default_generator)]
    if device.type == "cuda":
        generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        found.append(_source_of_generator(generator))
    elif device.type == "mps":
        found.append(Source(torch.mps.get_rng_state, torch.mps.set_rng_state, torch.mps.manual_seed))
    return found


def _source_of_generator(generator: torch.Generator) -> Source:
    return Source(generator.get_state, generator.set_state, generator.manual_seed)


def _sources_of(model: nn.Module) -> list[Source]:
    """Counted dropout, and the generators that modules keep."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    found = [_source_of_layers(layers)] if layers else []
    kept = {id(value): value for module in model.modules() for value in vars(module).values()}
    for value in kept.values():
        if isinstance(value, torch.Generator):
            found.append(_source_of_generator(value))
        elif isinstance(value, random.Random):
            found.append(Source(value.getstate, value.setstate, value.seed))
        elif "numpy" in sys.modules:
            found += _sources_of_numpy(value)
    return found


def _sources_of_numpy(value: Any) -> list[Source]:
    """Of a generator of NumPy that a module has made, if the value is one."""
    numpy = sys.modules["numpy"].random
    if isinstance(value, numpy.RandomState):
        return [Source(value.get_state, value.set_state, lambda seed: value.seed(seed % 2**32))]
    if not isinstance(value, numpy.Generator):
        return []
    bits = value.bit_generator

    def restore(state: Any) -> None:
        bits.state = state

    return [Source(lambda: bits.state, restore, lambda seed: restore(type(bits)(seed).state))]


def _source_of_layers(layers: list[Dropout]) -> Source:
    """The masks of counted layers are a function of how often each was called."""

    def restore(calls: list[int]) -> None:
        for layer, count in zip(layers, calls, strict=True):
            layer.calls = count

    return Source(lambda: [layer.calls for layer in layers], restore, lambda seed: restore([seed] * len(layers)))


def _slow_sources() -> list[Source]:
    found = [Source(random.getstate, random.setstate, random.seed)]
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"].random
        found.append(Source(numpy.get_state, numpy.set_state, lambda seed: numpy.seed(seed % 2**32)))
    return found
