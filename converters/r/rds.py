"""Reading ``.rds`` files, in which R's ``saveRDS`` writes one object.

The package ``rdata`` parses them; here it is held to what a file can really contain, since files come from anywhere:
nothing is unpacked beyond a multiple of the file's size, nothing allocated for a length before its data are there, and
every way in which a file can be broken ends in a ValueError. Functions, environments and byte code are stepped over
and never run. What is needed of the parsed object is converted by `fields`, `attributes` and `plain`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

#: An object of R's as ``rdata`` has parsed it.
RObject: TypeAlias = Any

#: A file may unpack to this many times its size, beside a fixed allowance.
RATIO, ALLOWANCE = 100, 32 * 2**20
#: A file may hold this many single numbers that describe objects, and this many more for each of its bytes as they are
#: packed; each object takes two or three, some memory, and its time. (R's own files have one a byte.)
FEW, DESCRIPTIONS_PER_BYTE, DESCRIPTIONS = 20_000, 3, 500_000
#: The largest number of entries of a sequence such as ``1:n``, which is written as its two ends.
SEQUENCE = 20_000
#: Calls of the parser may lie this deep in each other, in a stack of this many bytes. A formula of n terms takes 4 n.
DEPTH, STACK = 10_000, 32 * 2**20
_LISTS_DEPTH = 50
#: Types that rdata does not know, and those that look the same in a file: for the value of a promise that was never
#: evaluated and for the base namespace NULL, for packages namespaces, for raw bytes texts.
_READ_AS = {252: 254, 250: 254, 248: 249, 247: 249, 24: 9}
_EXTRA = 'Reading R\'s files needs the package rdata: pip install "innsight_py[r]"'
_deep = threading.Lock()


class _BrokenError(ValueError):
    """The file is not what it says."""


def read_rds(path: str | os.PathLike[str]) -> RObject:
    """Parse a file that ``saveRDS`` wrote.

    Raises
    ------
    ImportError
        If ``rdata`` is not installed.
    ValueError
        If the file is damaged, truncated or of another kind.
    """
    try:
        import rdata  # noqa: F401
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    try:
        packed = Path(path).read_bytes()
        return _parse(_unpack(packed), min(FEW + DESCRIPTIONS_PER_BYTE * len(packed), DESCRIPTIONS))
    except _BrokenError as error:
        why = str(error)
    raise ValueError(f"'{os.fspath(path)}' cannot be read as an .rds file, which R's saveRDS() writes: {why}.")


# -- bytes --------------------------------------------------------------------------------------------------------


def _unpack(data: bytes) -> bytes:
    """Undo the compression, as far as a file of this size can be expected to go."""
    import bz2  # not every build of Python has these
    import lzma

    makers: dict[bytes, Any] = {
        b"\x1f\x8b": functools.partial(zlib.decompressobj, wbits=31),
        b"BZh": bz2.BZ2Decompressor,
        b"\xfd7zXZ\x00": functools.partial(lzma.LZMADecompressor, memlimit=2**28),
    }
    maker = next((make for magic, make in makers.items() if data.startswith(magic)), None)
    if maker is None:
        return data
    limit = ALLOWANCE + RATIO * len(data)
    unpacker = maker()
    try:
        unpacked: bytes = unpacker.decompress(data, limit + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise _BrokenError(f"its compression is damaged ({error})") from None
    if len(unpacked) > limit:
        raise _BrokenError(f"its {len(data)} bytes unpack to more than {limit}, as no model does")
    if not unpacker.eof:
        raise _BrokenError("it is truncated")
    return unpacked


def _parse(data: bytes, descriptions: int = DESCRIPTIONS) -> RObject:
    if data[:4] in (b"RDX2", b"RDX3", b"RDA2", b"RDA3"):
        raise _BrokenError("save() wrote it, as an .RData file with names; write the model alone, with saveRDS()")
    formats = {b"X\n": _xdr_parser, b"A\n": _ascii_parser}
    if data[:2] not in formats:
        raise _BrokenError("it is a file of another kind")
    if data.startswith(b"A") and not data.endswith(b"\n"):
        raise _BrokenError("it is truncated")

    def parse() -> RObject:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser = formats[data[:2]]()(memoryview(data)[2:], expand_altrep=False, altrep_constructor_dict={})
            parser._most = descriptions
            parsed = parser.parse_all()
            parser.check_complete()
        return parsed.object

    try:
        return _with_room(parse)
    except _BrokenError:
        raise
    except RecursionError:
        why = "its objects lie too deep in each other"
    except Exception as error:  # the parser runs into whatever a damaged file makes of it
        why = f"it is damaged or truncated ({type(error).__name__}{f': {error}' if str(error) else ''})"
    raise _BrokenError(why)


def _with_room(parse: Callable[[], RObject]) -> RObject:
    """Let the parser, which calls itself for each term of a formula, go deeper than Python's and the thread's stack."""
    with _deep:
        limit, stack = sys.getrecursionlimit(), threading.stack_size(STACK)
        sys.setrecursionlimit(max(limit, DEPTH))
        try:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(parse).result()
        finally:
            sys.setrecursionlimit(limit)
            threading.stack_size(stack)


class _Careful:
    """What a parser of rdata's needs in order to take nothing on trust."""

    _most = DESCRIPTIONS

    def __init__(self, data: memoryview, **options: Any) -> None:
        super().__init__(data, **options)  # type: ignore[call-arg]
        self._size, self._described, self._object_next = len(data), 0, False

    def parse_R_object(self, references: Any = None, repeated: Any = None, info_int: int | None = None) -> Any:  # noqa: N802
        self._object_next = info_int is None
        return super().parse_R_object(references, repeated, info_int)  # type: ignore[misc]

    def parse_int(self) -> int:
        number: int = super().parse_int()  # type: ignore[misc]
        if self._object_next:
            self._object_next = False
            number = (number & ~0xFF) | _READ_AS.get(number & 0xFF, number & 0xFF)
        return number

    def _parse_array_values(self, dtype: Any, length: int) -> Any:
        self._described += 1
        if self._described > self._most:
            raise _BrokenError("it holds more objects than any model")
        self._check(length)
        values = super()._parse_array_values(dtype, length)  # type: ignore[misc]
        if len(values) != length:
            raise _BrokenError("it is truncated")
        return values

    def parse_string(self, length: int) -> bytes:
        self._check(length)
        text: bytes = super().parse_string(length)  # type: ignore[misc]
        if len(text) != length:
            raise _BrokenError("it is truncated")
        return text

    def _parse_bytecode(self, references: Any, repeated: Any = None) -> Any:
        if repeated is None:  # here a list of the length that comes next will be made
            here = self.file.tell()  # type: ignore[attr-defined]
            self._check(self.parse_int())
            self.file.seek(here)  # type: ignore[attr-defined]
        return super()._parse_bytecode(references, repeated)  # type: ignore[misc]

    def _check(self, length: int) -> None:
        if not 0 <= length <= self._size:
            raise _BrokenError(f"it is damaged or truncated (a length of {length} in {self._size} bytes)")


