"""napari: collections, entries of catalogs and copies as image layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import intake
import numpy as np

from intake_tiffstack.collection.suggest import suggest
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.driver import TiffStackSource, TiffStackZarrSource
from intake_tiffstack.errors import EntryError
from intake_tiffstack.export.ome_zarr.channels import SAMPLE_EDGE, choose_colors, window_of
from intake_tiffstack.metadata.units import METRES

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

__all__ = ["get_reader", "layers_of"]

Layer = tuple[Any, dict[str, Any], str]

_ENTRY = re.compile(r"(?P<catalog>.*\.ya?ml)(?::(?P<entry>.+))?", re.IGNORECASE | re.DOTALL)
_UNITS = frozenset({*METRES, "second"})
"""Units that napari's pint knows by the same name."""


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[Layer]] | None:
    """Return the function that opens *path*; None if it is several paths. Pure.

    Parameters
    ----------
    path : str or sequence of str
        A folder of TIFFs, a Zarr or OME-Zarr, or a catalog with or without ``:ENTRY``, also
        as ``file://localhost/...``.
    """
    if not isinstance(path, str):
        return None
    return lambda path: layers_of(_open(path))


def layers_of(source: TiffStackSource | TiffStackZarrSource) -> list[Layer]:
    """Return a source as layers of napari: one per channel, lazy.

    Parameters
    ----------
    source : TiffStackSource or TiffStackZarrSource
        Of a collection, an entry or a copy. The levels of a copy, and those inside a single file,
        become a multiscale layer.

    Returns
    -------
    list of tuple
        ``(data, options, "image")`` as napari's readers return them: dask arrays, and the keywords
        of ``viewer.add_image``, with name, scale, translation, units, labels of the axes, colour
        and range of the channel. A range that is not known is that of the middle plane, which is
        read for it.

    Examples
    --------
    >>> import intake
    >>> source = intake.open_tiffstack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
    >>> [(options["name"], data.shape) for data, options, _ in layers_of(source)]
    [('488', (3, 8, 64, 48)), ('560', (3, 8, 64, 48))]
    """
    levels = _levels(source)
    first, known = levels[0], source.discover()["metadata"]
    channel = next((dim for dim in first.dims if role_of(str(dim)) is Role.CHANNEL), None)
    if channel is None:
        return [_layer(levels, known, _name(source), _looks(known, 0, levels, 1))]
    count = first.sizes[channel]
    layers = []
    for i in range(count):
        parts = [level.isel({channel: i}) for level in levels]
        name = _channel_name(known, i) or f"{_name(source)} {channel} {first[channel].values[i]}"
        layers.append(_layer(parts, known, name, _looks(known, i, parts, count)))
    return layers


def _open(path: str) -> TiffStackSource | TiffStackZarrSource:
    """Return the source of what napari was given."""
    if path.lower().startswith("file://"):  # how napari passes a path that does not exist
        path = url2pathname(urlsplit(path).path)
    found = _ENTRY.fullmatch(path)
    if found:
        return _open_entry(found["catalog"], found["entry"])
    folder = Path(path)
    if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return TiffStackZarrSource(path)
    best = suggest(path).best
    return TiffStackSource(path) if best is None else TiffStackSource(**best.options)


def _open_entry(url: str, name: str | None) -> TiffStackSource | TiffStackZarrSource:
    catalog = intake.open_catalog(url)
    names = list(catalog)
    if name is None:
        if len(names) != 1:
            listed = ", ".join(f"{url}:{each}" for each in names)
            raise EntryError(f"{url} has {len(names)} entries: open one of them, {listed}")
        (name,) = names
    try:
        source = catalog[name]
    except KeyError as exc:
        raise EntryError(f"{url} has no entry {name!r}, but {', '.join(names)}") from exc
    if not isinstance(source, (TiffStackSource, TiffStackZarrSource)):
        raise EntryError(f"{url}: the entry {name!r} is not one of tiffstack or tiffstack_zarr")
    return source


def _levels(source: TiffStackSource | TiffStackZarrSource) -> list[xr.DataArray]:
    """Return the levels, full resolution first; one for a collection of several files."""
    if isinstance(source, TiffStackSource) and len(source.files) > 1:
        return [source.to_xarray()]
    tree = source.to_datatree()
    return [next(iter(node.data_vars.values())) for node in tree.children.values()]


def _layer(
    levels: Sequence[xr.DataArray],
    known: Mapping[str, Any],
    name: str,
    looks: Mapping[str, Any],
) -> Layer:
    dims = [str(dim) for dim in levels[0].dims if dim != "sample"]
    is_rgb = "sample" in levels[0].dims
    order = [*dims, "sample"] if is_rgb else dims
    data: list[da.Array] = [level.transpose(*order).data for level in levels]
    units = {dim: known["units"].get(dim) for dim in dims}
    options = {
        "name": name,
        "scale": [known["scale"].get(dim, 1.0) for dim in dims],
        "translate": [known["translation"].get(dim, 0.0) for dim in dims],
        "units": [unit if unit in _UNITS else "pixel" for unit in units.values()],
        "axis_labels": dims,
        "rgb": is_rgb,
        "multiscale": len(data) > 1,
        **looks,
    }
    return (data if len(data) > 1 else data[0]), options, "image"


def _looks(
    known: Mapping[str, Any], channel: int, levels: Sequence[xr.DataArray], count: int
) -> dict[str, Any]:
    """Return blending, colour and range of one of *count* channels."""
    if "sample" in levels[0].dims:
        return {}
    colours, ranges = known["channel_colors"], known["display_ranges"]
    looks: dict[str, Any] = {"blending": "additive"} if count > 1 else {}
    if colours or count > 1:
        chosen = choose_colors(None, [""] * count, known=colours, is_rgb=False)
        looks["colormap"] = f"#{chosen[channel]}"
    has_range = ranges and ranges[channel]
    looks["contrast_limits"] = list(ranges[channel] if has_range else _window(levels[-1]))
    return looks


def _window(level: xr.DataArray) -> tuple[float, float]:
    """Return the range of the pixels of the middle plane; napari itself takes the first.

    Reads that plane, or the middle of a large one.
    """
    middle: dict[Any, Any] = {dim: size // 2 for dim, size in level.sizes.items()}
    for dim in {"y", "x"} & middle.keys():
        first = max(0, middle[dim] - SAMPLE_EDGE // 2)
        middle[dim] = slice(first, first + SAMPLE_EDGE)
    return window_of(np.asarray(level.isel(middle).data.compute()).ravel().real)


def _channel_name(known: Mapping[str, Any], channel: int) -> str:
    names = known["channel_names"]
    return str(names[channel]) if names else ""


def _name(source: TiffStackSource | TiffStackZarrSource) -> str:
    """Return the name of the entry, or the last part of the path."""
    if source._entry is not None:
        return str(source.name)
    url = source.options.urlpath
    parts = [part for part in re.split(r"[/\\]", url if isinstance(url, str) else "") if part]
    named = [part for part in parts if not set("*?[{") & set(part)]
    return named[-1] if named else "image"
