"""More rows than memory: explanations as a data set on disk."""

from innsight_py.datasets.batches import explain_batches
from innsight_py.datasets.dataset import explain_dataset
from innsight_py.datasets.explained import load_explanations

__all__ = ["explain_batches", "explain_dataset", "load_explanations"]
