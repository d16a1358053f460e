"""Intake: the data sources, thin over the stack and the Zarr copy."""

from intake_tiffstack.driver.sources import TiffStackSource, TiffStackZarrSource

__all__ = ["TiffStackSource", "TiffStackZarrSource"]
