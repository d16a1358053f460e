"""The format ``ome-tiff``: one tiled, pyramidal OME-TIFF."""
