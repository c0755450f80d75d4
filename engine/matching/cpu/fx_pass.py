"""The entry to tesla's CPU kernels: a compiler pass over the graph of a step that does convolutions with less work.

* Zeros. In forward mode the input of a network's first convolution has no tangent, and PyTorch convolves a tensor of
  zeros in its place, forward and backward.
* Few channels: patches.py.  * 3x3 over many channels: winograd.py.

All are exact up to rounding. The last two are for CPUs; an accelerator's libraries choose among such algorithms
themselves. `compute.cpu_kernels = off` leaves the whole pass out (see `compiled.fused`). Measured in
docs/performance.md.
"""

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._inductor.decomposition import select_decomp_table
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx

from engine.matching.cpu import patches, winograd

aten = torch.ops.aten

FEW = 4
"""Most input channels of a convolution that is done with patches."""

MANY = 32
"""Fewest channels, in and out, of a convolution that is done by Winograd's algorithm."""

_SAME_VALUES = {
    aten.permute.default, aten.expand.default, aten.view.default, aten.reshape.default, aten.clone.default,
}  # fmt: skip


class LeanConvolutions(CustomGraphPass):
    """See the module; patches.py and ops.py register the operators that it puts in."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        for node in list(graph.nodes):
            # (input, weight, bias, ...): a bias would be added to the zeros.
            if node.target is aten.convolution.default and node.args[2] is None and _is_zero(node.args[0]):
                _replace(node, _zeros_like(graph, node))
            # (grad_output, input, weight, ...) -> (by input, by weight, by bias)
            elif node.target is aten.convolution_backward.default and _is_zero(node.args[1]):
                for part in _parts(node, 1):
                    _replace(part, _zeros_like(graph, part))
        graph.eliminate_dead_code()
        rewriter = _Rewriter(graph)
        for node in list(graph.nodes):
            rewriter.visit(node)
        graph.eliminate_dead_code()

    def uuid(self) -> str:
        """Identifies this pass in the compiler's cache: it changes with every source file of this folder."""
        sources = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".py", ".cpp"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


