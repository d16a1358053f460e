"""OME-TIFF sets, written by the specification with tifffile alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray

SIZES = {"T": 3, "C": 2, "Z": 4}
AXES = "TCZ"
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def uuid_of(name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"


def document(uuid: str, order: str, pixels: str) -> str:
    return (
        f'<?xml version="1.0"?><OME {uuid}xmlns="{SCHEMA}"><Image ID="Image:0"><Pixels '
        f'ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="8" SizeY="8" SizeZ="4" '
        'SizeC="2" SizeT="3" PhysicalSizeZ="5" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        f"{pixels}</Pixels></Image></OME>"
    )


def write_set(
    folder: Path,
    along: str,
    *,
    order: str = "XYZCT",
    reverse: bool = False,
    has_uuid: bool = True,
    prefix: str = "",
    companion: str | None = None,
) -> tuple[str, NDArray[Any]]:
    """Write one file per position along some axes; return the pattern and all pixels, t c z y x.

    Within a file pages lie in the order of the rest, reversed on request.
    """
    pixels = np.arange(3 * 2 * 4 * 64, dtype="u2").reshape(3, 2, 4, 8, 8)
    rest = [axis for axis in AXES if axis not in along]
    files: dict[str, list[tuple[int, ...]]] = {}
    for place in itertools.product(*(range(SIZES[axis]) for axis in AXES)):
        at = dict(zip(AXES, place, strict=True))
        name = "exp" + "".join(f"_{axis}{at[axis]}" for axis in along) + ".ome.tif"
        files.setdefault(name, []).append(place)
    data = ""
    for name, places in files.items():
        if reverse:
            places.reverse()
        data += "".join(
            f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{page}" PlaneCount="1">'
            f'<UUID FileName="{prefix}{name}">{uuid_of(name)}</UUID></TiffData>'
            for page, (t, c, z) in enumerate(places)
        )
    channels = "".join(
        f'<Channel ID="Channel:0:{c}" Name="ch{c}" SamplesPerPixel="1"/>' for c in range(2)
    )
    if companion is not None:
        xml = document(f'UUID="{uuid_of(companion)}" ', order, channels + data)
        (folder / companion).write_text(xml)
    for name, places in files.items():
        own = f'UUID="{uuid_of(name)}" ' if has_uuid else ""
        xml = document(own, order, channels + data)
        if companion is not None:
            xml = (
                f'<?xml version="1.0"?><OME {own}xmlns="{SCHEMA}"><BinaryOnly '
                f'MetadataFile="{companion}" UUID="{uuid_of(companion)}"/></OME>'
            )
        planes = np.stack([pixels[place] for place in places])
        options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
        tifffile.imwrite(folder / name, planes, description=xml, **options)
    assert rest or along == AXES
    return "exp" + "".join(f"_{a}{{{a.lower()}:d}}" for a in along) + ".ome.tif", pixels
