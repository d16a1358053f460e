"""Where a chunk is delivered: NumPy in memory, CuPy on a GPU, or another array library.

A chunk is always read on the host; the device then takes it over. Nothing of a device is made
before a worker needs it, and nothing of it is in the graph: an array carries the name alone.
"""

from __future__ import annotations

from intake_tiffstack.device.loading import get_device, require_device
from intake_tiffstack.device.protocol import Device, NumpyDevice, TakesBack

__all__ = ["Device", "NumpyDevice", "TakesBack", "get_device", "require_device"]
