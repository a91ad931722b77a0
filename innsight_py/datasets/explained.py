"""Reading explanations back: a view of the parts, and of chosen rows an explanation with its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innsight_py._checks import FilePath, checked
from innsight_py._errors import explained, see
from innsight_py.datasets.arrow import Table, require
from innsight_py.datasets.block import Block
from innsight_py.datasets.folder import Folder
from innsight_py.datasets.form import Form
from innsight_py.datasets.layouts import from_table
from innsight_py.datasets.statistics import Statistics
from innsight_py.datasets.summary import DatasetSummary
from innsight_py.explanation import Explanation
from innsight_py.inputs.described import Described
from innsight_py.inputs.nodes import as_node
from innsight_py.inputs.ports import Port


class Kept(Described):
    """What is known of a model whose explanations were kept."""

    def __init__(self, form: Form) -> None:
        self.inputs: tuple[Port, ...] = form.inputs
        self.outputs: tuple[Port, ...] = form.outputs
        self.channels_first = form.channels_first


class KeptExplanation(Explanation):
    """Explanations of chosen rows, read back from a data set; see `Explanation`. The data are not there."""

    def __init__(self, form: Form, block: Block) -> None:
        for name, value in form.facts.items():
            setattr(self, name, value)
        self.described, self.channels_first, self.dtype = Kept(form), form.channels_first, form.dtype
        self.data, self.data_names = [], [str(name) for name in block.ids.to_pylist()[:: form.lines]]
        self.output_idx, self.targets = list(form.nodes), form.per_row
        self.output_label = [
            None if not reach or own is not None else list(labels)
            for reach, own, labels in zip(form.reach, form.per_row, form.labels, strict=True)
        ]
        self.result, self.preds, self.decomp_goal, self.target_idx, self.target_label = [], [], [], [], []
        rows, at = len(self.data_names), 0
        for i, reach in enumerate(form.reach):
            if not reach:
                for entries in (self.result, self.preds, self.decomp_goal, self.target_idx, self.target_label):
                    entries.append(None)
                continue
            k = 1 if form.per_row[i] is not None else len(form.labels[i])
            lines = (np.arange(rows)[:, None] * form.lines + at + np.arange(k)).ravel()
            at += k
            self.result.append(
                [
                    _tensor(block.values[j][lines].reshape(rows, k, *form.dim(j))).movedim(1, -1) if reached else None
                    for j, reached in enumerate(reach)
                ]
            )
            for entries, n in ((self.preds, 0), (self.decomp_goal, 1)):
                numbers = block.numbers[lines, n].reshape(rows, k)
                kept = torch.from_numpy(numbers).to(torch.float64 if form.dtype == "double" else torch.float32)
                entries.append(None if np.isnan(numbers).all() else kept)
            own = form.per_row[i] is not None
            dim = form.outputs[i].dim
            self.target_idx.append([as_node(node, dim) for node in block.nodes[lines].tolist()] if own else None)
            self.target_label.append([form.labels[i][node] for node in block.nodes[lines]] if own else None)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


class ExplainedDataset:
    """Explanations on disk, as `explain_dataset` has written them. Nothing is read before it is asked for.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : dict
        What the job was: versions, method, arguments, and fingerprints of the model and of references.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder, self.path = folder, folder.path
        manifest = folder.manifest
        assert manifest is not None
        self.manifest = {name: value for name, value in manifest.items() if name != "form"}
        self._form = Form.from_json(manifest["form"])

    @property
    def dataset(self) -> Any:
        """The parts as a ``pyarrow.dataset.Dataset``, for filters, columns, and all else that reads Parquet."""
        import pyarrow as pa
        import pyarrow.dataset as pads

        found = pads.dataset([str(self._folder.part(number)) for number in self._folder.numbers()], format="parquet")
        known = found.schema  # of the first part, in which nothing may be missing
        return found.replace_schema(pa.schema([field.with_nullable(True) for field in known], known.metadata))

    def __len__(self) -> int:
        return sum(part.rows for part in self._folder.parts().values())

    @explained
    def result(self, ids: Any) -> KeptExplanation:
        """Return the explanations of some rows, in the order of their ids, with all that an `Explanation` has.

        Parameters
        ----------
        ids : str, int or sequence of these
            Names of the rows.

        Returns
        -------
        Explanation
            With tables and pictures; ``data`` is empty.

        Raises
        ------
        ValueError
            If there is no such row, or it went wrong.
        """
        wanted = [ids] if isinstance(ids, str | bytes) or not isinstance(ids, Iterable) else list(ids)
        if not wanted:
            raise ValueError("Argument 'ids': expected at least one id, got none.")
        table = self._lines(wanted)
        names = table["id"].to_pylist()
        block = from_table(table, self._form)
        if len(self._form.inputs) and len(block) != len(names):  # the long layout has several lines for each
            names = block.ids.to_pylist()
        place: dict[Any, list[int]] = {}
        for line, name in enumerate(names):
            place.setdefault(name, []).append(line)
        for name in wanted:
            if name not in place:
                raise ValueError(f"Argument 'ids': there is no row {name!r} in '{self.path}'.")
            error = block.errors[place[name][0]]
            if error is not None:
                raise ValueError(f"Argument 'ids': the row {name!r} went wrong: {error}")
        return KeptExplanation(self._form, block.take(np.array([line for name in wanted for line in place[name]])))

    def _lines(self, ids: Sequence[Any]) -> Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        dataset = self.dataset
        kind = dataset.schema.field("id").type
        try:
            wanted = pa.array([getattr(name, "item", lambda own=name: own)() for name in ids], kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise ValueError(
                f"Argument 'ids': the ids of '{self.path}' are of the type {kind}, got {ids[0]!r}."
            ) from None
        return dataset.to_table(filter=pc.field("id").isin(wanted), use_threads=False)

    def summary(self) -> DatasetSummary:
        """Return what is known of all rows together: sums, magnitudes, quantiles, and global pictures of them.

        It was gathered while the parts were written; only parts that were left out of that are read.

        Returns
        -------
        DatasetSummary
        """
        return DatasetSummary(gather(self._folder, self._form))

    def __repr__(self) -> str:
        parts = self._folder.parts()
        rows, errors = sum(part.rows for part in parts.values()), sum(part.errors for part in parts.values())
        wrong = f", {errors} of them with an error" if errors else ""
        count = f"{len(parts)} part{'s' if len(parts) != 1 else ''}"
        return f"ExplainedDataset({rows} rows{wrong}, in {count}: {self._form.facts['title']})"


def gather(folder: Folder, form: Form) -> Statistics:
    """Return what is known of all parts together: what was written down, and what parts say that it leaves out."""
    parts, kept = folder.parts(), folder.read_summary()
    found = Statistics(form)
    if kept is not None:
        found = Statistics.from_bytes(kept, form)
    rows, errors = sum(part.rows for part in parts.values()), sum(part.errors for part in parts.values())
    if (found.rows, found.errors) == (rows, errors):
        return found
    found = Statistics(form)
    size = (folder.manifest or {}).get("rows_per_part", 0)
    for number in parts:
        found.add(from_table(folder.read_part(number), form), number * size)
    return found


@checked
def load_explanations(path: FilePath) -> ExplainedDataset:
    """Open explanations that `explain_dataset` has written; nothing is read but the manifest.

    Parameters
    ----------
    path : str or path-like
        The folder.

    Returns
    -------
    ExplainedDataset
        ``dataset`` for pyarrow, ``result(ids)`` for the explanations of some rows, ``summary()`` of all.

    Raises
    ------
    OSError
        If there is no such folder, or no job in it.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from innsight_py import Converter, explain_dataset, load_explanations
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]]}]}
    >>> table = pa.table({"age": [1.0, 2.0], "dose": [2.0, 0.5]})
    >>> _ = explain_dataset(Converter(model), table, "explained/", method="grad", times_input=True)
    >>> load_explanations("explained/").dataset.to_table(columns=["id", "age", "dose"]).to_pylist()
    [{'id': 0, 'age': 1.0, 'dose': -6.0}, {'id': 1, 'age': 2.0, 'dose': -1.5}]
    """
    require("pyarrow")
    folder = Folder(Path(path))
    if folder.manifest is None:
        raise FileNotFoundError(
            see(
                "data-sets",
                f"Argument 'path': '{path}' holds no manifest of explain_dataset; which folder was 'output'?",
            )
        )
    return ExplainedDataset(folder)
