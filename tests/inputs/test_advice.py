"""What is said of data that do not fit: the advice is run as it stands, and what it gives is right."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad
from innsight_py._errors import code_of

torch.manual_seed(3)
TABLE = Converter(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), input_dim=(3,))
IMAGES = Converter(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)), input_dim=(3, 8, 8))
GREY = Converter(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)), input_dim=(1, 8, 8))
ROW = [0.5, -1.0, 2.0]
FRAME = pd.DataFrame([ROW, [1.0, 0.0, 0.0]], columns=["a", "b", "c"])
PICTURE = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))


def message_of(call, *args, **kwargs) -> str:
    with pytest.raises((TypeError, ValueError)) as error:
        call(*args, **kwargs)
    return str(error.value)


def advised(message: str) -> str:
    """Take the code out of a message."""
    before = "front:|give(?! it)|swapped:|first:|it:|dense:|tensor:|missing:"
    return re.search(rf"(?:{before}) (\S.*?)[.,;]? (?:See|If|and) ", message)[1]


@pytest.mark.parametrize(
    "row", [ROW, tuple(ROW), np.array(ROW), torch.tensor(ROW), pd.Series(ROW), FRAME.iloc[0], FRAME.loc[[0]].mean()],
    ids=["list", "tuple", "array", "tensor", "series", "row of a frame", "mean of a frame"],
)  # fmt: skip
def test_one_row(row):
    """As data it needs an axis for the batch; as a reference it is taken as it is."""
    message = message_of(run_deeplift, TABLE, row)
    assert code_of(message) == "data-shapes"
    expected = run_deeplift(TABLE, np.array([ROW])).get_result("torch_tensor")
    x = eval(advised(message), {"x": row})  # noqa: S307
    assert torch.equal(run_deeplift(TABLE, x).get_result("torch_tensor"), expected)
    expected = run_deeplift(TABLE, FRAME, x_ref=np.array([ROW])).get_result("torch_tensor")
    assert torch.equal(run_deeplift(TABLE, FRAME, x_ref=row).get_result("torch_tensor"), expected)


@pytest.mark.parametrize(
    "image", [torch.rand(3, 8, 8), np.random.default_rng(0).random((3, 8, 8))], ids=["tensor", "array"]
)
def test_one_image(image):
    x = eval(advised(message_of(run_grad, IMAGES, image)), {"x": image})  # noqa: S307
    assert run_grad(IMAGES, x).get_result().shape == (1, 3, 8, 8, 2)


def test_a_picture_of_pillow():
    message = message_of(run_grad, IMAGES, PICTURE)
    assert "channels_first=False" in message
    x = eval(advised(message), {"x": PICTURE, "numpy": np})  # noqa: S307
    assert run_grad(IMAGES, x, channels_first=False).get_result().shape == (1, 8, 8, 3, 2)


def test_rows_and_columns_swapped():
    data = torch.randn(5, 3)
    x = eval(advised(message_of(run_grad, TABLE, data.T)), {"x": data.T})  # noqa: S307
    assert torch.equal(x, data)


def test_grey_images_without_the_channel():
    data = torch.rand(4, 8, 8)
    x = eval(advised(message_of(run_grad, GREY, data)), {"x": data})  # noqa: S307
    assert x.shape == (4, 1, 8, 8)


def test_the_batch_in_the_shape_of_the_model():
    """A model that flattens takes an axis of 1, which was meant to be the batch."""
    converter = Converter(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), input_dim=(1, 3))
    message = message_of(run_grad, converter, torch.randn(5, 3))
    assert "'input_dim'" in message


def test_the_batch_in_the_shape_of_a_table():
    """A layer that works along the last axis takes it as one more axis of each instance."""
    net, data = nn.Linear(3, 2), torch.randn(5, 3)
    message = message_of(run_grad, Converter(net, input_dim=(5, 3)), data, output_idx=[(0, 0)])
    dims = eval(re.search(r"input_dim=(\(.+?\))\.", message)[1])  # noqa: S307
    assert run_grad(Converter(net, input_dim=dims), data).get_result().shape == (5, 3, 2)


def test_a_number_for_a_row():
    message = message_of(run_deeplift, TABLE, FRAME, x_ref=0)
    code = re.search(r"numbers: (.+?)\. See", message)[1]
    assert run_deeplift(TABLE, FRAME, x_ref=eval(code, {"x": 0, "numpy": np})).x_ref[0].tolist() == [[0, 0, 0]]  # noqa: S307


def test_more_columns_than_inputs():
    message = message_of(run_grad, TABLE, FRAME.assign(y=1.0))
    assert "'a', 'b', 'c', 'y'" in message
    assert "choose the 3" in message


def test_a_list_around_data():
    message = message_of(run_grad, TABLE, [torch.randn(5, 3), torch.randn(5, 3)])
    assert "one input" in message


def test_the_other_layout_is_named():
    images = torch.rand(2, 8, 8, 3)
    assert "channels_first=False" in message_of(run_grad, IMAGES, images)
    assert "channels_first=True" in message_of(run_grad, IMAGES, images.movedim(-1, 1), channels_first=False)


# -- what is no number -------------------------------------------------------------------------------------------------


def test_texts_in_a_column():
    table = FRAME.assign(site=["A", "B"])[["a", "b", "site"]]
    message = message_of(run_grad, TABLE, table)
    assert code_of(message) == "numbers-only"
    dropped = eval(re.search(r"it out: (.+?)\. See", message)[1], {"x": table})  # noqa: S307
    assert list(dropped.columns) == ["a", "b"]


@pytest.mark.parametrize(
    "column", [pd.Categorical(["u", "v"]), pd.to_datetime(["2020-01-01", "2021-01-01"]), ["1", "2"], [1 + 1j, 2]]
)
def test_other_columns_without_numbers(column):
    message = message_of(run_grad, TABLE, FRAME.assign(c=column))
    assert code_of(message) == "numbers-only"
    assert "'c'" in message


def test_a_path_for_data(tmp_path):
    path = tmp_path / "data.csv"
    FRAME.to_csv(path, index=False)
    message = message_of(run_grad, TABLE, str(path))
    data = eval(re.search(r"first: (.+?)\. See", message)[1], {"pandas": pd})  # noqa: S307
    pd.testing.assert_frame_equal(data, FRAME)


def test_loaders_and_data_sets():
    dataset = torch.utils.data.TensorDataset(torch.randn(4, 3), torch.zeros(4))
    loader = torch.utils.data.DataLoader(dataset, batch_size=2)
    message = message_of(run_grad, TABLE, loader)
    assert eval(advised(message), {"loader": loader}).shape == (2, 3)  # noqa: S307
    message = message_of(run_grad, TABLE, torch.utils.data.TensorDataset(torch.randn(4, 3)))
    assert "torch.stack([entry[0] for entry in dataset])" in message


def test_sparse_data():
    sparse = pytest.importorskip("scipy.sparse")
    given = sparse.csr_matrix(np.array([ROW]))
    message = message_of(run_grad, TABLE, given)
    assert eval(advised(message), {"x": given}).tolist() == [ROW]  # noqa: S307


# -- references --------------------------------------------------------------------------------------------------------


def test_many_rows_as_a_reference():
    data = torch.randn(5, 3)
    message = message_of(run_deeplift, TABLE, data, x_ref=data[:2])
    assert code_of(message) == "references"
    x_ref = eval(re.search(r"mean, (.+?), or", message)[1], {"x": data})  # noqa: S307
    assert run_deeplift(TABLE, data, x_ref=x_ref).x_ref[0].shape == (1, 3)
