"""Pieces of words become words again, whatever the tokenizer marks them with."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innsight_py.results.words import is_special, reader_of, words_of

SENTENCE = ["Seldom", "unbelievable", "well-known", "results", "42", "don't", "naïve", "größer"]


def texts(tokens):
    return [word.text for word in words_of(tokens)]


def written(tokens):
    """Write a text as its words say, with their spaces."""
    return "".join(" " * (word.spaced and place > 0) + word.text for place, word in enumerate(words_of(tokens)))


def cut(word: str, places: list[int]) -> list[str]:
    ends = [0, *sorted({place for place in places if 0 < place < len(word)}), len(word)]
    return [word[first:last] for first, last in itertools.pairwise(ends)]


def mark_wordpiece(pieces):
    return [pieces[0], *(f"##{piece}" for piece in pieces[1:])]


def mark_sentencepiece(pieces):
    return [f"\u2581{pieces[0]}", *pieces[1:]]


def mark_ending(pieces):
    return [*pieces[:-1], f"{pieces[-1]}</w>"]


def mark_continued(pieces):
    return [*(f"{piece}@@" for piece in pieces[:-1]), pieces[-1]]


MARKS = [mark_wordpiece, mark_sentencepiece, mark_ending, mark_continued]


@pytest.mark.parametrize("mark", MARKS)
@given(cuts=st.lists(st.lists(st.integers(1, 9), max_size=3), min_size=len(SENTENCE), max_size=len(SENTENCE)))
def test_words_are_those_that_were_cut(mark, cuts):
    cuts[1] = [2, 6]  # so that one word at least has marks
    pieces = [mark(cut(word, places)) for word, places in zip(SENTENCE, cuts, strict=True)]
    tokens = [piece for word in pieces for piece in word]
    words = words_of(tokens)
    assert [word.text for word in words] == SENTENCE
    assert [len(word.tokens) for word in words] == [len(word) for word in pieces]
    assert [position for word in words for position in word.tokens] == list(range(len(tokens)))


#: What a tokenizer of bytes (trained with the package tokenizers 0.22) makes of the text.
BYTES = [
    "D", "on", "'t", "Ġsto", "p", ":", "Ġcaf", "Ã©", "Ġna", "Ã¯", "ve", "Ġ", "ð", "Ł", "ĺ", "Ģ", "Ġæ", "Ĺ", "¥", "Ġ",
    "(", "2024", ")", "!", "Ċ", "N", "ew",
]  # fmt: skip


def test_bytes_become_letters():
    assert texts(BYTES) == ["Don't", "stop", ":", "café", "naïve", "😀", "日", "(", "2024", ")", "!", "↵", "New"]
    assert written(BYTES).replace("↵", "\n") == "Don't stop: café naïve 😀 日 (2024)!\nNew"


def test_sentencepiece_has_bytes_and_lone_spaces():
    tokens = ["<s>", "▁Cost", "▁", "<0xE2>", "<0x82>", "<0xAC>", "5", ",", "▁no", "!", "<0x0A>", "Yes", "</s>"]
    assert written(tokens) == "<s> Cost €5, no!↵Yes </s>"
    assert [word.special for word in words_of(tokens)] == [True, *[False] * 7, True]


def test_scripts_without_spaces_have_a_word_a_token():
    assert texts(["▁我", "喜欢", "这部", "电影", "。"]) == ["我", "喜欢", "这部", "电影", "。"]
    assert texts(["▁ฉัน", "ชอบ", "หนัง"]) == ["ฉัน", "ชอบ", "หนัง"]
    assert texts(["▁नम", "स्", "ते", "▁दुनिया"]) == ["नमस्ते", "दुनिया"]


def test_a_tokenizer_that_keeps_no_spaces():
    assert written(["[CLS]", "it", "'", "s", "(", "very", ")", "good", ",", "isn", "'", "t", "it", "?", "[SEP]"]) == (
        "[CLS] it's (very) good, isn't it? [SEP]"
    )


def test_special_tokens_are_words_of_their_own_and_padding_is_one():
    words = words_of(["[CLS]", "a", "##b", "[SEP]", "[PAD]", "[PAD]", "[PAD]"])
    assert [(word.text, word.tokens, word.special) for word in words] == [
        ("[CLS]", (0,), True), ("ab", (1, 2), False), ("[SEP]", (3,), True), ("[PAD]", (4, 5, 6), True),
    ]  # fmt: skip


@pytest.mark.parametrize("token", ["[CLS]", "[SEP]", "[PAD]", "<s>", "</s>", "<pad>", "<|im_start|>", "<bos>"])
def test_tokens_of_the_tokenizer(token):
    assert is_special(token)


@pytest.mark.parametrize("token", ["[UNK]", "[MASK]", "<unk>", "<script>", "<b>", "[1]", "s", "<|a b|>", "<s>x"])
def test_tokens_of_the_text(token):
    """An unknown or a masked word stands for a word; what looks like HTML is text about HTML."""
    assert not is_special(token)


@pytest.mark.parametrize("tokens", [["##"], ["@@"], [""], ["\u2581"], ["Ġ"], ["##x"], ["</w>"], ["\ud800"], ["▁", ""]])
def test_marks_alone(tokens):
    words = words_of(tokens)
    assert [position for word in words for position in word.tokens] == list(range(len(tokens)))
    "".join(word.text for word in words).encode()


def test_no_tokens():
    assert words_of([]) == []


def test_marks_are_looked_for_in_all_texts():
    """A row without a mark is read as the others are."""
    read = reader_of(["a", "##b", "c"])
    assert [word.text for word in words_of(["##x", "y"], read)] == ["x", "y"]
    assert words_of(["Hel", "lo"], reader_of(["Ġa"]))[0].tokens == (0, 1)