@functools.cache
def _xdr_parser() -> Any:
    from rdata.parser._xdr import ParserXDR

    return type("XDR", (_Careful, ParserXDR), {})


@functools.cache
def _ascii_parser() -> Any:
    from rdata.parser._ascii import ParserASCII

    return type("ASCII", (_Careful, ParserASCII), {})


# -- objects ------------------------------------------------------------------------------------------------------


def kind(obj: RObject) -> str:
    """Return R's name of the type of an object: ``"REAL"``, ``"VEC"`` (a list), ``"CLO"`` (a function), ..."""
    name: str = obj.info.type.name
    return name


def attributes(obj: RObject) -> dict[str, RObject]:
    """Return the attributes of an object by name."""
    found: dict[str, RObject] = {}
    entry = obj.value[2] if kind(obj) == "ALTREP" else obj.attributes
    while entry is not None and kind(entry) == "LIST":
        found[_symbol(entry.tag)] = entry.value[0]
        entry = entry.value[1]
    return found


def fields(obj: RObject) -> dict[str, RObject]:
    """Return the entries of a list with names."""
    names = attributes(obj).get("names")
    if kind(obj) != "VEC" or names is None:
        return {}
    return dict(zip(_texts(names), obj.value, strict=False))


def classes(obj: RObject) -> list[str]:
    """Return the class attribute of an object, or the name of its type where it has none."""
    given = attributes(obj).get("class")
    return [kind(obj)] if given is None else _texts(given)


