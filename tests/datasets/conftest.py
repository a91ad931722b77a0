"""The table that the tests of engines explain, and what the plain method says of it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    from dataset_models import write_claims
    from engines import X

    return write_claims(tmp_path_factory.mktemp("claims"), X)


@pytest.fixture(scope="module")
def plain():
    from dataset_models import table_model
    from engines import X

    from innsight_py import run_deeplift

    return run_deeplift(table_model(), X, target="predicted")
