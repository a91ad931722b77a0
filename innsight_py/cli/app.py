"""The commands."""

from __future__ import annotations

import enum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from innsight_py._checks import suggestion
from innsight_py.cli import methods as found
from innsight_py.cli import output, show
from innsight_py.cli.data import ARRAYS, IMAGES, TABLES, Loaded, load, named_by_table
from innsight_py.cli.errors import Exit, say, step
from innsight_py.cli.front import CODES, make_app
from innsight_py.cli.parts import Engine, Parts, Run, check_alone, explain_parts
from innsight_py.cli.texts import read_columns, read_dims, read_nodes, read_pixels, read_rows
from innsight_py.cli.usage import REFERENCES, check_order, check_reference, meant
from innsight_py.converters.files import LOADERS, READERS
from innsight_py.explanation import Explanation
from innsight_py.inputs.targets import PREDICTED
from innsight_py.methods.registry import METHODS
from innsight_py.model.converter import Converter, with_names
from innsight_py.results.notes import unexplained

_MODELS = f"The model: a file that ends in one of {', '.join((*READERS, *LOADERS))}. Nothing in it is run."
DATA_FILES = (*TABLES, *ARRAYS, *IMAGES)
app = make_app()

Method = enum.Enum("Method", {name: name for name in METHODS})  # type: ignore[misc]


_DEFAULT = Method("deeplift")


class Layout(enum.StrEnum):
    """Where arrays have their channels."""

    auto, first, last = "auto", "first", "last"


class Picture(enum.StrEnum):
    """What a picture shows."""

    auto, instances, together = "auto", "instances", "global"


class Target(enum.StrEnum):
    """Which outputs are explained where none is named."""

    auto, predicted, first = "auto", "predicted", "first"


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


