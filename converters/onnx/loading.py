"""Reading ONNX files: nothing outside the file's folder is opened, and nothing is larger than what is there.

A file is a message of protobuf: numbers, texts and the names of operators. Its arrays may lie in other files, which it
names; these must be plain files in its own folder or below.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from innsight_py.spec import SpecError

#: What the arrays in other files may take, as a multiple of these files: a file may be named again for each array.
_AGAIN = 2


def import_onnx() -> Any:
    """Return the package ``onnx`` with the modules that the door needs.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to get it.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ImportError('ONNX models need onnx: pip install "innsight_py[onnx]"') from None
    import onnx.checker
    import onnx.defs
    import onnx.helper
    import onnx.inliner
    import onnx.numpy_helper
    import onnx.reference
    import onnx.shape_inference
    import onnx.version_converter

    return onnx


def load(path: Path) -> Any:
    """Read an ``.onnx`` file, with the arrays that lie in files beside it.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is damaged or no ONNX model, or names a file that it may not have.
    """
    with open(path, "rb") as file:  # errors of the system say it best: no such file, no permission
        data = file.read()
    model = parsed(data, f"'{path}'")
    _load_external(model, path)
    return model


def parsed(data: bytes, what: str) -> Any:
    """Return the model in the bytes of a file."""
    onnx = import_onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf has several classes of errors, by its version
        raise SpecError(f"{what} is damaged or no ONNX model: {_first_line(error)}") from error
    if not model.HasField("graph"):
        raise SpecError(f"{what} is damaged or no ONNX model: it has no graph.")
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def tensors(model: Any) -> Iterator[Any]:
    """Give all arrays of a model: of its graph, of graphs within nodes, and of its functions."""
    waiting: list[Any] = [model.graph]
    nodes: list[Any] = [node for function in model.functions for node in function.node]
    while waiting or nodes:
        while waiting:
            graph = waiting.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        for attribute in nodes.pop().attribute if nodes else ():
            yield from _tensors_of(attribute)
            waiting.extend([attribute.g] if attribute.HasField("g") else [])
            waiting.extend(attribute.graphs)


def _tensors_of(attribute: Any) -> Iterable[Any]:
    return [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]


def is_external(tensor: Any) -> bool:
    """Tell whether the numbers of an array lie in another file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def _load_external(model: Any, path: Path) -> None:
    """Put the arrays of other files where they belong."""
    folder = Path(os.path.realpath(path)).parent
    sizes: dict[Path, int] = {}
    taken = 0
    for tensor in [tensor for tensor in tensors(model) if is_external(tensor)]:
        given = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(given.get("location", ""), folder, path, tensor.name)
        if file not in sizes:
            sizes[file] = _size(file, path, tensor.name)
        start, length = _range(given, tensor, sizes[file], path)
        taken += length
        if taken > _AGAIN * sum(sizes.values()):
            raise _refused(path, tensor.name, "the arrays of the model take the same numbers again and again")
        with open(file, "rb") as opened:
            opened.seek(start)
            tensor.raw_data = opened.read(length)
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _refused(path: Path, name: str, why: str) -> SpecError:
    return SpecError(f"'{path}' is refused: the numbers of the array '{name}' lie in another file, and {why}.")


def _inside(location: str, folder: Path, path: Path, name: str) -> Path:
    """Return a file in the folder of the model; nothing is opened to find it."""
    windows = PureWindowsPath(location)
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or ".." in parts or windows.is_absolute() or windows.drive or parts[0] == "":
        raise _refused(path, name, f"its place {location!r} is not a path within the folder of the model")
    file = folder.joinpath(*parts)
    if not Path(os.path.realpath(file)).is_relative_to(folder):
        raise _refused(path, name, f"its place {location!r} leads out of the folder of the model")
    return file


def _size(file: Path, path: Path, name: str) -> int:
    status = os.stat(file)  # errors of the system say it best
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, name, f"'{file.name}' is no plain file")
    return status.st_size


def _range(given: dict[str, str], tensor: Any, size: int, path: Path) -> tuple[int, int]:
    """Return where the numbers start and how many bytes they take, which the shape of the array must confirm."""
    onnx = import_onnx()
    try:
        start, item = int(given.get("offset", 0)), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        count = math.prod(tensor.dims)
        length = int(given.get("length", count * item))
    except (KeyError, ValueError, TypeError):
        raise _refused(path, tensor.name, "its offset, its length or its type cannot be read") from None
    packed = onnx.TensorProto.DataType.Name(tensor.data_type) in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if start < 0 or length < 0 or start + length > size or (not packed and length != count * item):
        raise _refused(
            path, tensor.name, f"bytes {start} to {start + length} of {size} are not {tuple(tensor.dims)} numbers"
        )
    return start, length


def refuse_external(model: Any) -> None:
    """Refuse a model in memory whose arrays are still in files."""
    missing = next((tensor.name for tensor in tensors(model) if is_external(tensor)), None)
    if missing is not None:
        raise SpecError(
            f"The numbers of the array '{missing}' of the ONNX model lie in another file, which was not loaded with "
            "it. Give Converter the path of the model, or load it with 'onnx.load(path)'."
        )


def array(tensor: Any) -> np.ndarray:
    """Return the numbers of an array.

    Raises
    ------
    SpecError
        If they are not as many as its shape says, or of a type that is not known.
    """
    try:
        found: np.ndarray = import_onnx().numpy_helper.to_array(tensor)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise SpecError(f"The array '{tensor.name}' of the ONNX model cannot be read: {_first_line(error)}") from error
    return found
