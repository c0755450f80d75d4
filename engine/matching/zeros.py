"""A compiler pass: no convolution over zeros.

In forward mode the input of a network's first convolution has no tangent, and PyTorch convolves a tensor of zeros in
its place, forward and backward: at 3x32x32 and width 128, one part in eleven of the second-order step's time.
"""

import operator

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph, Node

aten = torch.ops.aten

_SAME_VALUES = {
    aten.permute.default, aten.expand.default, aten.view.default, aten.reshape.default, aten.clone.default,
}  # fmt: skip


class NoZeroConvolutions(CustomGraphPass):
    """Replace convolutions of zeros, and weight gradients that are sums over zeros, by zeros."""

    def __call__(self, graph: Graph) -> None:
        """Change the graph in place."""
        for node in list(graph.nodes):
            # (input, weight, bias, ...): a bias would be added to the zeros.
            if node.target is aten.convolution.default and node.args[2] is None and _is_zero(node.args[0]):
                _replace_by_zeros(graph, node)
            # (grad_output, input, weight, ...) -> (by input, by weight, by bias)
            elif node.target is aten.convolution_backward.default and _is_zero(node.args[1]):
                for part in list(node.users):
                    if part.target is operator.getitem and part.args[1] == 1:
                        _replace_by_zeros(graph, part)
        graph.eliminate_dead_code()

    def uuid(self) -> str:
        """Names this pass in the compiler's cache; to be changed with what it does."""
        return "tesla-no-zero-convolutions-1"


def _is_zero(node: object) -> bool:
    while isinstance(node, Node) and node.target in _SAME_VALUES:
        node = node.args[0]
    return isinstance(node, Node) and node.target is aten.full.default and node.args[1] in (0, False)


def _replace_by_zeros(graph: Graph, node: Node) -> None:
    value = node.meta["val"]
    with graph.inserting_before(node):
        zeros = graph.call_function(
            aten.full.default,
            ([int(size) for size in value.shape], 0),
            {"dtype": value.dtype, "layout": torch.strided, "device": value.device, "pin_memory": False},
        )
    zeros.meta["val"] = value
    node.replace_all_uses_with(zeros)
    graph.erase_node(node)
