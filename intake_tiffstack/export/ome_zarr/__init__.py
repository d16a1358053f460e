"""OME-Zarr: pyramids, plates and series that other programs open."""
