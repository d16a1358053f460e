"""What a notebook shows: the grid with its holes, thumbnails, a preview, xarray's plots."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import intake
import matplotlib
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from intake_tiffstack import open_stack
from intake_tiffstack.collection.grid_picture import draw_grid
from intake_tiffstack.errors import MissingFilesError, OptionError
from intake_tiffstack.layout.model import Axis, Grid
from intake_tiffstack.samples import make_lattice, make_movie, make_plate

FULL, PART, EMPTY = "#5b8db8", "#f2b441", "#c8323c"
PATTERN = "c{c:d}_t{t:d}.tif"


def rectangles(text: str, colour: str) -> float:
    """Return how many squares of the edge length the rectangles of one colour cover."""
    root = ElementTree.fromstring(text)
    found = [
        rect for rect in root.iter() if rect.tag.endswith("rect") and rect.get("fill") == colour
    ]
    return sum(float(rect.get("width", 0)) * float(rect.get("height", 0)) for rect in found) / 81


def grid_of(present: np.ndarray) -> Grid:
    axes = tuple(Axis(f"a{i}", tuple(range(n))) for i, n in enumerate(present.shape))
    return Grid(axes, np.where(present, 0, -1).astype(np.int32))


def scan(folder: Path, *, without: tuple[str, ...] = ()) -> None:
    for c, t in np.ndindex(2, 5):
        if f"c{c}_t{t}" not in without:
            tifffile.imwrite(folder / f"c{c}_t{t}.tif", np.full((4, 5), 9, np.uint8))


@given(st.data())
def test_each_hole_of_a_small_grid_is_one_red_square(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    flat = data.draw(
        st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    )
    present = np.array(flat).reshape(shape)
    drawn = draw_grid(grid_of(present))
    assert rectangles(drawn, EMPTY) == np.count_nonzero(~present)
    assert rectangles(drawn, PART) == 0
    assert rectangles(drawn, FULL) == present.size  # the ground


def test_one_hole_in_a_large_grid_is_seen() -> None:
    present = np.ones((3, 100_000), bool)
    present[1, 77_777] = False
    drawn = draw_grid(grid_of(present))
    assert rectangles(drawn, PART) == 1
    assert rectangles(drawn, EMPTY) == 0
    assert "299,999 of 300,000 cells have a file" in drawn
    assert len(drawn) < 3000


def test_names_of_fields_and_values_are_text_and_no_markup() -> None:
    grid = Grid((Axis("<b>", ("<script>", "b")),), np.array([0, -1], np.int32))
    drawn = draw_grid(grid)
    assert "<script>" not in drawn
    ElementTree.fromstring(drawn)


def test_the_report_of_a_collection_with_holes_shows_them(tmp_path: Path) -> None:
    scan(tmp_path, without=("c1_t2", "c1_t3"))
    stack = open_stack(f"{tmp_path}/*.tif", pattern=PATTERN)
    (drawn,) = re.findall("<svg.*</svg>", stack.report()._repr_html_())
    assert rectangles(drawn, EMPTY) == 2
    with pytest.raises(MissingFilesError):
        stack.report(thumbnails=True)


def test_a_row_of_files_has_no_grid(tmp_path: Path) -> None:
    scan(tmp_path)
    shown = open_stack(f"{tmp_path}/*.tif", concat_dim="file").report()._repr_html_()
    assert "<svg" not in shown


def test_thumbnails_are_drawn_on_request(tmp_path: Path) -> None:
    make_lattice(tmp_path, channels=2, times=2)
    source = intake.open_tiffstack(f"{tmp_path}/*.tif", pattern="lattice", concat_dim=["c", "t"])
    assert "<img" not in source.report()._repr_html_()
    assert "<img alt='thumbnails' src='data:image/png;base64,iVBOR" in (
        source.report(thumbnails=True)._repr_html_()
    )


def test_a_preview_shows_the_brightest_pixel_where_it_is(tmp_path: Path) -> None:
    plane = np.zeros((40, 60), np.uint16)
    plane[10:20, 30:50] = 4000
    tifffile.imwrite(tmp_path / "a.tif", plane)
    picture = intake.open_tiffstack(f"{tmp_path}/a.tif").preview(percentiles=(0, 100), width=60)
    assert isinstance(picture, Image.Image)
    assert picture._repr_png_()  # type: ignore[no-untyped-call]
    shown = np.asarray(picture.convert("L"))
    left, top = 12, 12 + 22
    image = shown[top : top + 40, left : left + 60]
    assert (image[10:20, 30:50] == 255).all()
    assert (image[:10] == 0).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    ("samples", "shown"), [(2, (255, 255, 255)), (3, (255, 0, 0)), (6, (255, 0, 0))]
)
@pytest.mark.parametrize("size", [20, 300])
def test_a_preview_shows_samples_in_colour(
    tmp_path: Path, samples: int, shown: tuple[int, ...], size: int, planar: str
) -> None:
    pixels = np.zeros((size, size, samples), np.uint8)
    pixels[:, size // 2 :, 0] = 200  # red, on the right
    pixels[..., 3:] = 99
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb" if samples > 2 else "minisblack",
        planarconfig=planar,
        extrasamples=[0] * (samples - (3 if samples > 2 else 1)),
    )
    picture = open_stack(tmp_path / "a.tif").preview()
    edge = 20 * (384 // 20) if size == 20 else size
    colours = picture.crop((12, 34, 12 + edge, 34 + edge)).getcolors()
    assert colours is not None
    assert {colour for _, colour in colours} == {(0, 0, 0), shown}


def test_a_copy_has_the_preview_of_its_files(tmp_path: Path) -> None:
    make_plate(tmp_path / "plate")
    source = intake.open_tiffstack(f"{tmp_path}/plate", pattern="cv8000")
    copy = source.export(f"{tmp_path}/plate.zarr")
    np.testing.assert_array_equal(np.asarray(copy.preview()), np.asarray(source.preview()))


def test_what_has_no_plane_has_no_preview(tmp_path: Path) -> None:
    make_movie(tmp_path / "a.tif", metadata="none")
    stack = open_stack(f"{tmp_path}/a.tif", file_dims="ayb")
    with pytest.raises(OptionError, match="needs the dims y and x"):
        stack.preview()


def test_plot_is_that_of_xarray(tmp_path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    make_lattice(tmp_path, channels=1, times=1)
    options = {"pattern": "lattice", "concat_dim": ["c", "t"], "scale": {"y": 0.5, "x": 0.5}}
    source = intake.open_tiffstack(f"{tmp_path}/*.tif", **options)
    stack = open_stack(f"{tmp_path}/*.tif", **options)
    assert type(source.plot) is type(source.to_xarray().plot)
    assert len(stack.plot.hist()[0]) == 10
    pyplot.close("all")
