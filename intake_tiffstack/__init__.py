"""An Intake driver that opens a collection of TIFF files as one lazy, labelled array."""
