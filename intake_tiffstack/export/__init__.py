"""Copies of a collection in other formats: Zarr and OME-Zarr. ``formats`` is the registry."""
