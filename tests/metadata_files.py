"""What the tests of metadata share: files as values, layouts as values."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile
from hypothesis import strategies as st

from intake_tiffstack.collection.merge_metadata import describe_file, merge
from intake_tiffstack.layout.model import Dim, Layout
from intake_tiffstack.metadata.model import CHANNEL_KEYS, FACT_KEYS, FileMetadata
from intake_tiffstack.metadata.reader import RawMetadata

URL = "/data/a.ome.tif"
UM = "micrometer"
UTM = {"GTModelTypeGeoKey": 1, "ProjLinearUnitsGeoKey": 9001, "GTRasterTypeGeoKey": 1}
PLACED = UTM | {"ModelPixelScale": [10.0, 20.0, 0.0], "ModelTiepoint": [0, 0, 0, 1000.0, 500.0, 0]}
words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=9)


def describe(
    dims: str = "yx", shape: tuple[int, ...] = (4, 5), *, url: str = URL, **raw: Any
) -> FileMetadata:
    series = raw.pop("series", 0)
    base_shape = raw.pop("base_shape", None)
    taken = RawMetadata(raw, sidecars=raw.pop("beside", {}), notes=raw.pop("notes", ()))
    return describe_file(taken, tuple(dims), shape, url=url, series=series, base_shape=base_shape)


def raw_of(tif: tifffile.TiffFile) -> RawMetadata:
    """Return a file's metadata by tifffile's own parsers."""
    tags = tif.pages.first.tags
    resolution = None
    if 282 in tags and 283 in tags:
        x, y = (n / d if d else math.nan for n, d in (tags[282].value, tags[283].value))
        units = {2: "inch", 3: "centimeter"}
        resolution = (x, y, units.get(int(tags.valueof(296, 2)), "none"))
    shaped = tif.shaped_metadata
    values = {
        "ome_xml": tif.ome_metadata,
        "imagej": tif.imagej_metadata,
        "micromanager": tif.micromanager_metadata,
        "stk": tif.stk_metadata,
        "geotiff": tif.geotiff_metadata,
        "shaped": shaped[0] if shaped else None,
        "resolution": resolution,
    }
    return RawMetadata({key: value for key, value in values.items() if value is not None})


def written(kind: str, shape: tuple[int, ...], **options: Any) -> RawMetadata:
    """Return the metadata of a file as tifffile writes and parses it."""
    # tifffile 2026.5.2 took kind= for the flags that it deprecates
    is_new = "kind" in inspect.signature(tifffile.imwrite).parameters
    flags: dict[str, Any] = {"kind": kind} if is_new else {kind: True}
    if kind == "none":
        flags = {"metadata": None}
    with io.BytesIO() as file:
        pixels = np.zeros(shape, np.uint8)
        tifffile.imwrite(file, pixels, photometric="minisblack", **flags, **options)
        file.seek(0)
        with tifffile.TiffFile(file) as tif:
            return raw_of(tif)


def ome(pixels: str = "", channels: str = "", planes: str = "", *, before: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'{before}<Image ID="Image:0"><Description/><Pixels SizeX="5" {pixels}>'
        f"{channels}{planes}</Pixels></Image></OME>"
    )


Y, X = Dim("y", 4, file_dim=0), Dim("x", 5, file_dim=1)


def stacked(**axes: list[Any]) -> Layout:
    """Return the layout of planes stacked along axes with these values."""
    sizes = [len(values) for values in axes.values()]
    made = [Dim(name, len(values), axis=i) for i, (name, values) in enumerate(axes.items())]
    return Layout(
        dims=(*made, Y, X),
        cells=np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes),
        file_dims=("y", "x"),
        file_shape=(4, 5),
        dtype=np.dtype("uint16"),
        coords={name: ((name,), np.array(values)) for name, values in axes.items()},
    )


def said(n: int = 0, **values: Any) -> FileMetadata:
    """Return what file n says, each value from its OME-XML."""
    keys = [
        f"{key}.{dim}" for key in ("scale", "units", "translation") for dim in values.get(key, ())
    ]
    channels = {key: tuple(values.pop(key)) for key in CHANNEL_KEYS if key in values}
    facts = {key: values.pop(key) for key in FACT_KEYS if key in values}
    keys += [*channels, *facts, *({"times", "heights"} & values.keys())]
    return FileMetadata(
        f"/d/f{n}.tif",
        channels=channels,
        facts=facts,
        provenance=dict.fromkeys(keys, f"OME-XML of f{n}.tif"),
        **values,
    )


def known_of(layout: Layout, files: Mapping[int, FileMetadata], **options: Any) -> dict[str, Any]:
    """Return what is known of a collection."""
    return merge(layout, files, **options).metadata


def sources_of(known: dict[str, Any]) -> dict[str, str]:
    """Return where values were learnt, coordinates aside."""
    return {k: v for k, v in known["provenance"].items() if not k.startswith("coords.")}
