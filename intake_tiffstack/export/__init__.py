"""Copies of a collection in other formats; ``formats`` is the registry.

The module is callable: ``intake_tiffstack.export(array, url, like=source)`` is
:func:`~intake_tiffstack.export.processed.export_array`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intake_tiffstack.copies.open_zarr import ZarrCopy, open_zarr
    from intake_tiffstack.export.processed import export_array

__all__ = ["ZarrCopy", "export_array", "open_zarr"]


class _CallableModule(ModuleType):
    """The package, which is a function too: of its name there is one thing in the parent."""

    def __call__(self, array: Any, url: Any, **options: Any) -> Any:
        from intake_tiffstack.export.processed import export_array

        return export_array(array, url, **options)


sys.modules[__name__].__class__ = _CallableModule


def __getattr__(name: str) -> Any:
    # Lazy: opening files needs the types in ``export.options``, and no zarr.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "export_array":
        from intake_tiffstack.export.processed import export_array

        return export_array
    from intake_tiffstack.copies import open_zarr as home

    return getattr(home, name)
