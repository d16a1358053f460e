"""The engine ``tiffstack`` of xarray: ``xr.open_dataset(urlpath, engine="tiffstack", ...)``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from typing import Any, ClassVar, cast

import xarray as xr
from dask.base import tokenize
from xarray.backends import BackendEntrypoint

from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.labelled.datatree import label_levels
from intake_tiffstack.options import UrlPath, option_docs, option_signature
from intake_tiffstack.stack import open_stack

__all__ = ["TiffStackEngine"]

_OF_XARRAY = frozenset({"urlpath", "chunks"})
"""Options for which xarray has its own argument."""

_OPTIONS = tuple(name for name in option_signature().parameters if name not in _OF_XARRAY)


class TiffStackEngine(BackendEntrypoint):
    """Opens a collection of TIFF files as a Dataset with one variable, ``image``.

    It is ``pixels`` where a coordinate is called ``image``.

    Examples
    --------
    >>> import xarray
    >>> xarray.open_dataset("raw/", engine="tiffstack", pattern="lattice").image.dims
    ('t', 'c', 'z', 'y', 'x')
    """

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
        found = label_levels([stack.to_xarray(chunks=None)])["0"].to_dataset()
        for pixels in found.data_vars.values():
            pixels.encoding = {"preferred_chunks": dict(zip(stack.dims, stack.chunks, strict=True))}
        return _with_own_names(found).drop_vars(_names(drop_variables), errors="ignore")

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
            found = _with_own_names(node.to_dataset())
            node.dataset = found.drop_vars(_names(drop_variables), errors="ignore")
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


class _Pixels(xr.Variable):
    """A variable whose dask names depend on the files.

    xarray makes them of the glob alone, so that a collection that has changed since would share
    its chunks with what was opened before.
    """

    __slots__ = ()

    def chunk(self, *args: Any, from_array_kwargs: Any = None, **kwargs: Any) -> Any:
        """Return a plain variable in chunks, as :meth:`xarray.Variable.chunk` does."""
        options = dict(from_array_kwargs or {})
        data: Any = self._data
        while hasattr(data, "array") and not isinstance(data, LazyArray):
            data = data.array  # one of xarray's lazy adapters
        if "name" in options and isinstance(data, LazyArray):
            options["name"] = f"{options['name']}-{tokenize(data)}"
        found = super().chunk(*args, **{**kwargs, "from_array_kwargs": options})
        return xr.Variable(found.dims, found.data, found.attrs, found.encoding, fastpath=True)


def _with_own_names(found: xr.Dataset) -> xr.Dataset:
    """Return the dataset, which gets its own dask names once it is chunked."""
    for name, pixels in found.data_vars.items():
        old = pixels.variable
        new = _Pixels(old.dims, old._data, old.attrs, old.encoding, fastpath=True)
        found = found.assign({name: new})
    return found


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
