"""The page about inner layers runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "inner-layers.md"


@pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning")
def test_the_page_runs():
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, names)  # noqa: S102  (ours)
    assert names["converter"].layer_names == [str(i) for i in range(8)]
    found = names["run_deeplift"](names["converter"], names["x"], layer="2", winner_takes_all=False)
    assert found.get_result().shape == (2, 8, 8, 8, 4)
