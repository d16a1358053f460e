"""Readers of metadata, one module per source; ``docs/design/extending.md`` shows how to add one."""

from intake_tiffstack.metadata.reader import Reader
from intake_tiffstack.metadata.readers import (
    baseline,
    beside,
    gdal,
    geotiff,
    imagej,
    metamorph,
    micromanager,
    ome,
    pages,
    table,
    vendors,
)

__all__ = ["READERS"]

READERS: tuple[Reader, ...] = (
    table.TABLE,
    ome.OME,
    micromanager.MICROMANAGER,
    imagej.IMAGEJ,
    metamorph.STK,
    metamorph.METASERIES,
    vendors.FLUOVIEW,
    vendors.LSM,
    vendors.FEI,
    vendors.ZEISS_SEM,
    vendors.GATAN,
    vendors.SIS,
    vendors.SVS,
    vendors.NDPI,
    vendors.SCANIMAGE,
    beside.PAM,
    geotiff.GEOTIFF,
    beside.WORLD_FILE,
    gdal.GDAL,
    pages.QPTIFF,
    imagej.SHAPED,
    pages.PAGE_NAMES,
    baseline.RESOLUTION,
    baseline.SOFTWARE,
    baseline.DATETIME,
    baseline.ORIENTATION,
    baseline.DESCRIPTION,
)
"""In order of precedence: the first that knows a value wins."""
