"""Which images of a file are opened: pages of one kind are one image, others are reported.

The truth is what tifffile reads page by page, and the arrays that were written.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError, TiffStackWarning, UnreadableFileError
from intake_tiffstack.header.tiff_file import METADATA_KINDS

FRAMES = np.random.default_rng(3).integers(0, 60_000, (9, 24, 20)).astype("uint16")
NO_METADATA: dict[str, Any] = {"metadata": None, "contiguous": False}
GRAY: dict[str, Any] = {"photometric": "minisblack"}

LAYOUTS: dict[str, list[dict[str, Any]]] = {
    "strips": [{"rowsperstrip": 24}, {"rowsperstrip": 5}],
    "compressed strips": [
        {"rowsperstrip": 24, "compression": "zlib"},
        {"rowsperstrip": 5, "compression": "zlib"},
    ],
    "codec": [{}, {"compression": "zlib"}, {"compression": "lzw", "predictor": True}],
    "tiles": [{"tile": (16, 16)}, {"rowsperstrip": 7}],
    "predictor": [{"compression": "zlib", "predictor": True}, {"compression": "zlib"}],
}


def write_pages(path: Path, ways: list[int], layouts: list[dict[str, Any]]) -> None:
    """Write FRAMES, each page in the layout that *ways* names."""
    with tifffile.TiffWriter(path) as tif:
        for frame, way in zip(FRAMES, ways, strict=True):
            tif.write(frame, **NO_METADATA, **layouts[way])


def one_warning(stack: Any) -> str:
    """Open a stack and return its only warning."""
    with pytest.warns(TiffStackWarning) as caught:
        assert stack.to_dask().ndim
    assert len(caught) == 1
    return str(caught[0].message)


@pytest.mark.parametrize("layouts", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    "ways",
    [[0] + [1] * 8, [1] * 8 + [0], [0, 1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0]],
    ids=["header frame", "last", "mixed", "one that tifffile does not sample"],
)
def test_pages_of_one_shape_are_one_image_however_they_are_stored(
    tmp_path: Path, layouts: list[dict[str, Any]], ways: list[int]
) -> None:
    write_pages(tmp_path / "a.tif", ways, layouts)
    if len(layouts) == 3:
        write_pages(tmp_path / "a.tif", [(w + i) % 3 for i, w in enumerate(ways)], layouts)
    stack = open_stack(str(tmp_path / "a.tif"))
    assert stack.dims == ("page", "y", "x")
    np.testing.assert_array_equal(stack.read(), FRAMES, strict=True)
    part = (slice(7, 1, -3), slice(3, 22, 4), slice(19, 2, -5))
    np.testing.assert_array_equal(stack.to_dask()[part].compute(), FRAMES[part])
    named = open_stack(str(tmp_path / "a.tif"), file_dims={"t": -1, "z": 3})
    np.testing.assert_array_equal(named.read(), FRAMES.reshape(3, 3, 24, 20))


def test_frames_that_are_appended_one_by_one_are_a_movie(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    for frame in FRAMES:
        tifffile.imwrite(path, frame, append=True)
    np.testing.assert_array_equal(open_stack(str(path)).read(), FRAMES, strict=True)
    unraveled = open_stack(str(path), file_dims={"t": -1})
    assert unraveled.dims == ("t", "y", "x")
    # a number other than 0 is the image that has it in tifffile
    np.testing.assert_array_equal(open_stack(str(path), series=4).read(), FRAMES[4])


def test_files_built_alike_are_joined_alike(tmp_path: Path) -> None:
    for t in range(3):
        with tifffile.TiffWriter(tmp_path / f"t{t}.tif") as tif:
            for i, frame in enumerate(FRAMES):
                tif.write(frame + t, **NO_METADATA, rowsperstrip=24 if i == 0 else 4)
    found = open_stack(str(tmp_path), pattern="t{t:d}.tif").read()
    np.testing.assert_array_equal(found, np.stack([FRAMES + t for t in range(3)]))


def write_ome(path: Path, count: int = 4) -> None:
    with tifffile.TiffWriter(path, ome=True) as tif:
        for i in range(count):
            tif.write(
                FRAMES[:6].reshape(2, 3, 24, 20) + i, metadata={"axes": "TCYX", "Name": f"P{i}"}
            )


def test_images_of_an_ome_tiff_are_named_and_can_all_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    write_ome(path)
    with tifffile.TiffFile(path) as tif:
        expected = [series.asarray() for series in tif.series]
    stack = open_stack(str(path))
    text = one_warning(stack)
    for part in ("3 more images", "series=1 'P1' 2x3x24x20 uint16", "series=3 'P3'", "'all'"):
        assert part in text
    report = stack.report()
    assert "series=2 'P2' 2x3x24x20 uint16 (t c y x)" in str(report)
    assert len(report.to_dict()["other_series"]) == 1
    for i, pixels in enumerate(expected):
        own = open_stack(str(path), series=i)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if i == 0 else "error")
            np.testing.assert_array_equal(own.read(), pixels)
    whole = open_stack(str(path), series="all")
    assert whole.dims == ("position", "t", "c", "y", "x")
    np.testing.assert_array_equal(whole.read(), np.stack(expected), strict=True)
    assert "other series" not in str(whole.report())


def test_all_images_of_equal_shape_and_the_others_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(FRAMES[:3], metadata={"axes": "ZYX"}, **GRAY, compression="zlib")
        tif.write(FRAMES[:3].astype("uint8"), metadata={"axes": "ZYX"}, **GRAY)
        tif.write(FRAMES[3:6], metadata={"axes": "ZYX"}, **GRAY)
    stack = open_stack(str(path), series="all")
    np.testing.assert_array_equal(stack.read(), FRAMES[:6].reshape(2, 3, 24, 20))
    assert "series=1 3x24x20 uint8 (z y x)" in str(stack.report())
    with pytest.raises(OptionError, match="series must be int from 0, `all`"):
        open_stack(str(path), series="every")


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (FRAMES[:2].astype("float32"), "series=1 2x24x20 float32"),
        (FRAMES[:2, :9], "series=1 2x9x20 uint16"),
        (np.zeros((24, 20, 3), "uint8"), "series=1 24x20x3 uint8"),
    ],
    ids=["dtype", "shape", "samples"],
)
@pytest.mark.parametrize("metadata", [None, {}], ids=["plain", "shaped"])
def test_an_appended_image_of_another_kind_is_named_once(
    tmp_path: Path, second: np.ndarray, text: str, metadata: dict[str, Any] | None
) -> None:
    for name in ("a", "b"):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, FRAMES[:4], metadata=metadata, **GRAY)
        gray = {} if second.shape[-1] == 3 else GRAY
        tifffile.imwrite(path, second, metadata=metadata, append=True, **gray)
    stack = open_stack(str(tmp_path))
    message = one_warning(stack)
    assert text in message
    assert "a.tif has 1 more image" in message
    assert "1 more files likewise" in message
    assert "b.tif" in str(stack.report())
    np.testing.assert_array_equal(stack.read()[1], FRAMES[:4])


@pytest.mark.parametrize("ijmetadata", [{"imagej": True}], ids=str)
def test_an_image_appended_to_one_of_imagej_is_named(
    tmp_path: Path, ijmetadata: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FRAMES[:4], **ijmetadata)
    tifffile.imwrite(path, FRAMES[0, :8].astype("uint8"), append="force", metadata=None)
    stack = open_stack(str(path))
    assert "8x20 uint8" in one_warning(stack)
    np.testing.assert_array_equal(stack.read(), FRAMES[:4])


def test_a_preview_before_the_image_is_no_loss_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "raw.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(FRAMES[0, ::7, ::7].copy(), subfiletype=1, **NO_METADATA)
        tif.write(FRAMES[1], **NO_METADATA)
    stack = open_stack(str(path))
    assert "series=1 24x20 uint16 (y x)" in one_warning(stack)
    np.testing.assert_array_equal(open_stack(str(path), series=1).read(), FRAMES[1])


def test_an_image_in_subifds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raw.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(FRAMES[0, :7, :7].astype("uint8"), subifds=1, subfiletype=1, **NO_METADATA)
        tif.write(FRAMES[1], subfiletype=0, **NO_METADATA)
    stack = open_stack(str(path))
    assert "24x20 uint16" in one_warning(stack)


@pytest.mark.parametrize("subfiletype", [1, 4, 5], ids=["reduced", "mask", "mask of reduced"])
def test_masks_and_smaller_copies_are_reported_in_silence(tmp_path: Path, subfiletype: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(FRAMES[0], **NO_METADATA)
        tif.write(FRAMES[0, :11, :9] > 9, subfiletype=subfiletype, photometric=0, **NO_METADATA)
    stack = open_stack(str(path))
    np.testing.assert_array_equal(stack.read(), FRAMES[0])
    assert "series=1 11x9 bool" in str(stack.report())


# -- what is logged decides nothing ----------------------------------------------------------------

XML = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="I:0"><Pixels ID="P:0" DimensionOrder="XYCZT" Type="uint16" SizeX="20" SizeY="24" '
    'SizeZ="1" SizeC="1" SizeT="{}"><Channel ID="C:0" SamplesPerPixel="1"/>{}</Pixels></Image>'
    "</OME>"
)


@pytest.fixture(params=["as it is", "level", "disabled", "logger off"])
def logs(request: pytest.FixtureRequest) -> Iterator[str]:
    logger = logging.getLogger("tifffile")
    before = logger.level, logger.disabled
    if request.param == "level":
        logger.setLevel(logging.CRITICAL + 1)
    elif request.param == "disabled":
        logging.disable(logging.CRITICAL)
    elif request.param == "logger off":
        logger.disabled = True
    yield request.param
    logging.disable(logging.NOTSET)
    logger.level, logger.disabled = before
    logger.setLevel(before[0])


def write_counted(path: Path, size_t: int, data: str = "<TiffData/>", **options: Any) -> None:
    with tifffile.TiffWriter(path) as tif:
        for i, frame in enumerate(FRAMES[:6]):
            text = XML.format(size_t, data) if i == 0 else None
            tif.write(frame, **NO_METADATA, description=text, **options)


@pytest.mark.parametrize(
    ("size_t", "data", "count"),
    [
        (10, "<TiffData/>", 6),
        (4, "<TiffData/>", 6),
        (4, '<TiffData PlaneCount="4"/>', 6),
        (6, "<TiffData/>", 6),
    ],
    ids=["stopped early", "counts too few", "names too few", "right"],
)
def test_pages_against_the_xml_whatever_is_logged(
    tmp_path: Path, logs: str, size_t: int, data: str, count: int
) -> None:
    assert logs
    write_counted(tmp_path / "a.ome.tif", size_t, data)
    stack = open_stack(str(tmp_path / "a.ome.tif"))
    if size_t == count:
        assert stack.to_dask().ndim
    else:
        assert "OME series" in one_warning(stack)
    np.testing.assert_array_equal(stack.read(), FRAMES[:count], strict=True)


@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("page", [1, 4, 5])
@pytest.mark.parametrize("into", [0, 5, 60], ids=["before its directory", "in its count", "in it"])
def test_a_chain_of_pages_that_leads_out_of_the_file_is_an_error(
    tmp_path: Path, logs: str, bigtiff: bool, byteorder: Any, page: int, into: int
) -> None:
    assert logs
    path = tmp_path / "cut.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as tif:
        for frame in FRAMES[:6]:
            tif.write(frame, **NO_METADATA)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[page].offset
    with path.open("r+b") as file:
        file.truncate(at + into)
    with pytest.raises(UnreadableFileError, match=r"cut\.tif"):
        open_stack(str(path)).to_dask()


def test_the_order_of_opening_changes_nothing(tmp_path: Path) -> None:
    """A file that tifffile parsed before, with or without a log, is not parsed again."""
    for name in ("a", "b"):
        write_counted(tmp_path / f"{name}.ome.tif", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        first = open_stack(str(tmp_path / "a.ome.tif")).to_dask().shape
        logging.disable(logging.CRITICAL)
        try:
            second = open_stack(str(tmp_path / "b.ome.tif")).to_dask().shape
        finally:
            logging.disable(logging.NOTSET)
    assert first == second == (6, 24, 20)


# -- ImageJ's description and the pages ------------------------------------------------------------


@pytest.mark.parametrize("frames", [4, 2, 1])
def test_pages_win_over_what_imagej_counts(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "a.tif"
    text = f"ImageJ=1.52\nimages={frames}\nframes={frames}\nhyperstack=true\n"
    with tifffile.TiffWriter(path) as tif:
        for i, frame in enumerate(FRAMES[:6]):
            tif.write(frame, **NO_METADATA, description=text if i == 0 else None)
    stack = open_stack(str(path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = stack.read()
    np.testing.assert_array_equal(pixels, FRAMES[:6], strict=True)
    if frames > 1:
        assert len(caught) == 1
        assert f"ImageJ's description expected {frames} frames, got 6" in str(caught[0].message)
        assert stack.dims == ("page", "y", "x")


def test_pages_alone_are_so_for_each_kind_that_tifffile_knows() -> None:
    if hasattr(tifffile.TIFF, "SERIES"):  # newer than those for Python 3.11
        kinds = set(tifffile.TIFF.SERIES)
    else:
        methods = [name for name in dir(tifffile.TiffFile) if name.startswith("_series_")]
        kinds = {name.removeprefix("_series_") for name in methods}
    of_pages = {"uniform", "generic", "ndpi", "mdgel", "geotiff"}
    assert len(kinds) > 20
    assert kinds - of_pages <= set(METADATA_KINDS)
