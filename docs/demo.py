"""Goes through one example: files, catalog, report, lazy array, picture, Zarr copy.

Run ``make demo``, or ``python docs/demo.py`` in a clone of the repository. It writes a small
collection into ``demo_output/raw``, named like the files of a lattice light-sheet microscope, and
all other output next to it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

import dask.array as da
import imagecodecs
import intake
import numpy as np

from intake_tiffstack.samples import make_lattice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray
    from numpy.typing import NDArray

_CATALOG = Path(__file__).parents[1] / "catalogs" / "lattice.yml"

#: Colours of the channels in the picture: nuclei, membranes, vesicles.
_COLOURS = np.array([(0.30, 0.62, 1.00), (1.00, 0.28, 0.62), (1.00, 0.85, 0.30)])
# A 3 x 5 pixel font for the labels, so that the demo needs no plotting library: one octal digit per
# row, one bit per pixel.
# fmt: off
_LETTERS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717",
    "6": "74757", "7": "71122", "8": "75757", "9": "75717", "t": "27223", "=": "07070",
    "n": "06555", "m": "07755", "a": "06357", "l": "22222", " ": "00000",
}
# fmt: on
_GAP, _MARGIN = 4, 56


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if the Zarr copy equals the collection, else 1.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments; by default those of the process.
    """
    parser = argparse.ArgumentParser("python docs/demo.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="where to write")
    output: Path = parser.parse_args(arguments).output

    source = _open_collection(output / "raw")
    _show_source(source)
    _draw(source, output / "projection.png")
    is_same = _export(source, output / "lattice.zarr")
    print("\nDone." if is_same else "\nThe copy differs from the collection: please report this.")
    return 0 if is_same else 1


def draw_projection(stack: xarray.DataArray) -> NDArray[np.uint8]:
    """Return a labelled RGB picture of a projection, shape (rows, columns, 3). Pure.

    Parameters
    ----------
    stack : xarray.DataArray
        Pixels in memory with dims c, t, y and x. The picture has one column per time point, a first
        row with all channels merged and one row per channel, labelled with its ``wavelength``.
    """
    stack = stack.transpose("c", "t", "y", "x")
    # Black level: above camera offset and noise. White level: 99.9th percentile of each channel.
    black = np.quantile(stack, 0.4) * 1.3
    white = np.quantile(stack, 0.999, axis=(1, 2, 3), keepdims=True)
    light = np.clip((stack.to_numpy() - black) / (white - black), 0, 1) ** 0.8
    light = np.round(light * 16) / 16  # 16 levels look the same and make the PNG four times smaller
    colours = _COLOURS[np.arange(len(light)) % len(_COLOURS)]
    single = light[..., None] * colours[:, None, None, None, :]
    rows = np.concatenate([single.sum(axis=0, keepdims=True).clip(0, 1), single])

    n_rows, n_columns, height, width = rows.shape[:4]
    picture = np.zeros((n_rows * (height + _GAP) + 20, n_columns * (width + _GAP) + _MARGIN, 3))
    for row, column in np.ndindex(n_rows, n_columns):
        top, left = 20 + row * (height + _GAP), _MARGIN + column * (width + _GAP)
        picture[top : top + height, left : left + width] = rows[row, column]
    for column, time in enumerate(stack["t"].to_numpy()):
        left = _MARGIN + column * (width + _GAP) + width // 2 - 12
        _write_text(picture, f"t={time}", 5, left)
    labels = ["all", *(f"{number} nm" for number in stack["wavelength"].to_numpy())]
    for row, label in enumerate(labels):
        _write_text(picture, label, 15 + row * (height + _GAP) + height // 2, 4)
    return np.round(picture * 255).astype(np.uint8)


def _open_collection(raw: Path) -> Any:
    _begin(1, f"A collection with one volume per channel and time point, in {raw}")
    paths = make_lattice(raw, channels=3, times=5, shape=(12, 128, 160))
    _show("\n".join([*(path.name for path in paths[:3]), f"... {len(paths)} files"]))
    _begin(2, f"A catalog, {_CATALOG.parent.name}/{_CATALOG.name}, describes how to read it")
    _show(_CATALOG.read_text("utf-8").partition("sources:\n")[2].strip("\n"))
    urlpath = f"{raw.as_posix()}/*.tif"
    _type(
        f'cat = intake.open_catalog("{_CATALOG.parent.name}/{_CATALOG.name}")',
        f'src = cat.lattice(urlpath="{urlpath}")',
    )
    return intake.open_catalog(str(_CATALOG)).lattice(urlpath=urlpath)


def _show_source(source: Any) -> None:
    _begin(3, "The report, before any pixel is read")
    _type("print(src.report())")
    _show(str(source.report()))
    _begin(4, "One lazy array, its metadata, and the same array with named dims")
    _type("src.to_dask()")
    _show(repr(source.to_dask()))
    keys = ("scale", "units", "instrument")
    _type(f"{{key: src.metadata[key] for key in {keys}}}")
    _show(pformat({key: source.metadata[key] for key in keys}, width=100, sort_dicts=False))
    _type("src.to_xarray()")
    _show(repr(source.to_xarray()))


def _draw(source: Any, path: Path) -> None:
    _begin(5, "A maximum projection, which reads the pixels")
    _type('src.to_xarray().max("z").compute()')
    picture = draw_projection(source.to_xarray().max("z").compute())
    path.write_bytes(imagecodecs.png_encode(picture, level=9, filter=0))
    _show(f"{path}: {picture.shape[1]} x {picture.shape[0]} pixels, {path.stat().st_size:,} bytes")


def _export(source: Any, target: Path) -> bool:
    _begin(6, "A Zarr copy that other tools read")
    if target.exists():  # from an earlier run; export() does not overwrite by default
        shutil.rmtree(target)
    url = target.as_posix()
    _type(f'src.export("{url}")', f'da.from_zarr("{url}")')
    source.export(url)
    copy = da.from_zarr(url)
    _show(repr(copy))
    _type(f'intake.open_tiffstack_zarr("{url}").to_xarray()')
    named = intake.open_tiffstack_zarr(url).to_xarray()
    _show(repr(named))
    _begin(7, "Is the copy the same?")
    _type("bool((da.from_zarr(...) == src.to_dask()).all().compute())")
    pixels = source.to_dask().compute()
    is_same = np.array_equal(copy.compute(), pixels) and np.array_equal(named.to_numpy(), pixels)
    _show(str(is_same))
    return is_same


def _begin(number: int, title: str) -> None:
    heading = f"{number}. {title}"
    print(f"\n{heading}\n{'-' * len(heading)}", flush=True)


def _type(*lines: str) -> None:
    print("\n".join(f">>> {line}" for line in lines), flush=True)


def _show(text: str) -> None:
    print("\n".join(f"    {line}".rstrip() for line in text.splitlines()), flush=True)


def _write_text(picture: NDArray[np.float64], text: str, top: int, left: int) -> None:
    """Draw white *text* into *picture*, each font pixel as 2 x 2 pixels."""
    for number, letter in enumerate(text):
        bits = [[int(row) >> shift & 1 for shift in (2, 1, 0)] for row in _LETTERS[letter]]
        glyph = np.kron(np.array(bits), np.ones((2, 2)))[..., None]
        start = left + number * 8
        picture[top : top + 10, start : start + 6] = np.maximum(
            picture[top : top + 10, start : start + 6], glyph * 0.85
        )


if __name__ == "__main__":
    sys.exit(main())
