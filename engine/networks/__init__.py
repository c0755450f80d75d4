"""Networks, and the functional view of any of them over one flat parameter vector."""

from engine.networks.flat import FlatNetwork, flatten_parameters, load_parameters
from engine.networks.registry import NETWORKS, build_network, default_depth, initialised_network

__all__ = [
    "NETWORKS",
    "FlatNetwork",
    "build_network",
    "default_depth",
    "flatten_parameters",
    "initialised_network",
    "load_parameters",
]
