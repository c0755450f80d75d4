"""Norms, average pooling and ReLU written out as plain arithmetic, for the compiler.

Eager, one kernel for a whole layer is fastest. Compiled, a kernel is a wall: the compiler decomposes it its own way
under forward mode, and its backward does not fuse with the neighbours. Written out, a norm needs two passes over its
input in each direction and the pooling's backward vectorises (measured in docs/performance.md).

`SpelledLayers` changes the calls in the graph before it is differentiated. So it does not matter whether a network is
tesla's or a user's, or whether it calls modules or functions.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, Node

from engine.networks import layers
from engine.networks.layers import mean_pool

Call = tuple[Callable[..., Tensor], tuple[Any, ...]]
"""A function and its arguments, nodes among them."""


class SpelledLayers(CustomGraphPass):
    """See the module."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        for node in list(graph.nodes):
            spelled = _spelled(node)
            if spelled is not None:
                function, arguments = spelled
                with graph.inserting_before(node):
                    other = graph.call_function(function, arguments)
                other.meta = dict(node.meta)
                node.replace_all_uses_with(other)
                graph.erase_node(node)

    def uuid(self) -> str:
        """Identifies this pass in the compiler's cache: it changes with its source files."""
        sources = (Path(__file__), Path(layers.__file__))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _spelled(node: Node) -> Call | None:
    """What to call in place of a node; None to keep it."""
    value = node.meta.get("example_value")
    if node.op != "call_function" or not isinstance(value, Tensor) or value.dim() != 4:
        return None
    if node.target in (F.relu, torch.relu):
        # What an in-place ReLU changes is not read elsewhere, or it stays as it is.
        alone = len(node.all_input_nodes[0].users) == 1 or not node.kwargs.get("inplace", False)
        return (relu, node.args) if value.device.type == "cpu" and alone and len(node.args) == 1 else None
    if node.target is torch._C._nn.avg_pool2d:
        return _pool(node.args, node.kwargs)
    if node.target in (F.group_norm, F.instance_norm, F.batch_norm):
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        return _norm(node.target.__name__, bound.arguments, value.dtype)
    return None


def _pool(arguments: Sequence[Any], named: Mapping[str, Any]) -> Call | None:
    """Of square windows side by side."""
    if named or len(arguments) < 2:
        return None
    images, kernel, *rest = arguments
    defaults: list[Any] = [None, 0, False, True, None]
    stride, padding, ceil, _, divisor = rest + defaults[len(rest) :]
    sides = {*_pair(kernel), *_pair(stride or kernel)}
    plain = len(sides) == 1 and set(_pair(padding)) == {0} and not ceil and divisor is None
    return (mean_pool, (images, sides.pop())) if plain else None


def _pair(sides: Any) -> tuple[int, ...]:
    return tuple(sides) if isinstance(sides, (tuple, list)) else (sides,)


def _norm(name: str, given: Mapping[str, Any], dtype: torch.dtype) -> Call | None:
    """Of a norm with the statistics of its input."""
    images = given["input"]
    running = [node for node in (given.get("running_mean"), given.get("running_var")) if node is not None]
    if name == "group_norm":
        groups = given["num_groups"]
    elif name == "instance_norm":
        groups = images.meta["example_value"].shape[1]
        if running or not given["use_input_stats"]:
            return None
    else:
        groups = None
        # Running statistics are copies that nothing else reads (see FlatNetwork), or the layer stays as it is.
        if not given["training"] or any(len(node.users) > 1 for node in running):
            return None
    return norm, (images, groups, given["weight"], given["bias"], given["eps"], dtype)


def norm(
    images: Tensor, groups: int | None, weight: Tensor | None, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> Tensor:
    """Group norm, or batch norm without groups, from the moments of the distances to one pixel.

    Both moments come from one pass. The shift keeps the subtraction E[d^2] - E[d]^2 from cancelling where a channel is
    nearly constant; the result does not depend on it, so no gradient flows through it.

    Args:
        images: `(B, C, H, W)`.
        groups: of channels, each of which is normalised with its pixels; None for channels over the whole batch.
        weight: `(C,)`, or None for ones.
        bias: `(C,)`, or None for zeros.
        eps: added to the variance.
        dtype: of the result; moments are in float32 at least.
    """
    pixels = images.movedim(1, 3)
    if pixels.dtype in (torch.bfloat16, torch.float16):
        pixels = pixels.float()
    row, column, channels = pixels.shape[1] // 2, pixels.shape[2] // 2, pixels.shape[3]
    axes: tuple[int, ...] = (1, 2)
    one = pixels[:, row, column][:, None, None]
    if groups is None:
        axes, one = (0, 1, 2), one[:1]
    elif groups < channels:
        pixels, one = (x.unflatten(3, (groups, channels // groups)) for x in (pixels, one))
        axes, one = (1, 2, 4), one[..., :1]
    inner = pixels.shape[3:]
    distances = pixels - one.detach()
    mean = distances.mean(axes, keepdim=True)
    scale = torch.rsqrt(distances.square().mean(axes, keepdim=True) - mean.square() + eps)
    if weight is not None:
        scale = scale * weight.view(inner)
    shift = -mean * scale if bias is None else bias.view(inner) - mean * scale
    normal = distances * scale + shift
    return normal.flatten(3).movedim(3, 1).to(dtype)


def relu(images: Tensor) -> Tensor:
    """max(0, x) of `(B, C, H, W)`, for a CPU.

    The compiler keeps the result for the backward pass in the order it is computed in. All around it channels come
    last; kept in another order, its sixteen loads a vector cost more than the arithmetic.
    """
    return torch.relu(images.movedim(1, 3)).movedim(3, 1)
