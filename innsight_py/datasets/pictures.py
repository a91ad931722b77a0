"""Images as models take them, from files and from bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from innsight_py.datasets.arrow import require
from innsight_py.inputs.ports import Port

#: Endings of the files that are read as images.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_picture(source: str | Path | bytes, port: Port, pixels: tuple[float, float]) -> np.ndarray:
    """Read a picture in the size and with the channels of the model, channels last, with a batch axis.

    Parameters
    ----------
    source : str, Path or bytes
        A file, or what is in one.
    port : Port
        The input of the model.
    pixels : tuple of float
        What black and white become.

    Returns
    -------
    ndarray
        ``(1, height, width, channels)`` in single precision.

    Raises
    ------
    ValueError
        If the model takes no images, or this is none.
    OSError
        If there is no such file.
    ImportError
        If pillow is not installed.
    """
    require("PIL")
    from PIL import Image, UnidentifiedImageError

    modes, dim = {1: "L", 3: "RGB", 4: "RGBA"}, port.dim
    name = "the image" if isinstance(source, bytes) else f"'{source}'"
    if port.kind != "image" or dim[0] not in modes:
        raise ValueError(f"{name} is an image, but the model takes shapes of {dim} (channels first).")
    file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(file) as image:
            picture = image.convert(modes[dim[0]]).resize((dim[2], dim[1]), Image.Resampling.BILINEAR)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is no image.") from None
    black, white = pixels
    values = black + np.asarray(picture, np.float32).reshape(1, dim[1], dim[2], dim[0]) / 255 * (white - black)
    return values.astype(np.float32)
