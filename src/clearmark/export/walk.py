"""A graph rebuilt from a runtime's own layers, operator by operator.

A class of layers has a method for each operator that the runtime can carry, named and called as
ATen names and calls it, except that values are the runtime's own, weights are torch tensors and
sizes that depend on the picture are sympy expressions.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from clearmark.errors import UserError
from clearmark.export.graph import INPUT

END = 2**63 - 1
"""The end of a slice that has none."""


class Growth(NamedTuple):
    """How far one side of a picture is padded: ``before`` pixels in front, and in all until it is
    ``multiple * ceil((side + more) / multiple) + rest``.
    """

    before: int
    multiple: int
    more: int
    rest: int

    def total(self, side: int) -> int:
        """The padded side."""
        return -(-(side + self.more) // self.multiple) * self.multiple + self.rest


def walk(program: ExportedProgram, layers: Any, marked: Any, key: str) -> list[Any]:
    """The runtime's outputs of a graph.

    Args:
        program: the graph, see ``graph.traced``.
        layers: of the runtime; ``NotImplementedError`` says what it cannot carry.
        marked: the runtime's input.
        key: the format, for messages.

    Raises:
        UserError: the runtime has no such layer.
    """
    values: dict[Node, Any] = _weights(program)
    needed = _needed(program)
    for node in program.graph.nodes:
        if node not in needed or node in values:
            continue
        if node.op == "placeholder" and node.target == INPUT:
            values[node] = marked
        elif isinstance(node.meta.get("val"), torch.SymInt):
            values[node] = sympy.sympify(node.meta["val"].node.expr)
        elif node.op == "call_function":
            values[node] = _called(node, values, layers, key)
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return [values[node] for node in output.args[0]]


def sides(program: ExportedProgram) -> tuple[sympy.Expr, sympy.Expr]:
    """The symbols that stand for a picture's H and W."""
    (marked,) = (node for node in program.graph.nodes if node.target == INPUT)
    height, width = (side.node.expr for side in marked.meta["val"].shape[2:])
    return height, width


def growth(side: sympy.Expr, before: Any, after: Any) -> Growth:
    """How far ``after`` pixels behind and ``before`` in front, of ``aten.pad``, grow a side."""
    after = sympy.sympify(after)
    mods = [part for part in after.atoms(sympy.Function) if type(part).__name__.endswith("Mod")]
    if len(mods) != 1 or not (after - mods[0]).is_Integer:
        raise NotImplementedError(f"it pads by {after}")
    (mod,) = mods
    multiple, more = int(mod.args[1]), sympy.expand(-mod.args[0] - side)
    if not more.is_Integer:
        raise NotImplementedError(f"it pads by {after}")
    rest = int(before) + int(after - mod) - int(more)
    return Growth(int(before), multiple, int(more), rest)


def _called(node: Node, values: dict[Node, Any], layers: Any, key: str) -> Any:
    args: Any = map_arg(node.args, values.__getitem__)
    kwargs: Any = map_arg(node.kwargs, values.__getitem__)
    fixed = [values[given] for given in node.all_input_nodes]
    if fixed and all(isinstance(value, Tensor) for value in fixed):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    schema = getattr(node.target, "_schema", None)
    name = schema.name.removeprefix("aten::") if schema else str(node.target)
    method = getattr(layers, name, None)
    try:
        if method is None:
            raise NotImplementedError(f"it has no {name}")
        try:
            inspect.signature(method).bind(*args, **kwargs)
        except TypeError as error:
            raise NotImplementedError(f"it has no {name} with these options: {error}") from error
        return method(*args, **kwargs)
    except NotImplementedError as error:
        raise UserError(f"format={key} cannot carry this network: {error}") from error


def _weights(program: ExportedProgram) -> dict[Node, Tensor]:
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held = {**program.state_dict, **program.constants}
    return {
        node: held[names[node.name]].detach()
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    }


def _needed(program: ExportedProgram) -> set[Node]:
    """What the outputs depend on."""
    found: set[Node] = set()
    left = [node for node in program.graph.nodes if node.op == "output"]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found
