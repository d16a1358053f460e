"""Pixels with dims, coordinates and attributes as xarray and the CF conventions have them."""
