"""What one file says its pixels mean: steps, units, origin, channels, times and what took it.

Each source has its reader; each value carries where it stands. Bad metadata never stop the pixels:
a fault becomes a sentence that names the file, and what is not known is absent, never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.metadata.model import FileMetadata, Findings
from intake_tiffstack.metadata.readers.geotiff import read_geotiff
from intake_tiffstack.metadata.readers.imagej import read_imagej, read_shaped
from intake_tiffstack.metadata.readers.metamorph import read_metaseries, read_stk
from intake_tiffstack.metadata.readers.micromanager import read_micromanager
from intake_tiffstack.metadata.readers.ome import read_ome
from intake_tiffstack.metadata.readers.resolution import read_resolution
from intake_tiffstack.pattern.matching import role_of

if TYPE_CHECKING:
    from intake_tiffstack.header import RawMetadata

__all__ = ["FileMetadata", "describe_file"]

_LETTERS = {"time": "t", "channel": "c", "z": "z", "y": "y", "x": "x"}


def describe_file(
    raw: RawMetadata,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    url: str,
    series: int = 0,
    base_shape: tuple[int, ...] | None = None,
) -> FileMetadata:
    """Return what one file says of its pixels, each value with where it stands. Pure.

    The first source that knows a value wins: OME-XML, Micro-Manager, what lies beside the file,
    ImageJ, MetaMorph, GeoTIFF, tifffile's description, tags.

    Parameters
    ----------
    raw
        The file's metadata as they are.
    dims, shape
        Of the pixels; the pixels win over what the metadata claim.
    url
        Names the file in warnings; its last part in the provenance.
    series
        Which image of an OME-XML.
    base_shape
        Shape of pyramid level 0 where ``shape`` is that of another level: steps along y and x
        grow by the ratio.
    """
    found = Findings(url, raw.notes)
    sizes = {_LETTERS.get(role_of(d) or "", d): n for d, n in zip(dims, shape, strict=True)}
    if raw.ome_xml is not None:
        plane = {} if base_shape is not None else {d: sizes[d] for d in "yx" if d in sizes}
        read_ome(raw.ome_xml, series, plane, found)
    if raw.micromanager is not None:
        read_micromanager(raw.micromanager, sizes, found)
    for name, tags in raw.beside.items():
        read_micromanager(tags, sizes, found, f"{name} beside")
    if raw.imagej is not None:
        read_imagej(raw.imagej, raw.resolution, found)
    if raw.stk is not None:
        read_stk(raw.stk, sizes, found)
    if raw.metaseries is not None:
        read_metaseries(raw.metaseries, found)
    if raw.geotiff is not None:
        read_geotiff(raw.geotiff, found)
    if raw.shaped is not None:
        read_shaped(raw.shaped, raw.resolution, found)
    if raw.resolution is not None:
        read_resolution(raw.resolution, found)
    found.add_fact("software", raw.software, "Software tag")
    found.add_time("created", raw.datetime, "DateTime tag")
    found.check_channels(dims, shape)
    if base_shape is not None:
        found.coarsen({d: base / n for d, n, base in zip(dims, shape, base_shape, strict=True)})
    return found.freeze()
