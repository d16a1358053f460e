"""Small synthetic collections for the demo, the documentation and the tests.

Each function writes TIFF files into a folder and returns their paths. The images resemble those of
an instrument, so that projections and composites are recognisable. The same arguments always give
the same pixels. Only NumPy and tifffile are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from math import tau
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile

from intake_tiffstack.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

__all__ = ["make_lattice", "make_movie", "make_plate", "make_satellite"]

Metadata = Literal["imagej", "ome", "none"]

#: Excitation of the channels, as lattice light-sheet microscopes have them, in nm.
WAVELENGTHS = (488, 560, 642, 405, 592)
#: Edge of a pixel and distance of two planes of the microscope's collections, in um.
PIXEL_UM, PLANE_UM = 0.1, 0.3
#: Time from one frame to the next, in ms.
FRAME_MSEC = 2500

# tifffile 2026.5.2 brought `kind` and deprecated `imagej`; the older one knows only that.
_IMAGEJ: dict[str, Any] = (
    {"kind": "imagej"} if "kind" in signature(tifffile.imwrite).parameters else {"imagej": True}
)
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)  # UTM zone 32 north


def make_lattice(
    folder: str | Path,
    *,
    channels: int = 3,
    times: int = 5,
    shape: tuple[int, int, int] = (8, 64, 48),
    dtype: DTypeLike = "uint16",
    metadata: Metadata = "imagej",
    compression: str | None = None,
    seed: int = 0,
) -> list[Path]:
    """Return the paths of a lattice light-sheet time lapse: one volume per channel and time point.

    The names are those of the instrument, for example
    ``scan_Cam1_ch0_CAM1_stack0000_488nm_0000000msec_0018583361msecAbs_000x_000y_000z_0000t.tif``:
    ``stack`` counts the time points, the wavelength goes with the channel, ``msec`` with the time
    and ``msecAbs`` with both. The pictures show a tissue that turns: its nuclei, membranes and
    vesicles, in turn by channel.

    Parameters
    ----------
    folder : str or Path
        Where the files go; created if it does not exist.
    channels, times : int
        How many of each; ``channels * times`` files are written.
    shape : tuple[int, int, int]
        Planes, rows and columns ``(z, y, x)`` of one volume.
    dtype : DTypeLike
        Any that a TIFF holds; ImageJ metadata allow only uint8, uint16 and float32.
    metadata : Metadata
        Calibration inside the files: as ImageJ writes it, as OME-XML (the names then end in
        ``.ome.tif``), or none.
    compression : str, optional
        As in :func:`tifffile.imwrite`, for example ``"zlib"``; None for none.
    seed : int
        Another number gives another tissue.

    Returns
    -------
    list of Path
        Channel by channel, each in order of time.

    Raises
    ------
    OptionError
        If a count is not positive, or `metadata` has another value.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = make_lattice(folder, channels=2, times=3)
    ...     print(len(paths), paths[-1].name[:40])
    6 scan_Cam1_ch1_CAM1_stack0002_560nm_00050
    """
    _check_counts(channels=channels, times=times, planes=shape[0], rows=shape[1], columns=shape[2])
    suffix = ".ome.tif" if metadata == "ome" else ".tif"
    tissue = _Tissue(seed)
    paths = []
    for channel in range(channels):
        for time in range(times):
            msec = time * FRAME_MSEC
            # The channels are exposed one after the other, half a second apart.
            name = (
                f"scan_Cam1_ch{channel}_CAM1_stack{time:04d}"
                f"_{WAVELENGTHS[channel % len(WAVELENGTHS)]}nm_{msec:07d}msec"
                f"_{18_583_361 + msec + 500 * channel:010d}msecAbs_000x_000y_000z_0000t{suffix}"
            )
            noise = np.random.default_rng([seed, channel, time])
            volume = _expose(tissue.draw(shape, channel, 0.02 * time), dtype, noise)
            path = Path(folder) / name
            _write(path, volume, "ZYX", metadata, compression)
            paths.append(path)
    return paths


def make_plate(
    folder: str | Path,
    *,
    wells: Sequence[str] = ("B03", "C04"),
    fields: int = 2,
    planes: int = 3,
    channels: int = 2,
    shape: tuple[int, int] = (48, 64),
    dtype: DTypeLike = "uint16",
    strays: bool = False,
    seed: int = 0,
) -> list[Path]:
    """Return the paths of a plate as the Yokogawa CV8000 names it: one plane per file.

    An example is ``plate_B03_T0001F001L01A01Z01C01.tif``: well, time, field, plane and channel,
    all counted from 1. The files carry no calibration.

    Parameters
    ----------
    folder : str or Path
        Where the files go; created if it does not exist.
    wells : sequence of str
        Names of the wells.
    fields, planes, channels : int
        How many of each in every well.
    shape : tuple[int, int]
        Rows and columns ``(y, x)`` of one plane.
    dtype : DTypeLike
        Of the pixels.
    strays : bool
        Adds the two pictures of the instrument itself that lie in such folders and belong to no
        well: ``DC_CAM1.tif`` and ``SC_M01_CH01.tif``. They are not among the paths returned.
    seed : int
        Another number gives other cells.

    Returns
    -------
    list of Path
        In the order well, field, plane, channel.

    Raises
    ------
    OptionError
        If a count is not positive.

    Examples
    --------
    >>> len(make_plate("plate", wells=["B03"], fields=2, planes=1, channels=2))
    4
    """
    _check_counts(fields=fields, planes=planes, channels=channels, rows=shape[0], columns=shape[1])
    paths = []
    for number, well in enumerate(wells):
        for field in range(fields):
            tissue = _Tissue(seed + 100 * number + field)
            noise = np.random.default_rng([seed, number, field])
            drawn = [tissue.draw((planes, *shape), c, 0.0) for c in range(channels)]
            for z in range(planes):
                for c in range(channels):
                    name = (
                        f"plate_{well}_T0001F{field + 1:03d}L01A{c + 1:02d}Z{z + 1:02d}C{c + 1:02d}"
                    )
                    path = Path(folder) / f"{name}.tif"
                    _write(path, _expose(drawn[c][z], dtype, noise), "YX", "none", None)
                    paths.append(path)
    if strays:
        for name in ("DC_CAM1.tif", "SC_M01_CH01.tif"):
            _write(Path(folder) / name, np.full(shape, 100, dtype), "YX", "none", None)
    return paths


def make_satellite(
    folder: str | Path,
    *,
    times: int = 3,
    bands: Sequence[str] = ("B02", "B03", "B04", "B08", "B8A"),
    shape: tuple[int, int] = (72, 96),
    compression: str | None = "zlib",
    seed: int = 0,
) -> list[Path]:
    """Return the paths of satellite scenes: a folder per pass, a single-band GeoTIFF per band.

    An example is ``20240105T103021_T32UPU/B02.tif``: time of the pass and tile, then the band. The
    pixels are uint16 reflectances times 10,000, 10 m wide in UTM zone 32 north: a lake, fields that
    turn green from pass to pass, and bare ground.

    Parameters
    ----------
    folder : str or Path
        Where the scenes go; created if it does not exist.
    times : int
        How many passes, 30 days apart.
    bands : sequence of str
        Names of the bands; B8A belongs between B08 and B09.
    shape : tuple[int, int]
        Rows and columns ``(y, x)``.
    compression : str, optional
        As in :func:`tifffile.imwrite`; None for none.
    seed : int
        Another number gives another landscape.

    Returns
    -------
    list of Path
        Pass by pass, the bands in the order given.

    Raises
    ------
    OptionError
        If a count is not positive.

    Examples
    --------
    >>> make_satellite("scenes", times=1, bands=["B02"])[0].as_posix()
    'scenes/20240105T103021_T32UPU/B02.tif'
    """
    _check_counts(times=times, rows=shape[0], columns=shape[1])
    rng = np.random.default_rng([seed, 0])
    height, moisture = _terrain(shape, rng), _terrain(shape, rng)
    geotags = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 600_000.0, 5_400_000.0, 0.0), True),
        (34735, "H", len(_GEO_KEYS), _GEO_KEYS, True),
    ]
    paths = []
    for time in range(times):
        day = np.datetime64("2024-01-05T10:30:21") + np.timedelta64(30 * time, "D")
        scene = str(day).replace("-", "").replace(":", "") + "_T32UPU"
        for number, band in enumerate(bands):
            path = Path(folder) / scene / f"{band}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = _reflectance(height, moisture, number / max(len(bands) - 1, 1), time)
            noise = np.random.default_rng([seed, time, number]).normal(0, 25, shape)
            tifffile.imwrite(
                path,
                np.clip(pixels + noise, 1, 65535).astype("uint16"),
                photometric="minisblack",
                compression=compression,
                extratags=geotags,
                metadata=None,
            )
            paths.append(path)
    return paths


def make_movie(
    path: str | Path,
    *,
    times: int = 6,
    channels: int = 2,
    shape: tuple[int, int] = (64, 48),
    dtype: DTypeLike = "uint16",
    metadata: Metadata = "imagej",
    compression: str | None = None,
    seed: int = 0,
) -> Path:
    """Return the path of one multi-page file: ``times * channels`` pages, channels fastest.

    Parameters
    ----------
    path : str or Path
        The file; its folder is created if it does not exist. OME-XML needs a name in ``.ome.tif``.
    times, channels : int
        How many of each.
    shape : tuple[int, int]
        Rows and columns ``(y, x)`` of a page.
    dtype : DTypeLike
    compression : str, optional
    seed : int
        As in :func:`make_lattice`.
    metadata : Metadata
        ``imagej`` and ``ome`` say what the pages are; ``none`` leaves just pages in a row.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OptionError
        If a count is not positive, `metadata` has another value, or the name is not OME's.

    Examples
    --------
    >>> make_movie("movie.tif", times=2).name
    'movie.tif'
    """
    _check_counts(times=times, channels=channels, rows=shape[0], columns=shape[1])
    tissue = _Tissue(seed)
    noise = np.random.default_rng([seed, times, channels])
    pages = [
        tissue.draw((5, *shape), channel, 0.02 * time).max(axis=0)
        for time in range(times)
        for channel in range(channels)
    ]
    movie = _expose(np.stack(pages).reshape(times, channels, *shape), dtype, noise)
    _write(Path(path), movie, "TCYX", metadata, compression)
    return Path(path)


@dataclass(frozen=True)
class _Tissue:
    """A dome of cells, one cell thick, that turns slowly; lengths in units of its radius."""

    seed: int
    cells: int = 38

    def draw(self, shape: tuple[int, int, int], channel: int, turn: float) -> NDArray[np.float64]:
        """Return brightness, 0 to about 1, of *shape* (z, y, x), after *turn* of a full turn.

        Channels 0, 1 and 2 are nuclei, membranes and vesicles; further ones begin again.
        """
        z, y, x = (np.linspace(-1.12, 1.12, size) for size in shape)
        radius = np.hypot(y[:, None], x)
        depth = z[:, None, None] - (0.5 - 0.9 * radius**2)
        inside = 1 / (1 + np.exp((radius - 1) * 45))
        glow = 0.05 * inside * np.exp(-((depth / 0.5) ** 2))
        centres = self._centres(turn)
        distances = np.hypot(y[:, None] - centres[:, 0, None, None], x - centres[:, 1, None, None])
        if channel % 3 == 0:
            brightness = np.random.default_rng(self.seed).uniform(0.55, 1.0, self.cells)
            nearest = np.hypot(distances.min(axis=0), 0.4 * depth)
            nuclei = np.exp(-((nearest / 0.095) ** 4)) * brightness[distances.argmin(axis=0)]
            drawn = nuclei * inside + glow
        elif channel % 3 == 1:
            # A wall is where two cells are equally near; the rim closes those at the edge.
            first, second = np.partition(distances, 1, axis=0)[:2]
            walls = np.exp(-(((second - first) / 0.035) ** 2)) * inside
            rim = np.exp(-(((radius - 1) / 0.025) ** 2))
            drawn = np.maximum(walls, rim) * np.exp(-((depth / 0.35) ** 4)) + glow
        else:
            drawn = self._vesicles(z, y, x, turn) * inside + 1.6 * glow
        result: NDArray[np.float64] = drawn
        return result

    def _centres(self, turn: float) -> NDArray[np.float64]:
        """Return the places (cell, yx): a sunflower's seeds, shaken, each wobbling by itself."""
        rng = np.random.default_rng([self.seed, self.cells])
        index = np.arange(self.cells) + 0.5
        radius = 0.9 * np.sqrt(index / self.cells)
        angle = index * tau * 0.381966 + tau * turn
        phase = rng.uniform(0, tau, (2, self.cells)) + tau * 4 * turn
        spots = radius * np.array([np.sin(angle), np.cos(angle)]) + 0.035 * np.sin(phase)
        result: NDArray[np.float64] = spots.T
        return result

    def _vesicles(
        self, z: NDArray[Any], y: NDArray[Any], x: NDArray[Any], turn: float
    ) -> NDArray[np.float64]:
        """Return spots of (z, y, x) that circle their cells, a few to each."""
        rng = np.random.default_rng([self.seed, self.cells, 2])
        owners = rng.integers(0, self.cells, 4 * self.cells)
        angle = rng.uniform(0, tau, owners.size) + tau * 9 * turn
        orbit = rng.uniform(0.08, 0.15, owners.size)[:, None]
        at = self._centres(turn)[owners] + orbit * np.stack([np.sin(angle), np.cos(angle)], 1)
        height = 0.5 - 0.9 * (at**2).sum(axis=1) + rng.normal(0, 0.1, owners.size)
        along_z = np.exp(-(((z - height[:, None]) / 0.12) ** 2))
        along_y, along_x = (
            np.exp(-(((axis - place[:, None]) / 0.02) ** 2))
            for axis, place in ((y, at[:, 0]), (x, at[:, 1]))
        )
        spots = np.einsum("nz,ny,nx->zyx", along_z, along_y, along_x, optimize=True)
        result: NDArray[np.float64] = np.minimum(spots, 1.0)
        return result


