"""An Intake driver that opens a collection of TIFF files as one lazy, labelled array.

``intake.open_catalog("lab.yml").dataset.to_dask()`` through a catalog, or
:func:`open_stack` without one.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intake_tiffstack import export as export
    from intake_tiffstack.audit import CopyCheck, verify
    from intake_tiffstack.collection.suggest import suggest
    from intake_tiffstack.collection.suggestion import Suggestion, Suggestions
    from intake_tiffstack.driver import TiffStackSource, TiffStackZarrSource
    from intake_tiffstack.driver.add_to_catalog import add_to_catalog
    from intake_tiffstack.driver.untrusted import open_untrusted_catalog
    from intake_tiffstack.errors import TiffStackError, TiffStackWarning
    from intake_tiffstack.stack import TiffStack, open_stack

__version__ = _version("intake-tiffstack")

__all__ = [
    "CopyCheck",
    "Suggestion",
    "Suggestions",
    "TiffStack",
    "TiffStackError",
    "TiffStackSource",
    "TiffStackWarning",
    "TiffStackZarrSource",
    "add_to_catalog",
    "export",
    "open_stack",
    "open_untrusted_catalog",
    "suggest",
    "verify",
]

_HOMES = {
    "CopyCheck": "audit",
    "Suggestion": "collection.suggestion",
    "Suggestions": "collection.suggestion",
    "TiffStack": "stack",
    "TiffStackError": "errors",
    "TiffStackSource": "driver",
    "TiffStackWarning": "errors",
    "TiffStackZarrSource": "driver",
    "add_to_catalog": "driver.add_to_catalog",
    "open_stack": "stack",
    "open_untrusted_catalog": "driver.untrusted",
    "suggest": "collection.suggest",
    "verify": "audit",
}


def __getattr__(name: str) -> Any:
    if name == "export":  # a package that is a function too
        return import_module(f"{__name__}.export")
    # Lazy: a dask scheduler imports this package to unpickle an array, and has no tifffile.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
