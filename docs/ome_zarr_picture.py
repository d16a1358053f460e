"""Draw docs/images/ome-zarr.png: one level of a pyramid, read by another package.

``python docs/ome_zarr_picture.py`` writes a synthetic scan as TIFF, exports it, and reads a
level back with ome-zarr-py. Needs the extra ``test``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr.io
import ome_zarr.reader
import tifffile
from PIL import Image, ImageDraw

from intake_tiffstack import open_stack

LEVEL = 2
SHAPE = (2, 1, 1600, 2400)


def write_scan(folder: Path) -> None:
    """Write cells and their nuclei, one file per channel."""
    noise = np.random.default_rng(3)
    y, x = np.ogrid[: SHAPE[2], : SHAPE[3]]
    channels = np.full((2, *SHAPE[2:]), 100.0)
    for centre_y, centre_x, size in noise.random((70, 3)):
        square = (y - centre_y * SHAPE[2]) ** 2 + 1.4 * (x - centre_x * SHAPE[3]) ** 2
        width = 40 + 60 * size
        channels[0] += 900 * np.exp(-square / width**2) * (1 + 0.3 * np.cos(square / 900))
        channels[1] += 1500 * np.exp(-square / (0.45 * width) ** 2)
    pixels = noise.poisson(channels).astype("uint16")
    for i, name in enumerate(["membrane", "nuclei"]):
        tifffile.imwrite(folder / f"scan_{name}.tif", pixels[i])


def read_level(where: Path) -> tuple[Any, dict[str, Any]]:
    """Return the pixels of a level and the metadata, read by ome-zarr-py."""
    location = ome_zarr.io.parse_url(str(where), mode="r")
    node = next(iter(ome_zarr.reader.Reader(location)()))
    return np.asarray(node.data[LEVEL]), node.metadata


def draw(level: Any, metadata: dict[str, Any]) -> Image.Image:
    """Return the channels in their colours and windows, with a scale bar of 50 micrometres."""
    shown = np.zeros((*level.shape[-2:], 3))
    for plane, (low, high), (_, color) in zip(
        level, metadata["contrast_limits"], metadata["colormap"], strict=True
    ):
        bright = np.clip((plane - low) / (high - low), 0, 1)
        shown += bright[..., None] * np.asarray(color)
    picture = Image.fromarray((255 * np.clip(shown, 0, 1)).astype("uint8"))
    step = metadata["coordinateTransformations"][LEVEL][0]["scale"][-1]
    right, bottom = picture.width - 16, picture.height - 16
    ImageDraw.Draw(picture).rectangle((right - 50 / step, bottom - 4, right, bottom), fill="white")
    return picture


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scan(folder)
        stack = open_stack(
            str(folder / "*.tif"),
            pattern="scan_{c}.tif",
            scale={"y": 0.1, "x": 0.1},
            units=dict.fromkeys("yx", "micrometer"),
        )
        where = folder / "scan.ome.zarr"
        stack.export(
            str(where),
            format="ome-zarr",
            levels=4,
            colors={"membrane": "00A0FF", "nuclei": "FFB000"},
        )
        picture = draw(*read_level(where))
        picture.quantize(128).save(Path(__file__).parent / "images" / "ome-zarr.png", optimize=True)


if __name__ == "__main__":
    main()
