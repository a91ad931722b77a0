"""Files of Keras: checked as bytes, before Keras reads a copy of what was checked.

A ``.keras`` file is a zip file of ``config.json``, ``metadata.json`` and ``model.weights.h5``; what else is in it is
not read. A ``.h5`` file is one of HDF5 with the model in an attribute. Files of HDF5 may hold links to other files and
numbers that lie in other files, and name sizes that no number fills: these are refused.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import stat
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

from innsight_py._checks import describe
from innsight_py.converters.archives import UnfitError, open_archive

#: The first release of Keras in which neither format can run code that a file brings along (CVE-2025-9905, -12058).
_SAFE_KERAS = (3, 12)
#: What files of HDF5 begin with.
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_ENTRIES = ("metadata.json", _CONFIG, _WEIGHTS)
#: An unpacked part may be this many times larger than it is in the file, and this many bytes beside that.
_UNPACKED, _ALLOWED = 100, 2**24
#: As many numbers a model may have beside those of its file (states of random sources, for example).
_NUMBERS = 2**16


def load(path: Path) -> Any:
    """Load a Keras model in safe mode, without its optimizer and loss.

    Where TensorFlow is not installed and no backend is chosen, Keras computes with PyTorch.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it holds no Keras model, or something that has no place in one.
    ImportError
        If there is no Keras, or one that is too old.
    """
    content = _read(path)
    _check_form(path, content)
    keras = _import_keras()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"model{path.suffix.lower()}"
        try:
            content, numbers = _checked(content, path.suffix.lower())
            copy.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras's advice on how the model should have been written
                _try_without_numbers(keras, copy, numbers)
                return keras.models.load_model(copy, compile=False, safe_mode=True)
        except UnfitError as error:
            raise ValueError(f"'{path}' is refused: it has {error}. Save the model anew with Keras.") from None
        except Exception as error:  # Keras raises whatever it runs into
            first = (str(error).strip().splitlines() or [""])[0].replace(str(copy), str(path))
            raise ValueError(
                f"'{path}' cannot be loaded as a Keras model (in safe mode): {type(error).__name__}: {first}"
            ) from error


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:  # errors of the system say it best: no such file, no permission
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"'{path}' is no regular file.")
        return file.read()


def _check_form(path: Path, content: bytes) -> None:
    """Refuse a file that cannot hold a Keras model, of which Keras says that there is none."""
    hdf5 = content.startswith(_HDF5)
    if path.suffix.lower() != ".keras":
        if not hdf5:
            raise ValueError(f"'{path}' is damaged, truncated or no HDF5 file. Save or copy it again.")
    elif hdf5:
        raise ValueError(f"'{path}' is an HDF5 file, the older form of Keras: let its name end in '.h5'.")
    elif not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError(f"'{path}' is damaged, truncated or no file of Keras. Save or copy it again.")


def _checked(content: bytes, suffix: str) -> tuple[bytes, int]:
    """Return the bytes that Keras gets, made of checked parts alone, and how many numbers lie in them."""
    if suffix != ".keras":
        return content, _check_hdf5(content)
    archive = open_archive(io.BytesIO(content), len(content))
    parts = {info.filename: info for info in archive.infolist() if info.filename in _ENTRIES}
    if sum(info.file_size for info in parts.values()) > _UNPACKED * len(content) + _ALLOWED:
        raise UnfitError("parts that unpack to many times their size")
    read = {name: archive.read(info) for name, info in parts.items()}
    if _CONFIG not in read or _WEIGHTS not in read:
        raise UnfitError(f"no {_CONFIG if _CONFIG not in read else _WEIGHTS}")
    config = json.loads(read[_CONFIG])
    if not isinstance(config, dict):
        raise UnfitError(f"{describe(config)} as {_CONFIG}, expected an object")
    read[_CONFIG] = json.dumps(config | {"compile_config": None}).encode()
    numbers = _check_hdf5(read[_WEIGHTS])
    fresh = io.BytesIO()
    with zipfile.ZipFile(fresh, "w") as out:
        for name, part in read.items():
            out.writestr(name, part)
    return fresh.getvalue(), numbers


def _check_hdf5(content: bytes) -> int:
    """Check that all of a file of HDF5 lies in it; return how many numbers that are."""
    import h5py  # Keras needs it, too

    numbers = size = 0
    if not content.startswith(_HDF5):
        raise UnfitError("weights that are no file of HDF5")
    with h5py.File(io.BytesIO(content), "r") as file:
        waiting, seen = [file["/"]], set()
        while waiting:
            group = waiting.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UnfitError(f"the link {describe(name)} to elsewhere")
                found = group[name]
                place = h5py.h5o.get_info(found.id).addr
                if place in seen:
                    raise UnfitError(f"{describe(name)}, a second name for the same part")
                seen.add(place)
                if isinstance(found, h5py.Group):
                    waiting.append(found)
                elif isinstance(found, h5py.Dataset):
                    _check_dataset(found, name)
                    numbers, size = numbers + int(found.size or 0), size + int(found.nbytes)
                    if size > _UNPACKED * len(content) + _ALLOWED:
                        raise UnfitError(f"numbers of {size} bytes in a file of {len(content)}")
    return numbers


def _check_dataset(dataset: Any, name: str) -> None:
    if dataset.external is not None or dataset.is_virtual:
        raise UnfitError(f"the numbers of {describe(name)} in another file")


def _try_without_numbers(keras: Any, copy: Path, numbers: int) -> None:
    """Load a model without numbers, on the backend that can, so that one too large for its file is refused before."""
    if keras.config.backend() != "torch":
        return
    with keras.device("meta"):
        model = keras.models.load_model(copy, compile=False, safe_mode=True)
    needed = sum(math.prod(variable.shape) for variable in model.variables)
    if needed > numbers + _NUMBERS:
        raise UnfitError(f"layers of {needed} numbers, of which it holds {numbers}")


def _import_keras() -> Any:
    chosen = "KERAS_BACKEND" in os.environ or "keras" in sys.modules
    if not chosen and importlib.util.find_spec("tensorflow") is None:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise ImportError('Files of Keras need keras: pip install "innsight_py[keras]"') from None
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < _SAFE_KERAS:
        wanted = ".".join(map(str, _SAFE_KERAS))
        raise ImportError(f"Files of Keras are read safely from release {wanted} on, this is {keras.__version__}.")
    return keras
