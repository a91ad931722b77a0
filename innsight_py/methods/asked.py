"""What all methods share before they compute: the arguments, the model or the part of it, and the data read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import PlainValidator
from torch import Tensor

from innsight_py._checks import Plainly, WrongTypeError, warn
from innsight_py._errors import see
from innsight_py.explanation import Explanation
from innsight_py.functions.elementwise import are_finite
from innsight_py.inputs.data import as_called, read_data, read_references, ready_data
from innsight_py.inputs.described import Described, of_inputs
from innsight_py.inputs.names import default_data_names, own_data_names, read_data_names
from innsight_py.inputs.nodes import as_nodes
from innsight_py.inputs.references import fill_in, leaves_out, warn_of_far_default
from innsight_py.inputs.selection import select_ports
from innsight_py.methods.tokens import check_tokens, token_references
from innsight_py.model.converter import Converter
from innsight_py.model.explainable import DTYPES, Explainable
from innsight_py.model.graph import Graph
from innsight_py.model.part import Part
from innsight_py.model.section import Section
from innsight_py.model.tokens import at_vectors, looks_up
from innsight_py.results.attributions import Buffers

#: What a method is called with anew each time.
_MODEL_AND_DATA = frozenset(("converter", "model", "data", "data_names"))


def _explainable(value: object) -> object:
    if not isinstance(value, Explainable):
        raise WrongTypeError("a Converter")
    return value


#: What the gradient methods take: a converter, or a module as it is (see `innsight_py.model.module`).
AnyConverter = Annotated[Explainable, PlainValidator(_explainable), Plainly(Converter)]


class Asked(Explanation):
    """What is asked of a model: at which place, for which nodes, of which data; what is given is read here."""

    #: Whether each layer of a list has a path (or noise) of its own, and with it a goal of its own.
    own_path: ClassVar[bool] = False
    #: What was given beside the model and the data, from which `innsight_py.methods.again` calls the method again.
    arguments: dict[str, Any]
    # What most calls leave as it is: an object with few attributes of its own is made sooner.
    layer: Sequence[str] | None = None
    neuron: Any = None
    #: What the reference is called: "center", "mean", ...; None for numbers.
    reference_name: str | None = None
    #: Keeps a copy in another precision as long as the result, see `innsight_py.model.held`.
    _in_use: Graph | None = None
    _graph_of: Graph | None = None  # what is walked of it
    _part: Part | None = None
    _names: Sequence[str] | None = None
    preds: list[Tensor | None] | None = None
    decomp_goal: list[Tensor | None] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: D102 (keeps the arguments)
        made = super().__new__(cls)
        made.arguments = kwargs if len(args) < 3 else {"data_ref": args[2], **kwargs}  # which may come without its name
        if not _MODEL_AND_DATA.isdisjoint(kwargs):
            for name in _MODEL_AND_DATA:
                made.arguments.pop(name, None)
        return made

    def __init__(
        self,
        converter: Described,
        *,
        channels_first: bool | None,
        output_idx: Any,
        output_label: Any,
        target: Any,
        data_names: Any,
        ignore_last_act: bool,
        verbose: bool | None,
        dtype: Literal["float", "double"],
        batch_size: int | None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        self._converter = converter
        self.channels_first = converter.channels_first if channels_first is None else channels_first
        if layer is not None or neuron is not None:
            assert isinstance(converter, Explainable)
            self._part = Part(converter, layer, neuron, self.channels_first)
            if self._part.nodes is not None:
                others = {"output_idx": output_idx, "output_label": output_label, "target": target}
                other = next((argument for argument, value in others.items() if value is not None), None)
                if other is not None:
                    raise ValueError(f"Arguments 'neuron' and '{other}' both say what is explained: give one of them.")
                output_idx, ignore_last_act = self._part.nodes, False
            converter = self._part
            self.layer, self.neuron = self._part.layers, neuron
        groups = getattr(self._converter, "groups", None)
        if groups is not None and self.layer is None:
            self.groups = groups
        self._given_data: list[Tensor] = []
        self._inner: dict[str, Tensor] = {}  # the values of the layers at the data
        self._instead: dict[str, Tensor] = {}  # values of layers that references have
        self.described = converter
        self.ignore_last_act = ignore_last_act
        self.verbose = verbose
        self.dtype: Literal["float", "double"] = dtype
        self.batch_size = batch_size
        outputs = converter.outputs
        selection = select_ports(output_idx, output_label, target, outputs)
        self._selection = selection
        self.output_idx = [
            None if nodes is None else as_nodes(nodes, port.dim)
            for nodes, port in zip(selection.idx, outputs, strict=True)
        ]
        self.output_label = [None if labels is None else list(labels) for labels in selection.labels]
        self.targets = [None if one is None else one.name for one in selection.targets]
        self._given_names = data_names
        self._rows = 1
        self._largest: list[Tensor | None] = []
        self.data: list[Tensor] = []
        self.result: Buffers = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_in_use": None, "_graph_of": None}

    @property
    def data_names(self) -> Sequence[str]:
        """Names of the instances. A million default names take as long as a part of the method: made when asked for."""
        if self._names is None:
            self._names = default_data_names(self._rows)
        return self._names

    @data_names.setter
    def data_names(self, names: Sequence[str]) -> None:
        self._names = names

    @property
    def largest(self) -> Sequence[list[int] | None]:
        """For each selected output layer the node with the largest output of each row, as a list when asked for."""
        return [
            None if nodes is None or len(port.dim) > 1 else nodes.tolist()
            for nodes, port in zip(self._largest, self.described.outputs, strict=False)
        ]

    @largest.setter
    def largest(self, nodes: Sequence[list[int] | None]) -> None:
        self._largest = [None if own is None else torch.tensor(own) for own in nodes]

    @property
    def converter(self) -> Described:
        """What was given: the converter, also where layers or a neuron of it are explained."""
        return self._converter

    # -- for subclasses -----------------------------------------------------------------------------------------

    @property
    def _at_prepared(self) -> bool:
        """Whether the method is taken at the features as they come out of the model's preparation."""
        return False

    @property
    def _whole_model(self) -> Graph:
        if self._in_use is None:
            self._in_use, self._graph_of = self._found_model(), None
        return self._in_use

    def _found_model(self) -> Graph:
        """Return the graph that the converter has for this method."""
        converter: Any = self._converter
        model: Graph = converter.model_in(self.dtype)
        return model

    @property
    def _base(self) -> Graph:
        """The whole graph, or what comes after the model's preparation; layers may lie in both."""
        whole = self._whole_model
        return whole.tail if whole.preparation and self._at_prepared and self.layer is None else whole

    @property
    def _model(self) -> Graph:
        """What is walked: the graph, or a section of it; from the vectors of tokens on, where there are some."""
        if self._graph_of is None or self._in_use is None:
            base = self._base
            self._graph_of = (at_vectors(base) or base) if self._part is None else self._part.section(base)
        return self._graph_of

    def _sections(self) -> list[Graph]:
        """Return what is walked, layer by layer where a list is given."""
        if self._part is None or self.layer is None or len(self.layer) == 1:
            return [self._model]
        return [self._part.section(self._base, name) for name in self.layer]

    @property
    def _fixed(self) -> frozenset[int]:
        """Numbers of the inputs that come with each row and are not explained."""
        return frozenset([j for j, port in enumerate(self._converter.inputs) if port.kind == "fixed"])

    def _read(self, data: Any, argument: str) -> list[Tensor]:
        """Read data in the user's layout."""
        numbers, shown = self._encoded(data, argument)
        read = ready_data(numbers, self._converter.inputs, self.channels_first, DTYPES[self.dtype])
        read = read or read_data(
            numbers, self._converter.input_dim, self.channels_first, DTYPES[self.dtype], argument,
            self._converter.input_names, self._converter.input_keys,
        )  # fmt: skip
        if self._embeds:
            check_tokens(read, self._converter, self._whole_model, argument)
        if argument == "data":
            given, self._rows = self._given_names, read[0].shape[0]
            if given is not None:
                self._names = read_data_names(given, data, self._rows)
            elif type(data) is not Tensor:
                self._names = own_data_names(data, self._rows)
            if shown is not None:
                self.row_values = shown
            _warn_of_missing(read, self.data_name)
        return read

    def _encoded(self, data: Any, argument: str) -> tuple[Any, list[list[str]] | None]:
        """Let the encoders of a pipeline make numbers of a frame; return its values as texts as well."""
        encoder = getattr(self._converter, "encoder", None)
        return (data, None) if encoder is None else encoder.encode(data, f"Argument '{argument}'")

    def _read_reference(self, data: Any, argument: str, single: bool) -> list[Tensor]:
        """Read reference data: where there are none the center of what is prepared, zeros for the rest.

        Returns
        -------
        list of Tensor
            One tensor an input: ``(1, *dims)`` or a reference for each row ``(B, *dims)`` where `single` ones are
            wanted, otherwise ``(n, *dims)``, or n for each row ``(B, n, *dims)``.
        """
        rows, center = self.data[0].shape[0], self._center()
        data = as_called(data, self._converter.input_keys)
        if self._embeds:
            data, self._instead = token_references(
                data, self._converter, self.data, self._whole_model, self.layer, center, argument
            )
        if data is None:
            pairs = zip(self.data, center, strict=True)
            zeros_or_center = [x.new_zeros((1, *x.shape[1:])) if y is None else y.to(x) for x, y in pairs]
            self.reference_name = None if all(y is None for y in center) else "center"
            warn_of_far_default(self._converter, self.data, zeros_or_center, self.reference_name, argument)
            return self._with_own_fixed(zeros_or_center, single)
        data, _ = self._encoded(data, argument)
        self.reference_name = data if isinstance(data, str) else None
        part = self._referred(data)
        described = of_inputs(self._converter, part)
        reference = read_references(
            fill_in(
                data, described, [self.data[j] for j in part], [center[j] for j in part], self.channels_first, argument,
                getattr(self._converter, "groups", None),
            ),
            described.input_dim, self.channels_first, DTYPES[self.dtype], argument,
            described.input_names, described.input_keys, None if single else rows,
        )  # fmt: skip
        check_tokens(reference, described, self._whole_model, argument)
        if not are_finite(reference):
            raise ValueError(
                see(
                    "references",
                    f"Argument '{argument}': expected finite numbers, got NaN or infinite ones, which would spread to "
                    "every result.",
                )
            )
        if single and reference[0].shape[0] not in (1, rows):
            raise ValueError(
                see(
                    "references",
                    f"Argument '{argument}': expected a single row for {type(self).__name__}, or one for each row of "
                    f"'data' ({rows}), got {reference[0].shape[0]} rows. Give their mean, x.mean(0)[None], or explain "
                    "with all of them by DeepSHAP or ExpectedGradient.",
                )
            )
        return self._with_own_fixed(reference, single, part)

    def _referred(self, reference: Any) -> list[int]:
        """Return the numbers of the inputs that a reference has entries for: those that are fixed may be left out."""
        numbers = range(len(self._converter.inputs))
        left_out = self._fixed if leaves_out(reference, self._converter, self._fixed) else ()
        return [j for j in numbers if j not in left_out]

    def _with_own_fixed(
        self, reference: list[Tensor], single: bool, part: Sequence[int] | None = None
    ) -> list[Tensor]:  # fmt: skip
        """Let references have each row's own values of inputs that are fixed; `part` says which inputs they are of."""
        if not self._fixed and not self._holds_own:
            return reference
        rows, given = self.data[0].shape[0], dict(zip(part or range(len(reference)), reference, strict=True))
        first = next(j for j in given if j not in self._fixed)
        each = 1 if single else given[first].shape[given[first].dim() - self.data[first].dim()]
        own = []
        for j, x in enumerate(self.data):
            if j in self._fixed:
                own.append(x.clone() if single else x.unsqueeze(1).expand(rows, each, *x.shape[1:]))
            elif single:
                own.append(given[j].expand(rows, *x.shape[1:]))
            else:
                own.append(given[j] if given[j].dim() > x.dim() else given[j].expand(rows, *given[j].shape))
        return own

    @property
    def _embeds(self) -> bool:
        """Whether inputs go into embeddings."""
        return looks_up(self._in_use or self._whole_model)

    @property
    def _holds_own(self) -> bool:
        """Whether the walk needs values that each row brings, and that no reference changes."""
        model = self._model
        return isinstance(model, Section) and bool(model.given)

    def _center(self) -> list[Tensor | None]:
        """Return what the preparation of each input maps to 0, in the user's layout."""
        assert isinstance(self._converter, Explainable)
        if not self._converter.model_in(self.dtype).preparation:
            return [None] * len(self._converter.inputs)
        found = self._converter.model_in("double").center()
        return [y if y is None or self.channels_first or y.dim() < 3 else y.movedim(1, -1) for y in found]


def _warn_of_missing(data: list[Tensor], name_of: Callable[[int], str]) -> None:
    """Warn of rows that hold NaN or infinite values."""
    if are_finite(data):
        return
    whole = torch.stack([x.isfinite().flatten(1).all(1) for x in data]).all(0)
    rows = (~whole).nonzero().flatten().tolist()
    warn(
        see(
            "missing-values",
            f"Argument 'data': {len(rows)} of {len(whole)} rows hold NaN or infinite values (the first is "
            f"{name_of(rows[0])}): predictions and attributions of these rows mean nothing. Other rows are right.",
        )
    )
