"""The engine ``tiffstack`` of xarray: ``xr.open_dataset(urlpath, engine="tiffstack", ...)``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from xarray.backends import BackendEntrypoint

from intake_tiffstack.labelled.datatree import IMAGE
from intake_tiffstack.options import UrlPath, option_docs, option_signature
from intake_tiffstack.stack import open_stack

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TiffStackEngine"]

_OF_XARRAY = frozenset({"urlpath", "chunks"})
"""Options that xarray has an argument of its own for."""

_OPTIONS = tuple(name for name in option_signature().parameters if name not in _OF_XARRAY)


class TiffStackEngine(BackendEntrypoint):
    """Opens a collection of TIFF files as a Dataset with one variable, ``image``."""

    description: ClassVar[str] = "A collection of TIFF files, local or remote, as one array"
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj",
        "drop_variables",
        *_OPTIONS,
    )
    supports_groups: ClassVar[bool] = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        **options: Any,
    ) -> xr.Dataset:
        """Return the collection as a Dataset; no pixel is read.

        Without ``chunks``, indexes are combined and read at once when values are first accessed.
        ``chunks={}`` gives dask arrays in chunks as the option ``chunks`` would choose.
        """
        stack = open_stack(_urlpath(filename_or_obj), **options)
        found = stack.to_xarray(chunks=None).to_dataset(name=IMAGE)
        found[IMAGE].encoding = {
            "preferred_chunks": dict(zip(stack.dims, stack.chunks, strict=True))
        }
        return found.drop_vars(_names(drop_variables), errors="ignore")

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        **options: Any,
    ) -> xr.DataTree:
        """Return the levels of the pyramid in the files as nodes ``0``, ``1`` ..."""
        stack = open_stack(_urlpath(filename_or_obj), **options)
        tree = stack.to_datatree(chunks=None)
        for node in tree.children.values():
            node.dataset = node.to_dataset().drop_vars(_names(drop_variables), errors="ignore")
        return tree

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        **options: Any,
    ) -> dict[str, xr.Dataset]:
        """Return the levels of the pyramid in the files by the path of their node."""
        tree = self.open_datatree(filename_or_obj, drop_variables=drop_variables, **options)
        return {node.path: node.to_dataset() for node in tree.subtree}

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return False: other engines open single TIFF files, and this one by its name alone."""
        return False


def _urlpath(filename_or_obj: Any) -> UrlPath:
    if isinstance(filename_or_obj, (str, os.PathLike, list, tuple)):
        return cast(UrlPath, filename_or_obj)
    raise TypeError(
        "the engine tiffstack opens a path, a URL or a list of them, but got "
        f"{type(filename_or_obj).__name__}"
    )


def _names(drop_variables: str | Iterable[str] | None) -> list[str]:
    if drop_variables is None:
        return []
    return [drop_variables] if isinstance(drop_variables, str) else list(drop_variables)


def _show_options(function: Any) -> None:
    """Give a method a signature and documentation with each option."""
    shown = inspect.signature(function)
    own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [p for name, p in option_signature().parameters.items() if name in _OPTIONS]
    function.__signature__ = shown.replace(parameters=[*own, *options])
    function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{option_docs()}"


_show_options(TiffStackEngine.open_dataset)
_show_options(TiffStackEngine.open_datatree)
