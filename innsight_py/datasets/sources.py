"""Where rows come from: files, data sets of Arrow and Hugging Face, folders of images, iterators of batches."""

from __future__ import annotations

import glob
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py.datasets.arrow import Table
from innsight_py.datasets.pictures import IMAGES

#: Rows that are read from a file together.
READ_ROWS = 16384
#: Formats of files by their endings, as pyarrow calls them.
FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".arrow": "ipc", ".feather": "ipc",
           ".ipc": "ipc"}  # fmt: skip


class Source(ABC):
    """Rows in an order that stays, of which any part can be read again; workers get copies by pickle.

    Attributes
    ----------
    schema : pyarrow.Schema
        The columns.
    rows : int or None
        How many there are; None if only reading tells.
    identity : list
        What tells this source from others, in plain values; empty if nothing does.
    """

    schema: Any
    rows: int | None
    identity: list[Any]
    #: Whether rows can be read again, by any process.
    again: bool = True
    #: The column that names rows where nobody says which.
    id_column: str | None = None

    @abstractmethod
    def read(self, start: int, stop: int, columns: Sequence[str]) -> Table:
        """Read the rows from `start` to before `stop`, and of them some columns."""

    def parts(self, size: int, columns: Sequence[str]) -> Iterator[Table]:
        """Read all rows in their order, `size` together."""
        assert self.rows is not None
        for start in range(0, self.rows, size):
            yield self.read(start, min(start + size, self.rows), columns)


class Fragments(Source):
    """Files, and what else pyarrow makes data sets of; reading goes on where it stopped, if it can."""

    def __init__(self, dataset: Any, identity: Sequence[Any] = (), of_csv: bool = False) -> None:
        self.schema = dataset.schema
        #: Whether types are guesses from the first lines.
        self.of_csv = of_csv
        self._dataset = dataset
        self._fragments = list(_split(dataset))
        counts = [_count(fragment) for fragment in self._fragments]
        self._starts = [0, *itertools.accumulate(counts)]
        self.rows = self._starts[-1]
        self.identity = [*identity] or [self.schema.to_string(), self.rows]
        self._place: _Place | None = None

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Table:
        """Read some rows, see `Source.read`."""
        import pyarrow as pa

        if self._place is None or self._place.columns != list(columns) or self._place.row > start:
            self._place = self._open(start, columns)
        elif start - self._place.row > READ_ROWS:
            fresh = self._open(start, columns)
            self._place = fresh if fresh.row > self._place.row else self._place
        self._place.take(start - self._place.row)
        batches = self._place.take(stop - start)
        return pa.Table.from_batches(batches) if batches else pa.table({name: [] for name in columns})

    def _open(self, start: int, columns: Sequence[str]) -> _Place:
        """Open the fragment that has a row, at its beginning."""
        first = max(n for n, row in enumerate(self._starts[:-1] or [0]) if row <= start)

        def batches() -> Iterator[Any]:
            for fragment in self._fragments[first:]:
                yield from fragment.to_batches(
                    schema=self.schema, columns=list(columns), batch_size=READ_ROWS, batch_readahead=1,
                    fragment_readahead=1, use_threads=False,
                )  # fmt: skip

        return _Place(self._starts[first], list(columns), batches())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_place": None}


class _Place:
    """Where reading has come to."""

    def __init__(self, row: int, columns: list[str], batches: Iterator[Any]) -> None:
        self.row, self.columns, self._batches, self._rest = row, columns, batches, None

    def take(self, count: int) -> list[Any]:
        """Take the next `count` rows, as batches."""
        taken: list[Any] = []
        while count > 0:
            batch: Any = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                break
            some, rest = batch.slice(0, count), batch.slice(count)
            self._rest = rest if len(rest) else None
            self.row, count = self.row + len(some), count - len(some)
            if len(some):
                taken.append(some)
        return taken


def _split(dataset: Any) -> Iterator[Any]:
    """Give the fragments of a data set, those of Parquet by row groups."""
    for fragment in dataset.get_fragments():
        yield from fragment.split_by_row_group() if hasattr(fragment, "split_by_row_group") else [fragment]


