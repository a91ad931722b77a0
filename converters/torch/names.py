"""What values of a traced program are called: by the modules whose outputs they are, and by their operators.

A name of a module, ``"layer3.1"``, means the output of its last call; see `innsight_py.converters.names` for modules
that are called several times, or hand out several values. What a module does between its parts, the functions that it
calls, is called by the operator, ``"layer3.1.add"``.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Mapping

from torch import fx

from innsight_py.converters.names import numbered
from innsight_py.converters.torch.tracing import module_of, origin_of, path_of


def named_values(graph: fx.Graph, known: Container[str]) -> dict[str, str]:
    """Return the node that each name means, for the nodes in `known`."""
    calls: dict[str, dict[str, list[str]]] = {}  # of a path: its calls, each with what it hands out
    for node in graph.nodes:
        if node.name not in known:
            continue
        for call, (full, *_) in _stack(node).items():
            path = path_of(str(full))
            if path:
                outputs = calls.setdefault(path, {}).setdefault(call, [])
                if any(call not in _stack(user) for user in node.users):
                    outputs.append(node.name)
    names = numbered({path: [outputs for outputs in each.values() if outputs] for path, each in calls.items()})
    inner = {path.rpartition(".")[0] for path in calls} | {""}  # modules that have parts
    operators: dict[str, list[list[str]]] = {}
    for node in graph.nodes:
        if node.name in known and node.target is not operator.getitem and module_of(node)[0] in inner:
            operators.setdefault(origin_of(node), []).append([node.name])
    taken = set(names.values())
    more = {name: node for name, node in numbered(operators).items() if node not in taken and name not in names}
    return names | more


def _stack(node: fx.Node) -> Mapping[str, tuple[str, object]]:
    return node.meta.get("nn_module_stack") or {}
