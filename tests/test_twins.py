"""The cheap ways to a header give what a full parse gives, or nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import TiffStackError, UnreadableFileError
from intake_tiffstack.header import Header, Templates, open_header, read_header
from intake_tiffstack.header.cache import HeaderCache, clear_headers
from intake_tiffstack.header.frames import SegmentedFrames
from intake_tiffstack.header.ifd import read_directories, read_form
from intake_tiffstack.header.twins import MOST_TEMPLATES, Alike
from intake_tiffstack.storage.files import File
from shared_data import SHARED, needs_shared, read_rows


def as_file(path: Path | str) -> File:
    status = os.stat(path)
    return File(str(path), status.st_size, status.st_mtime_ns, None)


def find(templates: Templates, path: Path | str) -> Header | None:
    file = as_file(path)
    return templates.find(file, open_header(file))


def learn(templates: Templates, path: Path | str) -> Header:
    file = as_file(path)
    data = open_header(file)
    header = read_header(file, data=data)
    templates.add(header, data, lambda: open_header(file))
    return header


def assert_same(ours: Header, theirs: Header) -> None:
    assert ours.structure == theirs.structure
    assert type(ours.frames) is type(theirs.frames)
    np.testing.assert_array_equal(ours.frames.offsets, theirs.frames.offsets)
    if isinstance(ours.frames, SegmentedFrames):
        assert isinstance(theirs.frames, SegmentedFrames)
        np.testing.assert_array_equal(ours.frames.counts, theirs.frames.counts)
        assert ours.frames.tables == theirs.frames.tables
        assert ours.frames.shape == theirs.frames.shape
        assert ours.frames.nodata == theirs.frames.nodata


@needs_shared
def test_a_twin_is_what_tifffile_says_for_every_file():
    templates = Templates()
    twins = parsed = in_groups = 0
    for row in read_rows("MANIFEST.csv"):
        path = SHARED / row["path"]
        if not path.stat().st_size:
            continue
        try:
            found = find(templates, path)
        except UnreadableFileError:
            found = None
        if found is not None:
            theirs = read_header(as_file(path))
            assert_same(found, theirs)
            for alike in find_alike(templates, path):
                assert_alike(alike, theirs)
                in_groups += 1
            twins += 1
            continue
        try:
            learn(templates, path)
        except TiffStackError:
            continue
        parsed += 1
    assert twins > 200, "most files of a sequence are twins of its first"
    assert parsed > 100
    assert in_groups > 100


def write(path: Path, pixels: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True, "compression": "zlib"},
        {"imagej": True},
        {"compression": "zlib", "rowsperstrip": 5},
    ],
    ids=lambda options: " ".join(map(str, options)) or "plain",
)
@pytest.mark.parametrize("pages", [1, 3])
def test_files_of_one_kind_are_twins(tmp_path, options, pages):
    rng = np.random.default_rng(0)
    templates = Templates()
    stamps = ["2024:01:01 00:00:00", "2024:01:01 00:00:01"]
    paths = [
        write(
            tmp_path / f"{i}.tif",
            rng.integers(0, 50 * (i + 1), (pages, 32, 48)).astype("u2"),
            datetime=stamp,
            **options,
        )
        for i, stamp in enumerate(stamps)
    ]
    learn(templates, paths[0])
    found = find(templates, paths[1])
    assert found is not None
    assert_same(found, read_header(as_file(paths[1])))


FORMS = {
    "strips": {"compression": "zlib", "rowsperstrip": 8, "datetime": "2024:01:01 00:00:00"},
    "one strip": {"compression": "zlib", "datetime": "2024:01:01 00:00:00"},
    "big": {"compression": "zlib", "bigtiff": True, "software": "some microscope"},
    "plain": {"datetime": "2024:01:01 00:00:00"},
}


@pytest.mark.parametrize("kind", FORMS)
@given(data=st.data())
def test_comparing_bytes_gives_what_reading_directories_gives(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("forms", numbered=True)
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 9, (2, 2, 16, 24)).astype("u2")
    first, second = (
        write(folder / f"{i}.tif", plane, metadata=None, **FORMS[kind])
        for i, plane in enumerate(planes)
    )
    content = bytearray(second.read_bytes())
    read = open_header(as_file(second))
    read_directories(read, "")
    places = [place for start, n in read.merged() for place in range(start, start + n)]
    for place in data.draw(st.lists(st.sampled_from(places), max_size=3)):
        content[place] = data.draw(st.sampled_from([0, 1, 4, 255]) | st.integers(0, 255))
    second.write_bytes(content)
    results = []
    for by_form in (True, False):
        templates = Templates()
        learn(templates, first)
        templates.complete()
        templates._by_size.clear()
        assert templates._by_form
        if by_form:
            alike = find_alike(templates, second)
        else:
            templates._by_form.clear()
        try:
            results.append(find(templates, second))
        except UnreadableFileError as exc:
            results.append(str(exc))
    one, other = results
    if isinstance(one, Header) and isinstance(other, Header):
        assert_same(one, other)
    else:
        assert one == other
    for group in alike:
        assert isinstance(one, Header)
        assert_alike(group, one)


def find_alike(templates: Templates, path: Path | str) -> list[Alike]:
    """Return the groups of one file, as of many."""
    contents = np.fromfile(path, np.uint8)[None]
    found = templates.find_alike(np.array([contents.size]), contents, np.ones(1, bool))
    return [alike for alike in found if len(alike.rows)]


def assert_alike(alike: Alike, theirs: Header) -> None:
    assert alike.header.structure == theirs.structure
    assert type(alike.frames) is type(theirs.frames)
    if isinstance(theirs.frames, SegmentedFrames):
        np.testing.assert_array_equal(alike.offsets[0], theirs.frames.offsets)
        np.testing.assert_array_equal(alike.counts[0], theirs.frames.counts)
        assert isinstance(alike.frames, SegmentedFrames)
        assert alike.frames.tables == theirs.frames.tables
        assert alike.frames.nodata == theirs.frames.nodata
    else:
        np.testing.assert_array_equal(alike.frames.offsets, theirs.frames.offsets)


def test_a_form_that_another_thread_adds_does_not_disturb_a_comparison(tmp_path):
    first, second = (
        write(
            tmp_path / f"{i}.tif", np.full((16, 24), i, "u2"), metadata=None, **FORMS["one strip"]
        )
        for i in range(2)
    )
    templates = Templates()
    learn(templates, first)
    templates.complete()
    templates._by_size.clear()
    (known,) = templates._by_form
    data = open_header(as_file(second))
    read = data.read

    def read_meanwhile(start: int, count: int) -> bytes:
        templates._by_form.appendleft(known)
        return read(start, 0)

    data.read = read_meanwhile
    assert templates.find(as_file(second), data) is None


def test_table_inside_the_directory_has_no_form(tmp_path):
    """Its bytes are compared with those of no other file: some of them would be ignored."""
    path = write(tmp_path / "a.tif", np.zeros((4, 16, 16), "u2"), metadata=None, rowsperstrip=4)
    content = bytearray(path.read_bytes())
    entry = content.index((273).to_bytes(2, "little"), 8)
    content[entry + 8 : entry + 12] = (entry + 24).to_bytes(4, "little")
    path.write_bytes(content)
    _, form = read_form(open_header(as_file(path)), "a.tif")
    assert form is None


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.zeros((32, 40), "u2"), {}),
        (np.zeros((32, 48), "i2"), {}),
        (np.zeros((32, 48), "u2"), {"compression": "lzw"}),
        (np.zeros((2, 32, 48), "u2"), {"compression": "zlib"}),
        (np.zeros((32, 48), "u2"), {"compression": "zlib", "predictor": True}),
        (np.zeros((32, 48), "u2"), {"compression": "zlib", "description": "other"}),
        (np.zeros((32, 48), "u2"), {"compression": "zlib", "byteorder": ">"}),
    ],
    ids=["shape", "dtype", "codec", "pages", "predictor", "description", "byte order"],
)
def test_a_file_of_another_kind_is_no_twin(tmp_path, pixels, options):
    templates = Templates()
    learn(templates, write(tmp_path / "0.tif", np.zeros((32, 48), "u2"), compression="zlib"))
    assert find(templates, write(tmp_path / "1.tif", pixels, **options)) is None


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_file_that_is_cut_anywhere_in_its_header_is_an_error_that_names_it(tmp_path, bigtiff):
    pixels = np.arange(480, dtype="u2").reshape(24, 20)
    templates = Templates()
    for name in "abc":
        options = {"compression": "zlib", "bigtiff": bigtiff}
        write(tmp_path / f"{name}.tif", pixels * ord(name), **options)
    for name in "ab":
        learn(templates, tmp_path / f"{name}.tif")
    for size in range(200, 0, -1):
        os.truncate(tmp_path / "c.tif", size)
        assert find(templates, tmp_path / "c.tif") is None
        with pytest.raises(UnreadableFileError, match=r"c\.tif"):
            learn(templates, tmp_path / "c.tif")


def test_a_truncated_twin_is_an_error_that_names_it(tmp_path):
    templates = Templates()
    pixels = np.random.default_rng(0).integers(0, 9999, (32, 48)).astype("u2")
    learn(templates, write(tmp_path / "0.tif", pixels, compression="zlib"))
    cut = write(tmp_path / "cut.tif", pixels[::-1].copy(), compression="zlib")
    with cut.open("r+b") as handle:
        handle.truncate(cut.stat().st_size - 100)
    with pytest.raises(UnreadableFileError, match=r"cut\.tif is truncated"):
        find(templates, cut)


def test_equal_bytes_cost_one_read(tmp_path, monkeypatch):
    templates = Templates()
    paths = [
        write(tmp_path / f"{i}.tif", np.full((32, 32), i, "u2"), metadata=None) for i in range(2)
    ]
    learn(templates, paths[0])
    reads = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *a: reads.append(a) or preadv(*a))
    assert find(templates, paths[1]) is not None
    assert len(reads) == 1


def test_files_of_which_no_two_are_alike_do_not_fill_the_memory(tmp_path):
    templates = Templates()
    for i in range(MOST_TEMPLATES + 5):
        learn(
            templates, write(tmp_path / f"{i}.tif", np.zeros((8, 8), "u2"), description=f"{i:05}")
        )
    assert len(templates._by_tags) <= MOST_TEMPLATES


def test_a_folder_that_is_gone_keeps_no_other_file_from_opening(tmp_path: Path) -> None:
    clear_headers()
    (tmp_path / "gone").mkdir()
    tifffile.imwrite(tmp_path / "gone" / "a.tif", np.zeros((4, 4), np.uint8))
    assert open_stack(tmp_path / "gone" / "a.tif").shape == (4, 4)
    shutil.rmtree(tmp_path / "gone")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5), np.uint8))
    assert open_stack(tmp_path / "b.tif").shape == (4, 5)


def test_templates_take_no_more_memory_than_the_header_cache(tmp_path: Path) -> None:
    """The bytes of long descriptions are kept with each template, most of which are unlike."""
    with dask.config.set({"tiffstack.header_cache": "1 MB"}):
        cache = HeaderCache()
        for i in range(12):
            path = tmp_path / f"{i}.tif"
            tifffile.imwrite(
                path, np.zeros((4, 5 + i), np.uint16), description="a" * 200_000, metadata=None
            )
            status = path.stat()
            file = File(str(path), status.st_size, status.st_mtime_ns, None)
            cache.get(file, storage_options={}, series=0, level=0)
        held = sum(
            len(piece)
            for templates in cache._templates.values()
            for template in templates._by_size.values()
            for _, piece in template.touched
        )
    assert 200_000 <= held <= 1_000_000


def test_page_order_does_not_depend_on_what_was_opened_before(tmp_path: Path) -> None:
    """tifffile puts pages in other places by what Software says: ScanImage's at equal distances."""
    for name, software in [("plain", "nothing"), ("scanimage", "SI.LINE")]:
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            for page in range(6):
                writer.write(
                    np.full((8, 9), page, "u2"),
                    software=software,
                    metadata=None,
                    contiguous=False,
                )
    found = []
    for order in (("plain", "scanimage"), ("scanimage", "plain")):
        clear_headers()
        shapes = {name: open_stack(str(tmp_path / f"{name}.tif")).shape for name in order}
        found.append([shapes["plain"], shapes["scanimage"]])
    assert found[0] == found[1]
    assert found[0] == [(6, 8, 9), (6, 8, 9)]  # all that were written
