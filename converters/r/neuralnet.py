"""The door for networks of R's package ``neuralnet``, as ``saveRDS`` has written them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from innsight_py._checks import FilePath, checked
from innsight_py.converters.r import rds

_ACTIVATIONS = ("logistic", "tanh", "relu")


@checked
def read_neuralnet(path: FilePath) -> dict[str, Any]:
    """Read a network that R's ``neuralnet`` has fitted and ``saveRDS(nn, "model.rds")`` has written.

    R is not needed. Nothing in the file is run: of the fitted object only the weights, errors, names and the types of
    the activation functions are read. Of several repetitions the one with the smallest error is taken. Weights that
    were excluded from the fit are 0, as in R's ``predict``; all are rounded to single precision, as R innsight does, so
    that in double precision the answers are R's to the last digits.

    Parameters
    ----------
    path : str or path-like
        The file. ``Converter(path)`` reads it as well.

    Returns
    -------
    dict
        A model spec for `Converter`: dense layers, with the covariates as input names and the responses (the classes
        of a factor) as output names.

    Raises
    ------
    ImportError
        If the package ``rdata`` is not installed (``pip install "innsight_py[r]"``).
    OSError
        If there is no such file.
    ValueError
        If the file is damaged, truncated or no ``.rds`` file, does not hold a network of ``neuralnet``, or one that is
        not fitted or has activation functions of its own.

    References
    ----------
    Günther and Fritsch (2010): neuralnet: Training of Neural Networks. The R Journal 2(1), 30-38.

    Examples
    --------
    >>> spec = read_neuralnet("penguins.rds")
    >>> spec["output_names"], [layer["activation_name"] for layer in spec["layers"]]
    (['Adelie', 'Gentoo', 'Chinstrap'], ['logistic', 'logistic'])
    """
    return neuralnet_spec(rds.read_rds(path), path)


def is_neuralnet(model: rds.RObject) -> bool:
    """Tell whether an object of R's is a network of ``neuralnet``."""
    return "nn" in rds.classes(model) and "model.list" in rds.fields(model)


def neuralnet_spec(model: rds.RObject, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the model spec of a parsed network."""
    try:
        if not is_neuralnet(model):
            found = ", ".join(rds.classes(model))
            hint = " Use 'read_r_model' for a list of R innsight's." if "layers" in rds.fields(model) else ""
            raise ValueError(f"it holds an R object of class {found}, not a network of neuralnet.{hint}")  # noqa: TRY301
        return _spec(rds.fields(model))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        missing = isinstance(error, KeyError)
        why = f"the object lacks the entry {error}" if missing else str(error).rstrip(".")
    raise ValueError(f"'{os.fspath(path)}' cannot be read as a network of R's neuralnet: {why}.")


def _spec(model: dict[str, rds.RObject]) -> dict[str, Any]:
    if "result.matrix" not in model or "weights" not in model:
        raise ValueError("it is not fitted: neuralnet() did not converge within its 'stepmax'")
    hidden = _activation(model["act.fct"])
    if bool(rds.plain(model["linear.output"])[0]):
        last = "linear"
    elif "output.act.fct" in model and rds.kind(model["output.act.fct"]) != "NILVALUE":
        last = _activation(model["output.act.fct"])
    else:  # versions before 1.44.4 have one activation for all layers
        last = hidden
    # Excluded weights are NA; R innsight rounds all to single precision.
    weights = [np.where(np.isnan(matrix), 0, matrix).astype(np.float32) for matrix in _best_weights(model)]
    names = rds.plain(model["model.list"])
    layers = [
        {"type": "Dense", "weight": matrix[1:].T, "bias": matrix[0], "activation_name": hidden} for matrix in weights
    ]  # the first row of each matrix is the bias
    layers[-1]["activation_name"] = last
    return {
        "input_dim": [len(weights[0]) - 1],
        "layers": layers,
        "input_names": list(names["variables"]),
        "output_names": list(names["response"]),
    }


def _activation(function: rds.RObject) -> str:
    kinds = rds.plain(rds.attributes(function)["type"])
    name = str(kinds[0])
    if name == "function":
        raise ValueError(
            "it has an activation function of its own, which is code; "
            f"networks with 'act.fct' one of {', '.join(_ACTIVATIONS)} can be read"
        )
    if name not in _ACTIVATIONS:
        raise ValueError(f"it has the unknown activation function '{name}'")
    return name


def _best_weights(model: dict[str, rds.RObject]) -> list[np.ndarray]:
    """Return the weight matrices of the repetition with the smallest error."""
    table = rds.plain(model["result.matrix"])
    rows = rds.plain(rds.attributes(model["result.matrix"])["dimnames"])[0]
    errors = table[rows.index("error")]
    # Repetitions that did not converge have no weights, and no column.
    fitted = [entry for entry in rds.plain(model["weights"]) if entry is not None]
    if not len(errors) or len(errors) != len(fitted):
        raise ValueError(f"it has {len(fitted)} sets of weights and {len(errors)} errors")
    matrices = list(fitted[int(np.argmin(errors))])
    if not matrices or not all(isinstance(matrix, np.ndarray) and matrix.ndim == 2 for matrix in matrices):
        raise ValueError("its weights are no matrices")
    return matrices
