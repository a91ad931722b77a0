"""The commands."""

from __future__ import annotations

import enum
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from innsight_py._checks import suggestion
from innsight_py.cli import methods as found
from innsight_py.cli import output, show
from innsight_py.cli.data import Loaded, load, named_by_table
from innsight_py.cli.errors import MEANING, Exit, say, step
from innsight_py.converter import Converter
from innsight_py.converters.files import LOADERS, READERS
from innsight_py.names import read_names

_CODES = "Exit codes: 0 it worked" + "".join(f"; {code.value} {meaning}" for code, meaning in MEANING.items()) + "."
_MODELS = f"The model: a file that ends in one of {', '.join((*READERS, *LOADERS))}. Nothing in it is run."
app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=_CODES,
)  # fmt: skip

Method = enum.Enum("Method", {name: name for name in found.METHODS})  # type: ignore[misc]


_DEFAULT = Method("deeplift")


class Layout(enum.StrEnum):
    """Where arrays have their channels."""

    auto, first, last = "auto", "first", "last"


class Picture(enum.StrEnum):
    """What a picture shows."""

    auto, instances, together = "auto", "instances", "global"


class Precision(enum.StrEnum):
    """Precision of the calculation."""

    float, double = "float", "double"


ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help=_MODELS, show_default=False)]
Dims = Annotated[
    str | None,
    typer.Option(
        "--input-dim", metavar="SHAPE",
        help="Shape of an instance, channels first: `3,32,32`; several inputs: `3,32,32;5`. "
        "Only for models that leave a size open.",
    ),
]  # fmt: skip
OutputNames = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Labels of the outputs, separated by commas, for models that have none: `cat,dog`."
    ),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the whole traceback of an error.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("innsight_py"))
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Explain neural networks: which input made the network say what it said, and by how much.

    Three commands, to be used in this order:

    * `innsight-py inspect model.keras` — what is in the model, and which methods can explain it

    * `innsight-py methods` — which methods there are

    * `innsight-py explain model.keras data.csv --method deeplift --plot out.html` — do it

    Results go to stdout, all else to stderr.
    """


@app.command(epilog=_CODES)
def explain(
    model: ModelPath,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            show_default=False,
            help="The instances: .csv, .tsv, .parquet (a row each), .npy or .npz (first axis), images, or `-` "
            "for CSV from stdin. Several files are put together; for a model with several inputs they are one for each "
            "input.",
        ),
    ],
    method: Annotated[Method, typer.Option("--method", "-m", help="See `innsight-py methods`.")] = _DEFAULT,
    output_label: Annotated[
        list[str] | None,
        typer.Option("--output-label", "-l", metavar="LABEL", help="Explain this output; may be repeated."),
    ] = None,
    output_idx: Annotated[
        list[int] | None,
        typer.Option("--output-idx", "-i", metavar="N", help="The same by number, counted from 0. Default: first ten."),
    ] = None,
    output_names: OutputNames = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            "-r",
            metavar="REF",
            help="What instances are compared with: `zeros`, `mean` or `median` of the data, `data` (all rows; only "
            "methods that take rows), or a file like DATA.",
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="ROWS", help="Explain these rows of DATA, from 0: `0,3,10:20`. Default: all."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of a table, separated by commas, in the order of the model's features. Default: those named "
            "like the features; else all.",
        ),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option(help="Where arrays have their channels. `auto`: by their shape, else as the model has them."),
    ] = Layout.auto,
    pixels: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="What black and white of an image become for the model.")
    ] = "0,1",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="An argument of the method; may be repeated: `-s rule_name=epsilon -s rule_param=0.01`, `-s seed=1`. "
            "`innsight-py methods NAME` lists them.",
        ),
    ] = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the calculation.")] = Precision.float,
    input_dim: Dims = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", "-p", metavar="FILE", help="A picture: .html (interactive), .png, .svg or .pdf."),
    ] = None,
    plot_kind: Annotated[
        Picture, typer.Option(help="Single instances or all together. `auto`: single ones up to three.")
    ] = Picture.auto,
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            "-o",
            metavar="FILE",
            help="All values: .csv, .parquet, .json (a row each), .npz (arrays), or `-` for CSV to stdout.",
        ),
    ] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Progress on stderr. Default: on a terminal.")
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Explain what a model says of some data.

    Without `--result` and `--plot` a summary is written: the most important features of each output.

    For example:

    * `innsight-py explain penguins.keras penguins.csv --output-names Adelie,Chinstrap,Gentoo -l Adelie -r mean -p out.html`

    * `innsight-py explain net.pt2 photo.png -m lrp -s rule_name=epsilon --pixels -1,1 -p photo_lrp.png`

    * `innsight-py explain nn.rds iris.csv -m cw -o - | sort -t, -k5 -g | tail`
    """  # noqa: E501 (a command is one line)
    name = method.value
    with step(Exit.USAGE, traceback):
        chosen = found.read_settings(name, setting or [])
        low_high = _pixels(pixels)
        wanted = _columns(columns)
        if result is not None:
            output.check_result(result)
        if plot is not None:
            output.check_picture(plot)
    converter = _convert(model, input_dim, output_names, traceback)
    with step(Exit.DATA, traceback):
        loaded = load(data, converter, wanted, low_high, layout.value)
        names = named_by_table(converter, loaded)
        if names is not None:
            converter.input_names = read_names(names, converter.input_dim, "input_names")
        basis: Loaded | str | None = reference
        if reference is not None and reference not in ("zeros", "mean", "median", "data"):
            basis = load([Path(reference)], converter, wanted, low_high, layout.value)
        selected = loaded if rows is None else loaded.take(_rows(rows, loaded.rows))
    with step(Exit.METHOD, traceback):
        arguments = found.arguments(name, loaded, basis) | chosen
        if found.needs_data(name, chosen):
            arguments["data"] = selected.value
        if "dtype" in found.parameters(name):
            arguments["dtype"] = dtype.value
        arguments["verbose"] = progress
        explanation = found.METHODS[name](
            converter, output_label=_per_layer(output_label, converter), output_idx=output_idx, **arguments
        )
    with step(Exit.OUTPUT, traceback):
        _write(explanation, plot, plot_kind, result)


