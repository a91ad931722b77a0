"""What the vignette about texts claims: expected words speak for each topic, and without them the answers change."""

from __future__ import annotations

import os
from pathlib import Path

import jupytext
import pytest

FILE = Path(__file__).parents[2] / "vignettes" / "texts.md"
#: Words that a person expects of each topic; some of them at least stand among the ten of the network.
EXPECTED = {
    "mail and web": {
        "body", "charset", "client", "connection", "content", "cookie", "cookies", "email", "header", "headers",
        "host", "http", "imap", "mail", "mailbox", "message", "messages", "mime", "netloc", "password",
        "payload", "policy", "proxy", "request", "requests", "response", "rfc", "server", "smtp", "uri", "url",
        "urls",
    },
    "files": {
        "archive", "copy", "dir", "directories", "directory", "disk", "drive", "dst", "fd", "file", "filename",
        "files", "filesystem", "link", "links", "member", "members", "name", "parent", "path", "paths",
        "permissions", "prefix", "root", "src", "suffix", "symlink", "symlinks", "tar", "tarfile", "temporary",
        "tree", "zip", "zipfile",
    },
    "numbers": {
        "angle", "complex", "cosine", "data", "decimal", "deviation", "digits", "distribution", "equal",
        "exact", "exponent", "finite", "float", "fraction", "function", "infinity", "integer", "integers", "k",
        "logarithm", "mean", "median", "nan", "negative", "normal", "number", "numbers", "operand", "operands",
        "point", "population", "positive", "precision", "probability", "random", "ratio", "rational", "real",
        "rounded", "rounding", "sample", "sequence", "sign", "sine", "standard", "sum", "tangent", "two",
        "value", "values", "variance", "x", "y", "zero",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def names() -> dict:
    found: dict = {"__name__": "__main__"}
    for cell in jupytext.read(FILE).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "texts.md", "exec"), found)  # noqa: S102 (the vignette's own code)
    return found


def test_the_network_has_learned_the_topics(names):
    assert names["right"] > names["largest"] + 0.2


@pytest.mark.parametrize("topic", EXPECTED)
def test_expected_words_speak_for_a_topic(names, topic):
    assert len(set(names["best"][topic]) & EXPECTED[topic]) >= 6, names["best"][topic]


def test_topics_share_few_words(names):
    best = names["best"]
    assert len({word for words in best.values() for word in words}) >= 27


def test_without_its_words_an_answer_changes(names):
    changed = names["changed"]
    assert changed["largest contribution"] > 2 * changed["at random"]
    assert changed["at random"] > changed["smallest magnitude"]
    assert changed["largest contribution"] > 0.4


def test_one_number_a_word_adds_up_to_the_answer(names):
    """DeepLift's sum is the score of the sentence less that of padding, which is computed here by the network alone."""
    net, sentence, answer = names["net"], names["sentence"], names["answer"]
    rows = range(len(sentence))
    difference = (net(sentence) - net(sentence * 0)).detach()[rows, answer]
    assert float((names["contribution"].sum(1) - difference).abs().max()) < 1e-4


def test_a_page_of_the_sentences_is_whole(names, tmp_path):
    names["of_each_topic"].text([0, 1, 2]).save(tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert page.count('type="radio"') == 3 * (len(names["topics"]) + 1)
    assert os.path.getsize(tmp_path / "why.html") < 200_000
