"""Many texts in one piece of memory: as a list of them, in its order."""

from __future__ import annotations

import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import packed_texts
from intake_tiffstack.packed_texts import PackedTexts, number_rows
from intake_tiffstack.storage.files import FileTable

#: Few characters, so that texts begin alike, and some of each length in UTF-8; one is no UTF-8.
TEXTS = st.text(st.sampled_from("a/0:\0é漢😀\udc80"), max_size=6)
LISTS = st.lists(TEXTS, max_size=20)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Let a few texts be several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_texts, "_BLOCK", 3)
        yield


@given(LISTS, TEXTS, st.data())
def test_packed_texts_are_as_a_list_of_them(texts: list[str], start: str, data: st.DataObject):
    packed, whole = PackedTexts.of(texts, start), [start + text for text in texts]
    assert list(packed) == whole
    assert packed == whole
    assert packed == tuple(whole)
    assert packed == PackedTexts.of(whole)
    assert packed != [*whole, ""]
    assert len(packed) == len(whole)
    assert [packed[i] for i in range(-len(whole), len(whole))] == whole * 2
    cut = data.draw(st.slices(len(whole)))
    assert list(packed[cut]) == whole[cut]
    rows = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)) if whole else []
    assert list(packed.take(rows)) == [whole[row] for row in rows]
    assert list(pickle.loads(pickle.dumps(packed.take(rows)))) == [whole[row] for row in rows]


@given(LISTS, TEXTS)
def test_their_order_is_that_of_code_points_and_stable(texts: list[str], start: str):
    expected = sorted(range(len(texts)), key=texts.__getitem__)
    assert PackedTexts.of(texts, start).order().tolist() == expected


@given(st.lists(st.text("ab", max_size=3), max_size=30), st.integers(0, 3))
def test_their_order_needs_no_more_numbers_than_a_few(texts: list[str], most: int):
    """Of names that differ at very many places, numbers would be larger than the names."""
    spread = [f"{text}{'z' * 20}{text}" for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_texts, "_MOST_NUMBERS", most)
        order = PackedTexts.of(spread).order()
    assert order.tolist() == sorted(range(len(spread)), key=spread.__getitem__)


@given(st.lists(st.binary(min_size=40, max_size=40), min_size=1, max_size=20))
def test_texts_that_differ_everywhere_are_in_order_too(rows: list[bytes]):
    """One number holds nine letters, so that the first ones are often equal."""
    texts = ["".join("ab"[byte % 2] * 9 for byte in row[:20]) + row.hex() for row in rows]
    assert PackedTexts.of(texts).order().tolist() == sorted(
        range(len(texts)), key=texts.__getitem__
    )


@given(st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=20))
def test_numbers_of_rows_are_in_their_order(rows: list[bytes]):
    matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 12)
    numbers = number_rows(matrix, matrix.min(axis=0), matrix.max(axis=0))
    keys = list(zip(*(number.tolist() for number in numbers), strict=True)) or [()] * len(rows)
    for one, first in zip(rows, keys, strict=True):
        for other, second in zip(rows, keys, strict=True):
            assert (one < other) == (first < second)


@given(LISTS, TEXTS)
def test_common_prefix_is_whole_characters(texts: list[str], start: str):
    whole = [start + text for text in texts]
    assert PackedTexts.of(texts, start).common_prefix == os.path.commonprefix(whole)  # noqa: RUF071


@given(LISTS, TEXTS, TEXTS.filter(bool))
def test_may_hold_overlooks_nothing(texts: list[str], start: str, part: str):
    if any(part in start + text for text in texts):
        assert PackedTexts.of(texts, start).may_hold(part)


def test_may_hold_is_false_where_no_text_has_the_part():
    assert not PackedTexts.of(["raw/a.tif", "raw/b.tif"], "/data/").may_hold("::")


@given(st.lists(st.tuples(TEXTS, LISTS), max_size=4))
def test_joined_texts_follow_one_another(parts: list[tuple[str, list[str]]]):
    joined = PackedTexts.join([PackedTexts.of(texts, start) for start, texts in parts])
    assert list(joined) == [start + text for start, texts in parts for text in texts]


def test_a_table_is_hardly_larger_than_its_names():
    names = [f"scan_Cam1_ch{i % 4}_CAM1_stack{i // 4:05d}_488nm.tif" for i in range(20_000)]
    tracemalloc.start()
    table = FileTable(PackedTexts.of(iter(names), "/data/"), *np.zeros((2, len(names)), np.int64))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == len(names)
    assert size / len(names) < len(names[0]) * 1.2 + 2 * 8 + 12