def _count(fragment: Any) -> int:
    """Count the rows of a fragment; of a part of a file of Parquet pyarrow would count those of the file."""
    groups = getattr(fragment, "row_groups", None)
    return int(fragment.count_rows() if groups is None else sum(group.num_rows for group in groups))


class Rows(Source):
    """A table in memory, or a data set of Hugging Face, which lies in a file that workers can open."""

    def __init__(self, data: Any, hugging_face: bool = False) -> None:
        self._data, self._hugging_face = data, hugging_face
        self.schema = self._slice(0, 1).schema
        self.rows = len(data)
        mark = getattr(data, "_fingerprint", None)
        self.identity = [self.schema.to_string(), self.rows, *([] if mark is None else [mark])]

    def _slice(self, start: int, stop: int) -> Table:
        return self._data[start:stop] if self._hugging_face else self._data.slice(start, stop - start)

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Table:
        """Read some rows, see `Source.read`."""
        return self._slice(start, stop).select(list(columns))


class Pictures(Source):
    """A folder of images, in the order of their names: the columns ``id``, the path within it, and ``image``."""

    id_column = "id"

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        import pyarrow as pa

        self._folder, self._files = folder, [file.relative_to(folder).as_posix() for file in files]
        self.schema = pa.schema([("id", pa.string()), ("image", pa.string())])
        self.rows = len(files)
        self.identity = [self.rows, *self._files[:1], *self._files[-1:]]

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Table:
        """Read some rows, see `Source.read`."""
        import pyarrow as pa

        names = self._files[start:stop]
        whole = pa.table({"id": names, "image": [str(self._folder / name) for name in names]}, self.schema)
        return whole.select(list(columns))


class Batches(Source):
    """An iterator of batches, which is read once."""

    again = False
    rows = None

    def __init__(self, batches: Iterable[Any], schema: Any = None) -> None:
        rest = iter(batches)
        first = next(rest, None)
        if first is None and schema is None:
            raise ValueError("Argument 'source': the iterator gives no batch.")
        first = None if first is None else _table(first)
        self.schema = first.schema if first is not None else schema
        self._tables = itertools.chain([] if first is None else [first], map(_table, rest))
        self.identity = []

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Table:
        """Read some rows, see `Source.read`."""
        raise AssertionError("an iterator is read once")

    def parts(self, size: int, columns: Sequence[str]) -> Iterator[Table]:
        """Read all rows once, see `Source.parts`."""
        import pyarrow as pa

        waiting: list[Any] = []
        for table in self._tables:
            waiting.append(table.select(list(columns)))
            while sum(map(len, waiting)) >= size:
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, size)
                waiting = [whole.slice(size)]
        whole = pa.concat_tables(waiting) if waiting else None
        if whole is not None and len(whole):
            yield whole


def find_source(source: Any, texts: Sequence[str] = ()) -> Source:
    """Find out what rows come from.

    Parameters
    ----------
    source : path, glob, list of these, pyarrow or Hugging Face data set, table, frame, or iterator of batches
        Files of Parquet, CSV or Arrow, a folder of them, or a folder of images.
    texts : sequence of str
        Columns of CSV that are read as texts, so that one that is no number makes its row wrong and not the file.

    Raises
    ------
    TypeError, ValueError, OSError
        If it is nothing of this, or there is no such file.
    """
    import pyarrow as pa
    import pyarrow.dataset as pads

    if isinstance(source, str | os.PathLike) or (
        isinstance(source, list | tuple) and source and all(isinstance(one, str | os.PathLike) for one in source)
    ):
        return _files([source] if isinstance(source, str | os.PathLike) else source, texts)
    if isinstance(source, pads.Dataset):
        return Fragments(source)
    if isinstance(source, pa.Table):
        return Rows(source)
    if isinstance(source, pa.RecordBatch):
        return Rows(pa.Table.from_batches([source]))
    if isinstance(source, pa.RecordBatchReader):
        return Batches(source, source.schema)
    if hasattr(source, "with_format"):
        return _of_hugging_face(source)
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__"):
        return Rows(_table(source))
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return Batches(source)
    raise TypeError(
        f"Argument 'source': expected paths of files, a data set of pyarrow or Hugging Face, a table, or an "
        f"iterator of batches, got {describe(source)}."
    )


