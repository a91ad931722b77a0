"""ONNX's own test-suite against the door: equal numbers, or a line in the list with the reason."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")  # what the door is compared with decides two cases

import onnx_backend as backend

from innsight_py.converters.onnx import door  # noqa: F401 (fills the table)
from innsight_py.converters.onnx.refusals import reason
from innsight_py.converters.onnx.writer import TABLE

LISTED = json.loads(backend.LIST.read_text())


@pytest.fixture(scope="module")
def found():
    return backend.tally(backend.every_case())


def test_every_case_is_equal_or_listed(found):
    assert found == LISTED, "run: python tests/converters/onnx_backend.py > docs/onnx_cases.json"


def test_no_case_has_other_numbers():
    differ = [name for why, names in LISTED["others"].items() if why.startswith("differs") for name in names]
    assert sorted(differ) == sorted(backend.ELSEWHERE)
    assert not any("not the original" in why or "was read as" in why for why in LISTED["others"])


def test_the_list_has_no_case_of_a_supported_operator_without_an_option_to_blame():
    """Cases without a reason of their own are those of operators that the door does not have."""
    without = [
        name
        for why, names in LISTED["others"].items()
        if why.endswith("this operator has no translation")
        for name in names
    ]
    operators = {case.name: case.operators for case in backend.node_cases()}
    assert without
    for name in without:
        missing = {kind for kind in operators[name] if kind not in TABLE and reason is not None}
        assert missing, name


def test_every_operator_of_the_table_has_a_case():
    listed = {name for names in LISTED["others"].values() for name in names}
    seen = {kind for case in backend.every_case() if case.name not in listed for kind in case.operators}
    elsewhere = {
        "ai.onnx.ml." + name
        for name in ("FeatureVectorizer", "Imputer", "LinearClassifier", "LinearRegressor", "Normalizer", "Scaler")
    }
    assert set(TABLE) - seen <= elsewhere | {"GlobalLpPool", "Scatter", "Upsample"}  # these have tests of their own
