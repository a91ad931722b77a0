"""Packages that only data sets need, imported when they are."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

#: A table of Arrow, a batch of one, a column of one: pyarrow has no types.
Table: TypeAlias = Any
Column: TypeAlias = Any


def require(*packages: str, extra: str = "datasets") -> None:
    """Refuse a call where a package that it needs is missing.

    Raises
    ------
    ImportError
        If one of them is not installed.

    Examples
    --------
    >>> require("numpy")
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            raise ImportError(f'Data sets need {package}: pip install "innsight_py[{extra}]"') from None