@app.command(epilog=CODES)
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
        list[str] | None,
        typer.Option(
            "--output-idx",
            "-i",
            metavar="N",
            help="The same by number, counted from 0; of an output with several axes `3,10,12`, channels first.",
        ),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(
            help="Which outputs, where none is named: `predicted`, the largest of each row; `first`, the first ten. "
            "`auto`: the predicted one of a classifier (its outputs are probabilities, or have names), else the first."
        ),
    ] = Target.auto,
    output_names: OutputNames = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            "-r",
            metavar="REF",
            help="What instances are compared with: `mean` or `median` of the data, `zeros`, `center` (what the "
            "model's scaler maps to 0), `data` (all rows; only methods that take rows), or a file like DATA. Default: "
            "`center` of a model that has one, else `zeros`; of `lime` and `shap` the data.",
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
    output_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="More rows than memory: read DATA (files of Parquet, CSV or Arrow, quoted globs as 'x/*.parquet', "
            "or a folder of images) part by part, and write the explanations to this folder. The options from here to "
            "`--max-errors` are for it. Needs `innsight_py[datasets]`.",
        ),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="This machine, or a cluster of Ray.")] = Engine.local,
    workers: Annotated[int, typer.Option(min=1, help="As many processes explain.")] = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on with what is in the folder, or refuse one with parts."),
    ] = True,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column that names the rows. Default: their numbers.")
    ] = None,
    parts: Annotated[
        Parts, typer.Option(help="A column a feature, a list a row, or a line a value. `auto`: as the inputs are.")
    ] = Parts.auto,
    max_errors: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop when more rows than these go wrong. Default: never.")
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

    * `innsight-py explain net.pt2 photo.png -m lrp -s rule_name=epsilon_plus --pixels -1,1 -p photo_lrp.png`

    * `innsight-py explain model.onnx 'claims/*.parquet' --output-dir explained/ -m deeplift --engine ray --workers 4 --resume`

    * `innsight-py explain nn.rds iris.csv -m cw -o - | sort -t, -k6 -g | tail`
    """  # noqa: E501 (a command is one line)
    name = method.value
    with step(Exit.USAGE, traceback):
        chosen = found.read_settings(name, setting or [])
        nodes = read_nodes(output_idx)
        low_high = read_pixels(pixels)
        wanted = read_columns(columns)
        check_order(model, data, (*READERS, *LOADERS), DATA_FILES)
        check_reference(reference, DATA_FILES)
        run = None if output_dir is None else Run(output_dir, engine, workers, resume, max_errors, id_column, parts)
        check_alone(run, {"--rows": rows, "--plot": plot, "--result": result})
        if result is not None:
            output.check_result(result)
        if plot is not None:
            output.check_picture(plot)
    converter = _convert(model, input_dim, output_names, traceback)
    if run is not None:
        _explain_parts(
            run, converter, name, data, reference, wanted, low_high, layout, chosen, progress, traceback,
            output_label, nodes, target, dtype,
        )  # fmt: skip
        return
    with step(Exit.DATA, traceback):
        loaded = load(data, converter, wanted, low_high, layout.value)
        names = named_by_table(converter, loaded)
        if names is not None:
            converter = with_names(converter, names)
        basis: Loaded | str | None = reference
        if reference is not None and reference not in REFERENCES:
            basis = load([Path(reference)], converter, wanted, low_high, layout.value)
        selected = loaded if rows is None else loaded.take(read_rows(rows, loaded.rows))
    with step(Exit.METHOD, traceback):
        arguments = found.arguments(name, loaded, basis) | chosen
        if found.needs_data(name, chosen):
            arguments["data"] = selected.value
        if "dtype" in found.parameters(name):
            arguments["dtype"] = dtype.value
        arguments["verbose"] = progress
        if "data" in arguments:
            arguments["data_names"] = selected.names
            arguments["target"] = _target(target, output_label, nodes, converter)
        explanation: Explanation = METHODS[name](
            converter, output_label=_per_layer(output_label, converter), output_idx=nodes, **arguments
        )
        note = unexplained(explanation)
        if note is not None:
            say(note.replace("target='predicted'", "--target predicted"))
    with step(Exit.OUTPUT, traceback):
        _write(explanation, plot, plot_kind, result)


def _target(target: Target, label: list[str] | None, idx: Any, converter: Converter) -> str | None:
    """Return the target where no output is named: the predicted one of a classifier, or what was asked for."""
    named = label is not None or idx is not None
    wants = target == Target.predicted or (target == Target.auto and not named and found.is_classifier(converter))
    return PREDICTED if wants else None


def _explain_parts(
    run: Run, converter: Converter, name: str, data: list[Path], reference: str | None, columns: list[str] | None,
    pixels: tuple[float, float], layout: Layout, chosen: dict[str, Any], progress: bool | None, traceback: bool,
    output_label: list[str] | None, output_idx: Any, target: Target, dtype: Precision,
) -> None:  # fmt: skip
    """Explain a data set, with the arguments that were given."""
    with step(Exit.METHOD, traceback):
        nodes = {
            "output_label": _per_layer(output_label, converter), "output_idx": output_idx,
            "target": _target(target, output_label, output_idx, converter),
            "dtype": dtype.value if "dtype" in found.parameters(name) else None,
        }  # fmt: skip
        arguments = chosen | {key: value for key, value in nodes.items() if value is not None}
    explain_parts(run, converter, name, data, reference, columns, pixels, layout.value, arguments, progress, traceback)


def _write(explanation: Explanation, plot: Path | None, plot_kind: Picture, result: str | None) -> None:
    if plot is not None:
        say(f"{plot}: {output.write_picture(explanation, plot, plot_kind.value)}")
    if result is not None:
        output.write_result(explanation, result)
        if result != "-":
            say(f"{result}: all values")
    if plot is None and result is None:
        summary = explanation.summary()
        typer.echo(summary.to_string(index=False))
        if "note" in summary.attrs:
            say(summary.attrs["note"])


@app.command(epilog=CODES)
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


@app.command(epilog=CODES)
def methods(
    method: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Tell more of this one.")] = None,
) -> None:
    """List the methods, or tell what one of them computes and takes."""
    if method is None:
        typer.echo(show.methods_text())
        return
    with step(Exit.USAGE, False):
        if method not in METHODS:
            raise ValueError(f"there is no method '{method}'{meant(method, METHODS)}")
        typer.echo(show.method_text(method))


def _convert(model: Path, input_dim: str | None, output_names: str | None, traceback: bool) -> Converter:
    with step(Exit.USAGE, traceback):
        dims = read_dims(input_dim)
    names = None if output_names is None else [name.strip() for name in output_names.split(",")]
    with step(Exit.MODEL, traceback):
        return Converter(model, input_dim=dims, output_names=names)


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
