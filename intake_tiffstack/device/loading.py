"""From the option ``arraytype`` to a device."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from intake_tiffstack.device.protocol import Device, NumpyDevice
from intake_tiffstack.errors import OptionError
from intake_tiffstack.settings import setting

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["get_device", "require_device"]


def get_device(name: str) -> Device:
    """Return the device that ``arraytype`` names, the same one each time.

    Raises
    ------
    OptionError
        If the name is unknown, or dotted while the setting ``allow_code`` is off.
    ImportError
        If CuPy is not installed; the message names the extra.
    """
    _check_name(name)
    return _make_device(name)


def require_device(name: str, ndim: int, dtype: DTypeLike) -> Any:
    """Return the meta of an array on the device, having seen that the device is there.

    With ``require_device`` off a NumPy meta stands in: this process then has no device of its own,
    its workers do.

    Raises
    ------
    DeviceNotAvailableError
        If this process has no such device; and what :func:`get_device` raises.
    """
    _check_name(name)
    if name != "numpy" and not setting("require_device"):
        return NumpyDevice().meta(ndim, dtype)
    return get_device(name).meta(ndim, dtype)


def _check_name(name: str) -> None:
    """Raise for a name that means nothing, or may not be asked for."""
    if name in ("numpy", "cupy"):
        return
    if ":" not in name:
        raise OptionError.unknown("arraytype", name, ["numpy", "cupy", "package.module:Class"])
    if not setting("allow_code"):
        raise OptionError(
            f"arraytype {name!r} runs code of that package: a catalog may not ask for it unless "
            "tiffstack.allow_code is true in dask's config"
        )


@functools.cache
def _make_device(name: str) -> Device:
    if name == "numpy":
        return NumpyDevice()
    if name == "cupy":
        from intake_tiffstack.device.cuda import CupyDevice

        return CupyDevice()
    return _import_device(name)


def _import_device(name: str) -> Device:
    """Return the device of a dotted name; the import runs code of that package."""
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise OptionError(f"arraytype {name!r} cannot be imported: {exc}") from exc
    found = made() if callable(made) else made
    if not isinstance(found, Device):
        raise OptionError(
            f"arraytype {name!r} must have empty_host, to_device and meta, as "
            "intake_tiffstack.device.Device says"
        )
    return found
