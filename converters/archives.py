"""Zip files from strangers: one list of entries, each entry with a name and bytes of its own."""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

#: Bytes of the end of a zip file: its record of 64 bits (56), where that is (20), and the record of 32 bits (22).
_ENDS = 56 + 20 + 22


class UnfitError(ValueError):
    """A part of a file that has no place in it; the message says what it is."""


def open_archive(file: BinaryIO, size: int) -> zipfile.ZipFile:
    """Open a zip file of `size` bytes in which every reader finds the same entries.

    Raises
    ------
    UnfitError
        If another reader could find others, or entries are encrypted or share their names or bytes.
    zipfile.BadZipFile
        If it is damaged.
    """
    _check_end(file, size)
    archive = zipfile.ZipFile(file)
    infos = archive.infolist()
    if len({info.filename for info in infos}) < len(infos):
        raise UnfitError("two entries of the same name")
    if any(info.flag_bits & 1 for info in infos):
        raise UnfitError("compressed or encrypted entries")
    if sum(info.compress_size for info in infos) > size:
        raise UnfitError("entries that share their bytes")
    return archive


def _check_end(file: BinaryIO, size: int) -> None:
    """Check that there is one list of entries in the file, whoever looks for it: the last bytes, and where they say."""
    file.seek(max(size - _ENDS, 0))
    ends = file.read(_ENDS)
    if len(ends) < 22 or ends[-22:-18] != b"PK\5\6":
        raise zipfile.BadZipFile("there is no list of entries at its end")
    *_, length, start, comment = struct.unpack("<4H2LH", ends[-18:])
    end, found = size - 22, [(length, start)]
    if ends[-42:-38] == b"PK\6\7" and ends[:4] == b"PK\6\6":  # the same in numbers of 64 bits
        end, found = size - _ENDS, [struct.unpack("<2Q", ends[40:56])]
        same = length in (found[0][0], 0xFFFFFFFF) and start in (found[0][1], 0xFFFFFFFF)
        located = struct.unpack("<Q", ends[-34:-26]) == (end,)
        found += [] if same and located else [(length, start)]
    if comment or len(found) > 1 or sum(found[0]) != end:
        raise UnfitError("two lists of entries")