def _expose(brightness: NDArray[Any], dtype: DTypeLike, noise: np.random.Generator) -> NDArray[Any]:
    """Return what a camera makes of *brightness* (0 to 1): an offset, photons and their noise."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        bits: NDArray[Any] = brightness > 0.5
        return bits
    top = np.iinfo(kind).max if kind.kind in "iu" else np.inf
    offset, gain = (100, 900) if top > 2000 else (6, 100)
    counts = (
        offset + noise.poisson(brightness * gain) + noise.normal(0, 0.01 * gain, brightness.shape)
    )
    return np.clip(counts, 0, top).astype(kind)


def _terrain(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth random field of *shape* from 0 to 1: noise with a steep spectrum."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    steepness = (rows**2 + columns**2 + 0.02**2) ** -1.1
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * steepness, s=shape)
    spread = np.ptp(field)
    result: NDArray[np.float64] = (field - field.min()) / (spread if spread else 1.0)
    return result


def _reflectance(
    height: NDArray[np.float64], moisture: NDArray[np.float64], colour: float, time: int
) -> NDArray[np.float64]:
    """Return reflectance times 10,000; *colour* runs from blue (0) to infrared (1)."""
    water, soil, leaves = (
        np.interp(colour, (0, 0.25, 0.5, 1), spectrum)
        for spectrum in ((650, 480, 300, 90), (900, 1250, 1600, 2500), (330, 760, 420, 4300))
    )
    green = np.clip(2 * moisture - 0.9 + 0.3 * time, 0, 1)
    land = (soil * (1 - green) + leaves * green) * (0.7 + 0.5 * height)
    result: NDArray[np.float64] = np.where(height < 0.33, water, land)
    return result


def _write(
    path: Path, pixels: NDArray[Any], axes: str, metadata: Metadata, compression: str | None
) -> None:
    if metadata not in ("imagej", "ome", "none"):
        raise OptionError.unknown("metadata", str(metadata), ("imagej", "ome", "none"))
    if metadata == "ome" and ".ome.tif" not in path.name.lower():
        raise OptionError(f"an OME-TIFF's name ends in .ome.tif, but got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    described: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"photometric": "minisblack", "compression": compression}
    if metadata == "none":
        tifffile.imwrite(path, pixels, metadata=None, **options)
    elif metadata == "imagej":
        described |= {"spacing": PLANE_UM, "unit": "um", "finterval": FRAME_MSEC / 1000}
        options |= {"resolution": (1 / PIXEL_UM, 1 / PIXEL_UM), **_IMAGEJ}
        tifffile.imwrite(path, pixels, metadata=described, **options)
    else:
        described |= {f"PhysicalSize{axis}": PIXEL_UM for axis in "XY"}
        described |= {"PhysicalSizeZ": PLANE_UM} if "Z" in axes else {}
        described |= {f"PhysicalSize{axis}Unit": "µm" for axis in axes if axis in "ZYX"}
        tifffile.imwrite(path, pixels, metadata=described, **options)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but got {count}")