def _write(explanation: Any, plot: Path | None, plot_kind: Picture, result: str | None) -> None:
    if plot is not None:
        say(f"{plot}: {output.write_picture(explanation, plot, plot_kind.value)}")
    if result is not None:
        output.write_result(explanation, result)
        if result != "-":
            say(f"{result}: all values")
    if plot is None and result is None:
        typer.echo(explanation.summary().to_string(index=False))


@app.command(epilog=_CODES)
def inspect(
    model: ModelPath,
    input_dim: Dims = None,
    output_names: OutputNames = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")] = False,
    traceback: Traceback = False,
) -> None:
    """Show what is in a model: its layers with shapes, and which methods each of them supports."""
    converter = _convert(model, input_dim, output_names, traceback)
    typer.echo(show.model_json(converter) if json else show.model_text(converter))


@app.command(epilog=_CODES)
def methods(
    method: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Tell more of this one.")] = None,
) -> None:
    """List the methods, or tell what one of them computes and takes."""
    if method is None:
        typer.echo(show.methods_text())
        return
    with step(Exit.USAGE, False):
        if method not in found.METHODS:
            raise ValueError(f"there is no method '{method}'{suggestion(method, found.METHODS)}")
        typer.echo(show.method_text(method))


def _convert(model: Path, input_dim: str | None, output_names: str | None, traceback: bool) -> Converter:
    with step(Exit.USAGE, traceback):
        dims = _dims(input_dim)
    names = None if output_names is None else [name.strip() for name in output_names.split(",")]
    with step(Exit.MODEL, traceback):
        return Converter(model, input_dim=dims, output_names=names)


def _dims(text: str | None) -> Any:
    if text is None:
        return None
    try:
        shapes = [tuple(int(n) for n in part.split(",")) for part in text.split(";")]
    except ValueError:
        raise ValueError(f"--input-dim {text}: expected whole numbers such as 3,32,32.") from None
    return shapes if len(shapes) > 1 else shapes[0]


def _pixels(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--pixels {text}: expected two numbers such as 0,1 or -1,1.") from None
    return low, high


def _columns(text: str | None) -> list[str] | None:
    return None if text is None else [column.strip() for column in text.split(",")]


def _rows(text: str, count: int) -> list[int]:
    chosen: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        try:
            start = int(first or 0)
            stop = (int(last) if last else count) if colon else start + 1
        except ValueError:
            raise ValueError(f"--rows {text}: expected whole numbers and ranges such as 0,3,10:20.") from None
        if not 0 <= start < stop <= count:
            raise ValueError(f"--rows {text}: the data have the rows 0 to {count - 1}.")
        chosen += range(start, stop)
    return chosen


def _per_layer(labels: list[str] | None, converter: Converter) -> Any:
    """Sort labels into the output layers that have them."""
    if labels is None or len(converter.output_dim) == 1:
        return labels
    names = [[str(name) for name in layer[0]] for layer in converter.output_names]
    unknown = [label for label in labels if not any(label in layer for layer in names)]
    if unknown:
        raise ValueError(f"--output-label {unknown[0]}: no output layer has it{suggestion(unknown[0], chain(*names))}")
    sorted_labels = [[label for label in labels if label in layer] or None for layer in names]
    return cast(Any, sorted_labels)
