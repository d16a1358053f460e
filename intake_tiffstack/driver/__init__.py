"""Intake: the data sources, thin over the stack and the Zarr copy."""

from intake_tiffstack.driver.tiff_source import TiffStackSource
from intake_tiffstack.driver.zarr_source import TiffStackZarrSource

__all__ = ["TiffStackSource", "TiffStackZarrSource"]
