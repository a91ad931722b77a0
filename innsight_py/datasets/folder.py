"""The folder of a job: parts that exist or do not, and a manifest that says whose they are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from innsight_py._errors import see
from innsight_py.datasets.arrow import Table

#: What is no part begins with a mark that readers of Parquet pass over.
MANIFEST, SUMMARY, LOCK = "_manifest.json", "_summary.npz", ".lock"
#: What the schema of a part has its number and its counts under.
PART = b"innsight_py.part"
#: Columns that readers filter by.
_WITH_STATISTICS = ("id", "output", "target", "status")
#: Facts of the manifest that may differ between runs of one job.
_FREE = ("innsight_py", "torch", "rows_per_part", "rows")
_PART_NAME = re.compile(r"part-(\d{8})\.parquet")
_UNFINISHED = "_unfinished-"


@dataclass(frozen=True)
class Part:
    """One file of a job.

    Attributes
    ----------
    number : int
        It holds the rows from ``number * rows_per_part`` on.
    rows, errors : int
        How many rows it holds, and how many of them went wrong.
    """

    number: int
    rows: int
    errors: int


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Folder:
    """The folder that a job writes into."""

    path: Path
    #: Called when all is written, before a disk is waited for.
    waits: Callable[[], None] = field(default=_nothing, repr=False, compare=False)

    def part(self, number: int) -> Path:
        """Return the path of a part."""
        return self.path / f"part-{number:08d}.parquet"

    def numbers(self) -> list[int]:
        """Return the numbers of the parts that exist."""
        if not self.path.is_dir():
            return []
        found = (_PART_NAME.fullmatch(entry.name) for entry in os.scandir(self.path))
        return sorted(int(match[1]) for match in found if match)

    def parts(self) -> dict[int, Part]:
        """Return the parts that exist, from their ends."""
        return {number: self.part_facts(number) for number in self.numbers()}

    def part_facts(self, number: int) -> Part:
        """Return what a part says of itself."""
        import pyarrow.parquet as pq

        facts = json.loads(pq.read_metadata(self.part(number)).metadata[PART])
        return Part(number, facts["rows"], facts["errors"])

    def write_part(self, table: Table, part: Part) -> None:
        """Write a part under another name, and rename it: it exists as a whole, or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        facts = json.dumps({"rows": part.rows, "errors": part.errors}).encode()
        # To say of each value that it is there takes as long as to write it. Readers of the folder take the schema from
        # the first part, which is to say that values may be missing.
        full = [
            one.with_nullable(part.number == 0 or column.null_count > 0)
            for one, column in zip(table.schema, table.columns, strict=True)
        ]
        schema = pa.schema(full, (table.schema.metadata or {}) | {PART: facts})
        table = pa.Table.from_arrays(table.columns, schema=schema)
        labels = [field.name for field in table.schema if str(field.type).startswith("dictionary")]
        values = {field.name for field in table.schema if str(field.type) in ("float", "double")}
        # Values are all different: dictionaries, compression and statistics of them take time and save no room. Whole
        # numbers that follow each other take neither as differences.
        wholes = {field.name: "DELTA_BINARY_PACKED" for field in table.schema if pa.types.is_integer(field.type)}
        plain = {name: "none" if name in values | set(wholes) else "zstd" for name in table.schema.names}
        with self._whole(self.part(part.number)) as file:
            pq.write_table(
                table, file.name, use_dictionary=labels, column_encoding=wholes or None, compression=plain,
                write_statistics=[*_WITH_STATISTICS], write_batch_size=max(1024, len(table)),
            )  # fmt: skip

    def read_part(self, number: int) -> Table:
        """Read a part."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.part(number)).read()

    # -- manifest ---------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What the manifest says; None where there is none."""
        try:
            found: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        except FileNotFoundError:
            return None
        return found

    def begin(self, facts: Mapping[str, Any], resume: bool) -> dict[str, Any]:
        """Take the folder for a job, and return its manifest: the one that is there, if it is of the same job.

        Raises
        ------
        ValueError
            If it is of another job, if the folder holds parts and they are not wanted, or if it holds other files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.manifest
        if known is None:
            strange = [entry.name for entry in os.scandir(self.path) if not _ours(entry.name)]
            if strange or self.numbers():
                raise ValueError(
                    f"Argument 'output': '{self.path}' holds '{(strange or ['parts'])[0]}' and no manifest of a job; "
                    "choose a new folder."
                )
            self._write_text(MANIFEST, json.dumps(facts, indent=1))
            return dict(facts)
        different = [name for name in facts if name not in _FREE and known.get(name) != facts[name]]
        if different:
            name = different[0]
            raise ValueError(
                f"Argument 'output': '{self.path}' holds another job: its {name.replace('_', ' ')} is "
                f"{_short(known.get(name))}, now it is {_short(facts[name])}. Choose another folder, or "
                "delete this one."
            )
        if not resume and self.numbers():
            raise ValueError(
                f"Argument 'output': '{self.path}' holds {len(self.numbers())} parts of this job already; "
                "resume=True goes on with it, or delete the folder."
            )
        return known

    def remember(self, batch_size: int) -> None:
        """Write down how many rows memory did for, for later runs."""
        self._write_text(MANIFEST, json.dumps((self.manifest or {}) | {"batch_size": batch_size}, indent=1))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out while this one writes; what runs that were killed left behind is removed.

        Raises
        ------
        ValueError
            If another run is writing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / LOCK, "a") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # not on Windows
                pass
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    raise
                raise ValueError(f"Argument 'output': another run is writing to '{self.path}' now.") from None
            self.clean()
            try:
                yield
            finally:
                self.clean()

    def clean(self) -> None:
        """Remove files that were never finished."""
        for entry in os.scandir(self.path):
            if entry.name.startswith(_UNFINISHED):
                Path(entry.path).unlink(missing_ok=True)

    # -- summary ----------------------------------------------------------------------------------------------

    def write_summary(self, data: bytes) -> None:
        """Write what is known of all parts together."""
        with self._whole(self.path / SUMMARY) as file:
            file.write(data)

    def read_summary(self) -> bytes | None:
        """Return what was written last; None where nothing was."""
        path = self.path / SUMMARY
        return path.read_bytes() if path.exists() else None

    @contextlib.contextmanager
    def _whole(self, path: Path) -> Iterator[BinaryIO]:
        unfinished = self.path / f"{_UNFINISHED}{path.name}-{uuid.uuid4().hex[:8]}"
        try:
            with open(unfinished, "wb") as file:
                yield file
                file.flush()
                self.waits()
                os.fsync(file.fileno())
                _forget(file)
            os.replace(unfinished, path)
        except BaseException as error:
            unfinished.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise OSError(
                    error.errno,
                    see(
                        "data-sets",
                        f"'{path.name}' cannot be written ({error.strerror or error}). All other parts are whole: make "
                        "room, and call again; what is done stays done.",
                    ),
                ) from error
            raise

    def _write_text(self, name: str, text: str) -> None:
        with self._whole(self.path / name) as file:
            file.write(text.encode())


def _forget(file: BinaryIO) -> None:
    """Let the system's cache forget a file that is on the disk, so that the next one takes its memory.

    A job that takes ever more of a machine's memory for what nobody reads now makes itself slow, and all else.
    """
    if hasattr(os, "posix_fadvise"):  # not on Windows and macOS
        with contextlib.suppress(OSError):  # it is advice, and some file systems take none
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _ours(name: str) -> bool:
    known = name in (MANIFEST, SUMMARY, LOCK) or name.startswith(_UNFINISHED)
    return known or _PART_NAME.fullmatch(name) is not None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
