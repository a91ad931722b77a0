"""Frames of texts have the tokens, their words and their positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from text_results import result_of, review, text_port, text_result

from innsight_py.inputs.ports import Port
from innsight_py.results.tokens import is_text, row_tokens, row_words


def test_a_frame_has_position_token_and_word():
    frame = review().get_result("data.frame")
    assert list(frame)[:7] == ["data", "model_input", "model_output", "feature", "position", "token", "word"]
    first = frame[(frame["data"] == "data_1") & (frame["output_node"] == "good")]
    assert first["position"].tolist() == list(range(8))
    assert first["token"].tolist() == ["[CLS]", "un", "##believ", "##able", "plot", ",", "good", "[SEP]"]
    assert first["word"].tolist() == ["[CLS]", *["unbelievable"] * 3, "plot", ",", "good", "[SEP]"]
    assert first["value"].tolist() == [0, 1, 2, -1, 0.5, 0, 4, 0.25]
    second = frame[(frame["data"] == "data_2") & (frame["output_node"] == "bad")]
    assert second["token"].tolist() == ["[CLS]", "a", "bad", "film", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert second["value"].tolist() == [0, -0.125, 2, -0.25, 0, -0.0625, -0.0625, -0.125]


def test_the_words_of_a_frame_add_up():
    frame = review().get_result("data.frame")
    words = frame.groupby(["data", "output_node", "word"], observed=True)["value"].sum()
    assert words["data_1", "good", "unbelievable"] == 2
    assert words["data_1", "bad", "unbelievable"] == -1


def test_a_table_beside_a_text():
    ids = torch.tensor([[1, 0], [0, 2]])
    ports = [Port("age", (1,), [["age"]], "table"), text_port(2, vocabulary=["no", "yes", "well"])]
    values = [np.ones((2, 1, 1)), np.arange(4.0).reshape(2, 2, 1)]
    result = result_of(ports, [torch.ones(2, 1), ids], values, ["out"])
    frame = result.get_result("data.frame")
    table, text = frame[frame["model_input"] == "Input_1"], frame[frame["model_input"] == "Input_2"]
    assert table[["position", "token", "word"]].isna().to_numpy().all()
    assert text["token"].tolist() == ["yes", "no", "no", "well"]
    assert text["position"].tolist() == [0, 0, 1, 1]
    assert text["value"].tolist() == [0, 2, 1, 3]


def test_results_without_a_text_have_no_such_columns():
    result = result_of([Port("age", (1,), [["age"]], "table")], [torch.ones(2, 1)], [np.ones((2, 1, 1))], ["out"])
    assert not {"position", "token", "word"} & set(result.get_result("data.frame"))


def test_columns_of_categories_are_no_text():
    columns = text_port(2, ["sex", "island"])
    assert not is_text(columns)
    result = result_of([columns], [torch.tensor([[0, 2]])], [np.ones((1, 2, 1))], ["out"])
    assert result.get_result("data.frame")["feature"].tolist() == ["sex", "island"]
    assert "token" not in result.get_result("data.frame")


def test_tokens_without_names_are_numbers():
    result = result_of([text_port(3)], [torch.tensor([[5, 0, 5]])], [np.ones((1, 3, 1))], ["out"])
    assert row_tokens(result, 0) == [["5", "0", "5"]]


def test_a_function_is_asked_once_for_each_number():
    asked = []

    def names(numbers):
        asked.extend(numbers)
        return [f"\u2581w{number}" for number in numbers]

    result = result_of(
        [text_port(3, vocabulary=names)], [torch.tensor([[5, 0, 5], [0, 0, 1]])], [np.ones((2, 3, 1))], "o"
    )
    assert [[word.text for word in row] for row in row_words(result, 0, [1, 0])] == [
        ["w0", "w0", "w1"],
        ["w5", "w0", "w5"],
    ]
    assert sorted(asked) == [0, 1, 5]


def test_a_frame_without_data_has_positions():
    result = result_of([text_port(2)], [], [np.ones((1, 2, 1))], ["out"])
    frame = result.get_result("data.frame")
    assert frame["token"].tolist() == ["X1", "X2"]
    assert isinstance(frame["token"].dtype, pd.CategoricalDtype)


def test_a_vocabulary_is_not_printed_with_its_port():
    assert "characteristically" not in repr(text_port(2, vocabulary=["characteristically"] * 9))


def test_a_summary_is_one_of_words():
    """Ranked from the data frame with pandas alone; a word that stands twice in a row counts twice."""
    tokens = [["good", "##ness", "good"], ["good", "bad", "film"]]
    values = np.array([[[1.0], [-3.0], [4.0]], [[-0.5], [-1.0], [0.25]]])
    result = text_result(tokens, values, ["out"])
    summary = result.summary().set_index("feature")
    assert summary["mean_abs"].to_dict() == {"good": 2.25, "goodness": 1.0, "bad": 0.5, "film": 0.125}
    np.testing.assert_allclose(summary["share"], summary["mean_abs"] / 3.875)
    frame = result.get_result("data.frame").sort_values(["data", "position"])
    starts = (frame["token"].str.startswith("##").astype(int) == 0).cumsum()
    occurrences = frame.groupby([starts, "word"], observed=True)["value"].sum().abs()
    expected = occurrences.groupby("word", observed=True).sum() / 2
    assert expected.to_dict() == summary["mean_abs"].to_dict()


def test_a_summary_of_words_of_each_topic():
    result = review()
    result.result[0][0] = result.result[0][0][..., :1]
    result.output_idx, result.output_label = [None], [None]
    result.target_idx, result.target_label, result.targets = [[0, 1]], [["good", "bad"]], ["predicted"]
    result.preds, result.decomp_goal, result.decomposes = None, None, False
    summary = result.summary(1)
    assert summary[["output_node", "feature"]].to_numpy().tolist() == [["good", "good"], ["bad", "bad"]]
    assert summary["mean_abs"].tolist() == [4, 4]


def test_a_summary_of_a_text_beside_a_table():
    ids = torch.tensor([[1, 0], [0, 2]])
    ports = [Port("age", (1,), [["age"]], "table"), text_port(2, vocabulary=["no", "yes", "well"])]
    values = [np.full((2, 1, 1), -3.0), np.arange(4.0).reshape(2, 2, 1)]
    result = result_of(ports, [torch.ones(2, 1), ids], values, ["out"])
    summary = result.summary()
    assert summary["feature"].tolist() == ["age", "no", "well", "yes"]
    assert summary["mean_abs"].tolist() == [3, 1.5, 1.5, 0]


def test_an_array_with_names_has_tokens_and_words():
    array = review().get_result("xarray")
    assert array.sel(data="data_1").token.values.tolist()[1:4] == ["un", "##believ", "##able"]
    assert array.sel(data="data_1").word.values.tolist()[1:4] == ["unbelievable"] * 3
    bad = array.where(array.word == "bad", drop=True).sel(output_node="good")
    assert bad.values.tolist() == [[-4.0]]
