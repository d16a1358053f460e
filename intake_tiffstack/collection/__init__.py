"""A collection: found, placed on a grid, opened, and what its pixels mean."""