def plain(obj: RObject, depth: int = 0) -> Any:
    """Turn vectors, arrays, factors and lists of these into Python's, numpy's and pandas'.

    A vector becomes an array (of texts: a list), whatever its length; a list with names becomes a dict.

    Raises
    ------
    ValueError
        If there is anything else in them.
    """
    if depth > _LISTS_DEPTH:
        raise ValueError("its lists lie too deep in each other")
    obj = _expanded(obj)
    name = kind(obj)
    if name in ("NILVALUE", "NIL"):
        return None
    if name == "STR":
        return _texts(obj)
    if name in ("LGL", "INT", "REAL"):
        return _array(obj)
    if name == "VEC":
        entries = [plain(entry, depth + 1) for entry in obj.value]
        names = _texts(attributes(obj)["names"]) if "names" in attributes(obj) else []
        named = len(names) == len(entries) == len(set(names) - {""}) and entries
        return dict(zip(names, entries, strict=True)) if named else entries
    what = {"EXTPTR": "a pointer, such as a torch tensor,", "ENV": "an environment", "CLO": "a function"}
    raise ValueError(f"it holds {what.get(name, f'an object of type {name}')} where plain arrays are needed")


def _array(obj: RObject) -> Any:
    more = attributes(obj)
    values = np.ma.filled(np.ma.asarray(obj.value, dtype=np.float64), np.nan) if np.ma.isMA(obj.value) else obj.value
    if "levels" in more and "factor" in classes(obj):
        if not ((obj.value >= 1) & (obj.value <= len(more["levels"].value))).all():
            raise ValueError("it holds a factor with missing or unknown levels")
        return pd.Categorical.from_codes(np.asarray(obj.value, dtype=np.int64) - 1, categories=_texts(more["levels"]))
    if "dim" not in more:
        return values
    dim = [int(n) for n in plain(more["dim"])]
    if min(dim, default=0) < 0 or math.prod(dim) != len(values):
        raise ValueError(f"it holds an array of shape {tuple(dim)} with {len(values)} entries")
    return values.reshape(dim, order="F")  # R counts the first axis fastest


def _expanded(obj: RObject, depth: int = 0) -> RObject:
    """Write out a vector that R keeps in another form (``1:3`` as start and length, for example)."""
    if kind(obj) != "ALTREP":
        return obj
    from rdata.parser import DEFAULT_ALTREP_MAP

    how, state, more = obj.value
    form = _symbol(how.value[0]) if kind(how) == "LIST" else ""
    if form.encode() not in DEFAULT_ALTREP_MAP or depth > _LISTS_DEPTH:
        raise ValueError(f"it holds a vector in the unknown form '{form}'")
    if form.startswith("compact"):
        if kind(state) != "REAL" or len(state.value) != 3 or not 0 <= state.value[0] <= SEQUENCE:
            raise ValueError("it holds a sequence without end")
    else:  # these have the vector in them, maybe in such a form itself
        source = _expanded(state.value[0], depth + 1)
        state = dataclasses.replace(state, value=[source, *state.value[1:]])
    info, value = DEFAULT_ALTREP_MAP[form.encode()](state)
    return dataclasses.replace(obj, info=info, value=value, attributes=more)


def _symbol(obj: RObject) -> str:
    while obj is not None and kind(obj) == "REF":
        obj = obj.referenced_object
    return _text(obj.value) if obj is not None and kind(obj) == "SYM" else ""


def _texts(obj: RObject) -> list[str]:
    obj = _expanded(obj)
    if kind(obj) != "STR":
        raise ValueError("it lacks names where names are needed")
    return [_text(entry) for entry in obj.value]


def _text(obj: RObject) -> str:
    from rdata.parser import CharFlags

    if obj.value is None:
        return "NA"
    data: bytes = obj.value
    if not obj.info.gp & CharFlags.LATIN1:
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode()
    return data.decode("latin-1")