class _Rewriter:
    """Replaces convolutions one by one, in order; what they share is computed once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[tuple[Any, ...], Node] = {}
        self._sums: dict[Node, _Sum] = {}

    def visit(self, node: Node) -> None:
        """Look at a node, and replace it if it is a convolution with a cheaper form."""
        if node.target is aten.convolution.default:
            images, weight, bias, *geometry = node.args
            kind = _kind(images, weight, *geometry)
            if kind == "few":
                _replace(node, self._few(node, images, weight, bias, _padding(geometry)))
            elif kind == "many":
                tiles = self._tiles(node, images, weight)
                self._put(node, _Sum(tiles, _output, None if bias is None else bias))
        elif node.target is aten.convolution_backward.default:
            outer, images, weight, _, *geometry = node.args[:-1]
            kind = _kind(images, weight, *geometry)
            if kind == "few":
                self._backward_few(node, outer, images, weight, _padding(geometry))
            elif kind == "many":
                self._backward_many(node, outer, images, weight)
        elif node.target is aten.add.Tensor and not node.kwargs:
            self._merge(node)

    def _few(self, node: Node, images: Any, weight: Any, bias: Any, padding: int) -> Node:
        found = self._patches(node, images, weight, padding)
        product = self._inline(node, patches.patch_convolution, found, weight, bias)
        batch, outputs, height, width = node.meta["val"].shape
        return self._inline(node, lambda p: p.reshape(batch, height, width, outputs).permute(0, 3, 1, 2), product)

    def _patches(self, node: Node, images: Any, weight: Any, padding: int) -> Node:
        side = weight.meta["val"].shape[2]
        return self._once(node, partial(_patches, side=side, padding=padding), images, key=("patches", side, padding))

    def _backward_few(self, node: Node, outer: Any, images: Any, weight: Any, padding: int) -> None:
        side = weight.meta["val"].shape[2]
        for part in _parts(node, 0):
            _replace(part, self._inline(node, partial(_patch_adjoint, padding=padding), outer, weight))
        for part in _parts(node, 1):
            found = self._patches(node, images, weight, padding)
            _replace(part, self._inline(node, partial(_patch_weight_gradient, side=side), found, outer))
        for part in _parts(node, 2):
            _replace(part, self._inline(node, _by_bias, outer))

    def _tiles(self, node: Node, images: Any, weight: Any) -> Node:
        """The products of a convolution, before they are transformed back."""
        inputs = self._once(node, _input, images, key=("input",))
        weights = self._once(node, _weight, weight, key=("weight",))
        return self._inline(node, _products, inputs, weights)

    def _backward_many(self, node: Node, outer: Any, images: Any, weight: Any) -> None:
        outers = self._once(node, _outer, outer, key=("outer",))
        for part in _parts(node, 0):
            weights = self._once(node, _weight, weight, key=("weight",))
            self._put(part, _Sum(self._inline(node, _adjoint_products, outers, weights), _input_adjoint, None))
        for part in _parts(node, 1):
            inputs = self._once(node, _input, images, key=("input",))
            self._put(part, _Sum(self._inline(node, _weight_products, outers, inputs), _weight_adjoint, None))
        for part in _parts(node, 2):
            _replace(part, self._inline(node, _by_bias, outer))

    def _merge(self, node: Node) -> None:
        """Two transforms that are only added up: one transform of the sum."""
        a, b = node.args[:2]
        if not (isinstance(a, Node) and isinstance(b, Node)) or a is b or a not in self._sums or b not in self._sums:
            return
        one, other = self._sums[a], self._sums[b]
        if one.transform is not other.transform or len(a.users) > 1 or len(b.users) > 1:
            return
        tiles = self._inline(node, torch.add, one.tiles, other.tiles)
        biases = [bias for bias in (one.bias, other.bias) if bias is not None]
        bias = self._inline(node, torch.add, *biases) if len(biases) == 2 else next(iter(biases), None)
        self._put(node, _Sum(tiles, one.transform, bias))

    def _put(self, node: Node, found: "_Sum") -> None:
        images = self._inline(node, found.transform, found.tiles)
        if found.bias is not None:
            images = self._inline(node, lambda i, b: i + b.view(-1, 1, 1), images, found.bias)
        _replace(node, images)
        self._sums[images] = found

    def _once(self, before: Node, function: Callable[..., Tensor], argument: Any, *, key: tuple[Any, ...]) -> Node:
        if (argument, *key) not in self._known:
            self._known[argument, *key] = self._inline(before, function, argument)
        return self._known[argument, *key]

    def _inline(self, before: Node, function: Callable[..., Tensor], *arguments: Any) -> Node:
        """The nodes of a function of tensors, put before a node; gives the one that has its result."""
        nodes = [argument for argument in arguments if isinstance(argument, Node)]
        values = [node.meta["val"] for node in nodes]

        def of_nodes(*tensors: Tensor) -> Tensor:
            given = iter(tensors)
            return function(*[next(given) if isinstance(argument, Node) else argument for argument in arguments])

        with values[0].fake_mode:
            traced = make_fx(of_nodes, decomposition_table=select_decomp_table())(*values)
        known = dict(zip((n for n in traced.graph.nodes if n.op == "placeholder"), nodes, strict=True))
        with self._graph.inserting_before(before):
            for node in traced.graph.nodes:
                if node.op == "output":
                    result: Node = known[node.args[0]]
                    return result
                if node.op != "placeholder":
                    known[node] = self._graph.node_copy(node, known.__getitem__)
        raise AssertionError("a traced graph ends in its output")


@dataclass(frozen=True)
class _Sum:
    """Images (plus a bias) or weights that are a transform of tiles."""

    tiles: Node
    transform: Callable[[Tensor], Tensor]
    bias: Any


# The same functions of images (B, C, H, W), which is how the graph has them.


def _patches(images: Tensor, side: int, padding: int) -> Tensor:
    return patches.patches(images.permute(0, 2, 3, 1), side, padding)


def _patch_adjoint(outer: Tensor, weight: Tensor, padding: int) -> Tensor:
    return patches.patch_convolution_adjoint(outer.permute(0, 2, 3, 1), weight, padding).permute(0, 3, 1, 2)


def _patch_weight_gradient(found: Tensor, outer: Tensor, side: int) -> Tensor:
    return patches.patch_weight_gradient(found, outer.permute(0, 2, 3, 1), side)


def _by_bias(outer: Tensor) -> Tensor:
    return outer.sum((0, 2, 3))


def _input(images: Tensor) -> Tensor:
    return _transform(images.permute(0, 2, 3, 1), "input")


def _input_adjoint(tiles: Tensor) -> Tensor:
    return _transform(tiles, "input_adjoint").permute(0, 3, 1, 2)


def _output(tiles: Tensor) -> Tensor:
    return _transform(tiles, "output").permute(0, 3, 1, 2)


def _outer(outer: Tensor) -> Tensor:
    return _transform(outer.permute(0, 2, 3, 1), "output_adjoint")


def _weight(weight: Tensor) -> Tensor:
    return _transform(weight, "weight")


def _transform(tensor: Tensor, name: str) -> Tensor:
    found: Tensor = torch.ops.tesla.winograd(tensor.contiguous(), name)
    return found


def _products(inputs: Tensor, weights: Tensor) -> Tensor:
    found: Tensor = torch.ops.tesla.many_products(inputs.flatten(0, 2), weights)
    return found.reshape(*inputs.shape[:4], -1)


def _adjoint_products(outers: Tensor, weights: Tensor) -> Tensor:
    return _products(outers, weights.transpose(1, 2))


def _weight_products(outers: Tensor, inputs: Tensor) -> Tensor:
    found: Tensor = torch.ops.tesla.many_transposed_products(outers.flatten(0, 2), inputs.flatten(0, 2))
    return found


def _weight_adjoint(tiles: Tensor) -> Tensor:
    return _transform(tiles, "weight_adjoint")


def _kind(images: Any, weight: Any, stride: Any, padding: Any, dilation: Any, transposed: Any, *rest: Any) -> str:
    """`few`, `many`, or nothing: the better way to do a convolution, if any."""
    value, picture = weight.meta["val"], images.meta["val"]
    plain = (
        value.device.type == "cpu"
        and value.dtype in (torch.float32, torch.float64)
        and value.dim() == 4
        and value.shape[2] == value.shape[3] > 1
        and len(set(padding)) == 1
        and list(stride) == [1, 1]
        and list(dilation) == [1, 1]
        and not transposed
        and rest[-1] == 1
    )
    if plain and value.shape[1] <= FEW:
        return "few"
    outputs, channels, side = value.shape[:3]
    height, width = picture.shape[2:]
    tiled = side == 3 and padding[0] == 1 and height % winograd.TILE == 0 and width % winograd.TILE == 0
    lanes = 64 // value.element_size()
    wide = min(outputs, channels) >= MANY and outputs % lanes == 0 and channels % lanes == 0
    return "many" if plain and tiled and wide else ""


def _padding(geometry: Any) -> int:
    """Of (stride, padding, dilation, ...), the same on all sides."""
    found: int = geometry[1][0]
    return found


def _parts(node: Node, number: int) -> list[Node]:
    """The nodes that take one output of several."""
    return [user for user in node.users if user.target is operator.getitem and user.args[1] == number]


def _is_zero(node: object) -> bool:
    while isinstance(node, Node) and node.target in _SAME_VALUES:
        node = node.args[0]
    return isinstance(node, Node) and node.target is aten.full.default and node.args[1] in (0, False)


def _zeros_like(graph: Graph, node: Node) -> Node:
    value = node.meta["val"]
    with graph.inserting_before(node):
        zeros = graph.call_function(
            aten.full.default,
            ([int(size) for size in value.shape], 0),
            {"dtype": value.dtype, "layout": torch.strided, "device": value.device, "pin_memory": False},
        )
    zeros.meta["val"] = value
    return zeros


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)