def _of_hugging_face(data: Any) -> Source:
    """Tell a data set, whose rows can be read again, from one that is streamed, and both from their splits."""
    if isinstance(data, Mapping):
        raise TypeError(
            f"Argument 'source': these are {len(data)} splits of a data set of Hugging Face "
            f"({', '.join(map(repr, data))}). Choose one: source=data[{next(iter(data), 'train')!r}]."
        )
    data = data.with_format("arrow")
    if hasattr(data, "__len__"):
        return Rows(data, hugging_face=True)
    return Batches(data.iter(batch_size=READ_ROWS))


def _table(batch: Any) -> Table:
    """Make a table of a batch: of Arrow, a frame, or a dict of columns."""
    import pyarrow as pa

    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    if isinstance(batch, Mapping):
        return pa.table({name: _column(values) for name, values in batch.items()})
    if hasattr(batch, "__arrow_c_stream__"):
        table = pa.table(batch)
        return table.drop_columns([name for name in table.schema.names if name.startswith("__index_level_")])
    raise TypeError(
        f"Argument 'source': expected batches that are tables of Arrow, frames, or dicts of columns, got "
        f"{describe(batch)}."
    )


def _column(values: Any) -> Any:
    import pyarrow as pa

    array = np.asarray(values)
    if array.ndim < 2:
        return pa.array(array if array.dtype != object else list(values))
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array[0].size)


def _files(paths: Sequence[str | os.PathLike[str]], texts: Sequence[str]) -> Source:
    found: list[Path] = []
    for path in [os.fspath(one) for one in paths]:
        matches = (
            sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) and not os.path.exists(path) else [path]
        )
        if not matches or not os.path.exists(matches[0]):
            raise FileNotFoundError(see("files", f"Argument 'source': there is no file '{path}'."))
        found += map(Path, matches)
    if len(found) == 1 and found[0].is_dir():
        folder = found[0]
        files = [file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder))]
        images = [file for file in files if file.suffix.lower() in IMAGES]
        if images:
            return Pictures(folder, images)
        found = [file for file in files if file.suffix.lower() in FORMATS]
        if not found:
            raise ValueError(
                see("files", f"Argument 'source': '{folder}' holds no files that end in {', '.join(FORMATS)}, and no "
                    f"images ({', '.join(IMAGES)}).")
            )  # fmt: skip
    if all(file.suffix.lower() in IMAGES for file in found):
        return Pictures(Path(os.path.commonpath([file.parent for file in found])), found)
    return _dataset_of(found, texts)


def _dataset_of(files: Sequence[Path], texts: Sequence[str]) -> Source:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset as pads

    kinds = {FORMATS.get(file.suffix.lower()) for file in files}
    if len(kinds) > 1 or None in kinds:
        odd = next((file for file in files if FORMATS.get(file.suffix.lower()) is None), files[-1])
        raise ValueError(
            see(
                "files",
                f"Argument 'source': expected files of one kind ({', '.join(FORMATS)}), got '{odd}' among them.",
            )
        )
    (kind,) = kinds
    form: Any = kind
    if kind == "csv":
        form = pads.CsvFileFormat(
            parse_options=pa.csv.ParseOptions(delimiter="\t" if files[0].suffix.lower() == ".tsv" else ","),
            convert_options=pa.csv.ConvertOptions(column_types={name: pa.string() for name in texts}),
        )
    try:
        dataset = pads.dataset([str(file) for file in files], format=form)
        identity = [[file.name, file.stat().st_size] for file in files]
        return Fragments(dataset, identity, kind == "csv")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(see("files", f"Argument 'source': these files cannot be read: {error}")) from None


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
