"""A converted model in the other precision, and with batch normalisation folded: made when asked for, and kept."""

from __future__ import annotations

import threading
from typing import Any

import torch

from innsight_py.model.converted import ConvertedModel
from innsight_py.model.folding import fold_batch_norm
from innsight_py.model.held import Copies
from innsight_py.spec import ModelSpec


class Variants:
    """The other forms of one model. It is empty in a copy that was pickled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.made: Copies[ConvertedModel] = Copies()
        self._folded: tuple[ModelSpec, dict[str, str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def model(self, spec: ModelSpec, model: ConvertedModel, dtype: torch.dtype, merged: bool) -> ConvertedModel:
        """Return a model in a precision, `merged` with batch normalisation folded into the layers before it."""
        if not merged and (model.dtype == dtype or not model.has_weights):
            return model
        device = model.device

        def make() -> ConvertedModel:
            if merged:
                return ConvertedModel(self.merged(spec, model)[0], dtype).to(device)
            return ConvertedModel(spec, dtype, like=model).to(device)

        with self._lock:
            return self.made.get(
                (dtype, merged), make, lambda other: other.device == device, ConvertedModel.bytes_of_weights
            )

    def merged(self, spec: ModelSpec, model: ConvertedModel) -> tuple[ModelSpec, dict[str, str]]:
        """Return the spec with batch normalisation folded, and why some of it stays."""
        if self._folded is None:
            dims = dict(zip(model.inputs, spec.input_dim, strict=True))
            dims |= {node.name: model.layer(node.name).output_dim for node in model.nodes}
            self._folded = fold_batch_norm(spec, dims)
        return self._folded
