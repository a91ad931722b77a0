"""What a reader of a result has to be told in a line: of which rows the largest output is not what is explained."""

from __future__ import annotations

from innsight_py.results.attributions import Attributions


def unexplained(attributions: Attributions) -> str | None:
    """Say in one line of which rows the largest output is not among the explained nodes; None where there are none.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [1], "layers": [{"type": "Dense", "weight": [[1.0], [2.0]]}], "output_names": ["a", "b"]}
    >>> unexplained(run_grad(Converter(model), [[1.0]], output_label="a"))
    "The largest output of data_1, 'b', is not explained; target='predicted' explains it."
    """
    for i, largest in enumerate(attributions.largest):
        if largest is None:
            continue
        own = attributions.own_nodes(i)
        nodes = set(attributions.output_idx[i] or ())
        known = [nodes] * len(largest) if own is None else [{node} for node in own]
        rows = [row for row, node in enumerate(largest) if node not in known[row]]
        if rows:
            name = largest_label(attributions, i, rows[0])
            others = f" (nor those of {len(rows) - 1} other rows)" if len(rows) > 1 else ""
            return (
                f"The largest output of {attributions.data_name(rows[0])}, '{name}', is not explained{others}; "
                "target='predicted' explains it."
            )
    return None


def largest_label(attributions: Attributions, i: int, row: int) -> str | None:
    """Return the label of the node of output layer i with the largest output of a row; None where it is not known."""
    largest = attributions.largest[i] if attributions.largest else None
    return None if largest is None else str(attributions.described.output_names[i][0][largest[row]])
