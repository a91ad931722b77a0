"""The table of what is supported is the one that the registries give, and says what is true."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from rules_of_r import rule_for

from innsight_py import UnsupportedLayerError
from innsight_py.layers import BUILDERS
from innsight_py.layers.support import layer_classes, supports
from innsight_py.model.converted import ConvertedModel
from innsight_py.spec import check_spec
from innsight_py.spec.layers import LAYER_SPECS


def test_the_page_is_up_to_date():
    docs = Path(__file__).parents[2] / "docs"
    written = runpy.run_path(str(docs / "supported.py"))["document"]()
    assert (docs / "supported.md").read_text() == written, "run: python docs/supported.py > docs/supported.md"


def test_every_type_has_a_layer():
    assert set(BUILDERS) == set(LAYER_SPECS)


def test_every_class_has_a_name_of_its_own():
    classes = [cls for kind in BUILDERS for cls in layer_classes(kind)]
    names = [cls.r_class for cls in classes]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("layer", "step"),
    [
        ({"type": "Standardize", "groups": 1}, "connection_weights"),
        (
            {"type": "Operator", "operator": "aten::sort", "arguments": [{"input": 0}], "shapes": [[1, 4]], "part": 0},
            "lrp",
        ),
    ],
)
def test_what_is_not_supported_says_so(layer, step):
    model = ConvertedModel(check_spec({"input_dim": [4], "layers": [{**layer, "name": "it"}]}))
    trace, upper = model.trace([torch.randn(2, 4)]), torch.ones(1, 1, 4)
    calls = {
        "lrp": lambda it: it.lrp(upper, trace["it"], rule_for(it)),
        "connection_weights": lambda it: it.connection_weights(upper),
    }
    assert not supports(type(model.layer("it")), step)
    with pytest.raises(UnsupportedLayerError, match="it"):
        calls[step](model.layer("it"))
