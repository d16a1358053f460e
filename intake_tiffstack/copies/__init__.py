"""Copies opened again: Zarr and OME-Zarr, whoever wrote them, as lazy arrays."""
