"""The array that files on a grid make: stack and extend, by the names of the dims alone.

Everything here is pure: the grid and what some headers say go in, a :class:`Layout` comes out. An
axis whose name is a dim inside the files extends that dim (``concatenate``); any other makes a new
one (``stack``); any number of both in one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError, OptionError
from intake_tiffstack.layout.coords import build_coords
from intake_tiffstack.layout.mismatch import mismatch_error
from intake_tiffstack.layout.model import Dim, Layout
from intake_tiffstack.layout.padding import NEVER_PADDED, pad_files
from intake_tiffstack.structure import is_interleave

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Grid
    from intake_tiffstack.structure import Structure

__all__ = ["combine", "describe_dims"]

NEVER_EXTENDED_UNASKED = ("y", "x", "sample")
"""Dims of every picture: a field of one of these names is more often something else."""

UNITS: Mapping[Role | None, str] = {Role.Z: "planes", Role.Y: "pixels", Role.X: "pixels"}
"""What a report counts along a dim of each role."""


def combine(
    grid: Grid,
    structures: Mapping[int, Structure],
    *,
    paths: Sequence[str],
    concat_dim: str | Sequence[str] | None = None,
    dims: str | Sequence[str] | None = None,
    coords: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    missing: Literal["raise", "fill", "mask", "trim"] = "raise",
    unequal: Literal["raise", "pad"] = "raise",
) -> Layout:
    """Return the layout of the array that the files on *grid* make.

    Pure: no file is opened. A file whose header was not read is taken to be like the template, and
    along an extended dim like the file read at the same position. A file without an extended dim
    that the template has (a rest of one plane) holds one position of it.

    Parameters
    ----------
    grid : Grid
        The files in their cells, holes settled.
    structures : mapping[int, Structure]
        ``{row: structure}`` of the headers read, the template's (``grid.template_row``) among
        them; ``file_dims`` is already applied.
    paths : sequence of str
        Where each row is, for errors.
    concat_dim : str or sequence[str], optional
        The option as it was given: y, x and sample are extended only where it names them.
    dims : str or sequence[str], optional
        Order of the result, a list or the letters of one-letter dims; None: the new dims as
        *concat_dim* has them, then those inside the files.
    coords : mapping of str, optional
        ``{dim: values}`` or ``{dim: field}``: what labels a dim instead.
    sizes : mapping[str, int], optional
        Asserted length of dims inside the files; the axes were asserted by
        :func:`~.grid.place_files`.
    missing : {"raise", "fill", "mask", "trim"}
        ``"mask"`` adds the boolean coordinate ``is_missing`` along the axes.
    unequal : {"raise", "pad"}
        ``"pad"`` takes the largest extent of all files along each dim that they do not extend, and
        adds the extents as coordinates.

    Raises
    ------
    StructureMismatchError
        If the dims, dtypes or shapes of the files do not fit together.
    OptionError
        If *dims*, *coords* or *sizes* do not fit the result.
    LayoutError
        If a field is named y, x or sample and *concat_dim* does not name it.
    """
    rows = list(structures)
    template = structures[grid.template_row]
    file_dims = template.dims
    if len(set(file_dims)) != len(file_dims):
        raise LayoutError(f"dims inside {paths[grid.template_row]} repeat: {', '.join(file_dims)}")
    extended = [name for name in grid.names if name in file_dims]
    if concat_dim is None:
        _refuse_unasked(extended)
    is_padded = unequal == "pad"
    free = [d for d in file_dims if d in extended or (is_padded and d not in NEVER_PADDED)]
    shapes = _check_structures(grid, structures, paths, file_dims, extended, free)
    file_shape = template.shape
    if is_padded:
        grid, file_shape = pad_files(grid, structures, file_dims, extended)
    made = []
    for axis, (name, size) in enumerate(zip(grid.names, grid.cells.shape, strict=True)):
        if name not in extended:
            made.append(Dim(name, size, axis=axis))
    for i, (name, size) in enumerate(zip(file_dims, file_shape, strict=True)):
        if name not in extended:
            made.append(Dim(name, size, file_dim=i))
            continue
        axis = grid.names.index(name)
        extents = _extents(grid, axis, rows, shapes[:, i], size, paths)
        offsets = (0, *np.cumsum(extents).tolist())
        made.append(Dim(name, offsets[-1], axis=axis, file_dim=i, offsets=offsets))
    _check_sizes(made, sizes or {})
    ordered = _order_dims(made, dims)
    return Layout(
        dims=ordered,
        cells=grid.cells,
        file_dims=file_dims,
        file_shape=file_shape,
        dtype=template.dtype,
        coords=build_coords(grid, ordered, coords or {}, with_mask=missing == "mask"),
        is_padded=is_padded,
    )


def describe_dims(layout: Layout) -> list[str]:
    """Return what each dim of *layout* is, in its order. Pure.

    "new dim t (199)", "extends z (4 files, 16 planes)", "in file: y (512)".
    """
    lines = []
    for dim in layout.dims:
        if dim.kind == "stack":
            lines.append(f"new dim {dim.name} ({dim.size})")
        elif dim.offsets is None:
            lines.append(f"in file: {dim.name} ({dim.size})")
        else:
            unit = UNITS.get(role_of(dim.name), "positions")
            lines.append(f"extends {dim.name} ({len(dim.offsets) - 1} files, {dim.size} {unit})")
    return lines


def _refuse_unasked(extended: Collection[str]) -> None:
    """Raise where the pattern alone would extend y, x or sample."""
    unasked = [name for name in NEVER_EXTENDED_UNASKED if name in extended]
    if unasked:
        raise LayoutError(
            f"the field {unasked[0]} is named like a dim inside the files: give concat_dim with it "
            f"to put files side by side along {unasked[0]}, without it to have a coordinate, or "
            "rename it in the pattern",
            field=unasked[0],
        )


def _check_structures(
    grid: Grid,
    structures: Mapping[int, Structure],
    paths: Sequence[str],
    file_dims: Sequence[str],
    extended: Collection[str],
    free: Collection[str],
) -> NDArray[np.intp]:
    """Return the extents of each structure along *file_dims*, refusing any that does not fit.

    Files may differ in extent along the *free* dims, and lack those that they extend.
    """
    kinds: dict[tuple[Any, ...], int] = {}
    codes = np.array(
        [kinds.setdefault((s.dims, s.dtype, s.shape), len(kinds)) for s in structures.values()]
    )
    aligned = [_align(dims, shape, file_dims, extended) for dims, _, shape in kinds]
    texts_by_trait: dict[str, list[str]] = {"dims": [], "dtype": [], "shape": []}
    for (dims, dtype, shape), extents in zip(kinds, aligned, strict=True):
        fits = extents is not None
        texts_by_trait["dims"].append(
            " ".join(file_dims) if fits else f"{' '.join(dims)} ({_times(shape)})"
        )
        texts_by_trait["dtype"].append(str(dtype))
        texts_by_trait["shape"].append(
            _times(
                "*" if dim in free else n for dim, n in zip(file_dims, extents or (), strict=fits)
            )
        )
    for what, texts in texts_by_trait.items():
        distinct = list(dict.fromkeys(texts))
        if len(distinct) > 1:
            which = np.array([distinct.index(text) for text in texts])[codes]
            raise mismatch_error(grid, paths, list(structures), which, distinct, what=what)
    shapes: NDArray[np.intp] = np.array(aligned, dtype=np.intp)[codes]
    return shapes


def _align(
    dims: Sequence[str], shape: Sequence[int], file_dims: Sequence[str], extended: Collection[str]
) -> tuple[int, ...] | None:
    """Return the extents along *file_dims* of a file with *dims*, None where it lacks others.

    Files may differ in where the samples of a pixel are: that is storage.

    >>> _align(("y", "x"), (4, 5), ("z", "y", "x"), ["z"])
    (1, 4, 5)
    """
    extents = dict(zip(dims, shape, strict=True))
    expected = tuple(dim for dim in file_dims if dim in extents or dim not in extended)
    fits = tuple(dims) == expected or is_interleave(dims, expected)
    return tuple(extents.get(dim, 1) for dim in file_dims) if fits else None


def _extents(
    grid: Grid,
    axis: int,
    rows: Sequence[int],
    found: NDArray[np.intp],
    default: int,
    paths: Sequence[str],
) -> NDArray[np.intp]:
    """Return the extent at each position of an extended *axis*, *default* where none was read."""
    positions = grid.locate(rows)[axis]
    extents = np.full(grid.cells.shape[axis], default, np.intp)
    extents[positions] = found
    if not np.array_equal(extents[positions], found):
        name = grid.names[axis]
        kinds, codes = np.unique(found, return_inverse=True)
        texts = [f"{n} along {name}" for n in kinds]
        raise mismatch_error(grid, paths, rows, codes, texts, what="shape", along=name)
    return extents


def _check_sizes(made: Sequence[Dim], sizes: Mapping[str, int]) -> None:
    """Raise where ``sizes`` asserts another length of a dim inside the files, or of none."""
    known = {dim.name: dim for dim in made}
    for name, size in sizes.items():
        if name not in known:
            raise OptionError.unknown("dim in sizes", name, known)
        if known[name].kind == "file" and known[name].size != size:
            raise LayoutError(
                f"sizes: {name} should have {size} positions, but the files have {known[name].size}"
            )


def _order_dims(made: Sequence[Dim], dims: str | Sequence[str] | None) -> tuple[Dim, ...]:
    """Return the dims in the order that the option *dims* asks for."""
    if dims is None:
        return tuple(made)
    known = {dim.name: dim for dim in made}
    names = (dims,) if isinstance(dims, str) and dims in known else tuple(dims)
    for name in names:
        if name not in known:
            raise OptionError.unknown("dim in dims", name, known)
    if len(names) != len(known) or set(names) != set(known):
        raise OptionError(
            f"dims must name each dim of the result once: {', '.join(known)}, but got "
            f"{', '.join(names)}"
        )
    return tuple(known[name] for name in names)


def _times(extents: Iterable[Any]) -> str:
    return "x".join(map(str, extents))
