"""A collection of files as one document of references, in kerchunk's format."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from intake_tiffstack.arrays.mosaic_array import MosaicArray
from intake_tiffstack.arrays.plane_array import PlaneArray
from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.copies.attributes import Coords, checked_dims, encode_attributes
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import IN_DOCUMENT, CopyImage, Origin, RecordDraft, Verified
from intake_tiffstack.copies.verify import SAMPLES, Verify
from intake_tiffstack.errors import (
    LayoutError,
    OptionError,
    TargetExistsError,
    UnsupportedFileError,
    VerificationError,
)
from intake_tiffstack.header import Header, Structure
from intake_tiffstack.layout.model import Layout
from intake_tiffstack.progress import Progress, reported
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.references.chunking import (
    ADVICE,
    Chunking,
    chunk_file,
    common_chunking,
    fill_values,
    find_references,
)
from intake_tiffstack.references.open import ARRAY, SUFFIX, open_document
from intake_tiffstack.references.parquet import refuse_others, require_parquet, write_parquet
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.reference_targets import PARQUET, trust_references
from intake_tiffstack.storage.urls import is_local

__all__ = ["ADVICE", "as_files", "refer", "write_references"]


def write_references(
    source: StackArray,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    origin: Origin | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    verify: Verify = "sample",
    sha256: bool = False,
    progress: Progress = None,
) -> ExportPlan:
    """Write a JSON document that makes a Zarr array, ``pixels``, of the original files' bytes.

    No pixel is moved; the files stay where they are and must. All headers are read. The document
    holds URLs, offsets and sizes, never an option or a secret: whoever opens it gives those anew.

    Parameters
    ----------
    source : StackArray
        The collection.
    url : str or os.PathLike[str]
        Of the document, which ends in ``.json``, or of a folder of Parquet files, which ends in
        ``.parquet``; local or any fsspec URL.
    dims : sequence of str
    coords : Coords
    attrs : mapping of str
        As :func:`~intake_tiffstack.export.write_zarr` has them.
    origin : Origin, optional
        What the array is made of, for the audit record; None for a document without one.
    storage_options : mapping of str, optional
        For fsspec, of the document.
    dry_run : bool
        Whether to return the plan; no header is read, and nothing is written.
    overwrite : bool
        Whether a document that is there is replaced.
    verify : Verify
        ``"sample"`` reads a few chunks through the references and compares them before anything is
        written, ``"all"`` every one, False none.
    sha256 : bool
        Whether the audit record holds the SHA-256 of each file; reads all files.
    progress : Progress
        See :data:`~intake_tiffstack.progress.Progress`; counts files.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    UnsupportedFileError
        If the bytes of a file cannot be chunks of a Zarr; the message names the file and what is
        in the way: codec, predictor, strips, unequal segments.
    TargetExistsError
        If something is at *url* and is not to be replaced (a TargetBusyError if another process
        is writing Parquet there).
    LayoutError
        If the collection is padded, planes cycle on over its files, or it is a mosaic whose tiles
        overlap or do not stand in rows and columns.
    OptionError
        If *url* ends otherwise, or an option or attribute does not fit.
    VerificationError
        If a chunk does not read as it does through this package; nothing is written.
    """
    source = as_files(source)
    folder, name = _split_target(url, storage_options)
    sizes = dict(zip(checked_dims(dims, source.shape), source.shape, strict=True))
    target = folder.below(name)
    if name.endswith(PARQUET):
        require_parquet()
        refuse_others(target, overwrite=overwrite)
    elif not overwrite:
        with target.write_errors():
            exists = target.filesystem.exists(target.path)
        if exists:
            raise _exists(target)
    attributes = encode_attributes(sizes, source.dtype, coords, attrs, 2)
    plan = ExportPlan(
        url=target.url,
        format="references",
        objects=1,
        nbytes=0,
        read_nbytes=0,
        tasks=len(source.files),
        memory=0,
        workers=1,
        arrays=(),
    )
    if dry_run:
        return plan
    references = refer(source, progress)
    references[".zattrs"] = json.dumps(attributes)
    refs = {f"{ARRAY}/{name}": reference for name, reference in references.items()}
    document: dict[str, Any] = {
        "version": 1,
        "refs": {".zgroup": json.dumps({"zarr_format": 2}), **refs},
    }
    verified = _verify(source, document, verify) if verify else Verified(False)
    if origin is not None:
        images = [CopyImage("", {dim: dim for dim in sizes})]
        record = RecordDraft(origin, "references", sizes, source.dtype, images, sha256)
        document[IN_DOCUMENT] = json.loads(record.finish(verified))
    if name.endswith(PARQUET):
        write_parquet(target, ARRAY, references, document.get(IN_DOCUMENT), overwrite=overwrite)
    elif overwrite:
        folder.write_document(name, json.dumps(document).encode())
    else:
        try:
            folder.create_document(name, json.dumps(document).encode())
        except FileExistsError as exc:  # since the headers were read
            raise _exists(target) from exc
    trust_references(target.url)
    return plan


def _exists(target: Folder) -> TargetExistsError:
    return TargetExistsError(
        f"{target.url} exists already and is left as it is; overwrite=True replaces it, or "
        "give another URL",
        url=target.url,
    )


def _split_target(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> tuple[Folder, str]:
    """Return the folder of the document, and its name."""
    refuse_misspelled(os.fspath(url))
    text = os.path.abspath(url) if is_local(os.fspath(url)) else os.fspath(url)
    folder, _, name = text.rstrip("/").rpartition("/")
    if not name.endswith((SUFFIX, *PARQUET)) or "::" in text:
        raise OptionError(
            f"references are written to a document whose name ends in {SUFFIX}, or to a folder of "
            f"Parquet files whose name ends in {PARQUET[0]}, but got {text}"
        )
    return Folder.at(folder, storage_options), name


def as_files(source: StackArray) -> StackArray:
    """Return an array of which each chunk is bytes of one file.

    Raises
    ------
    LayoutError
        If there is none.
    """
    if isinstance(source, MosaicArray):
        return source.side_by_side()
    if type(source) not in (StackArray, PlaneArray):
        raise LayoutError(
            "a cycle of planes over files has no references, because its chunks are not bytes of "
            "one file: export it as Zarr"
        )
    if source.layout.is_padded:
        raise LayoutError(
            "files padded by unequal='pad' have no references, because chunks of one array are "
            "alike: export the collection as Zarr"
        )
    return source


def refer(source: StackArray, progress: Progress) -> dict[str, Any]:
    """Return all references by the name of the chunk, and ``.zarray``; headers are read.

    *source* is what :func:`as_files` returns.
    """
    if isinstance(source, PlaneArray):
        return _refer_planes(source, progress)
    return _refer_files(source, progress)


def _refer_planes(
    source: PlaneArray, progress: Progress, chunking: Chunking | None = None
) -> dict[str, Any]:
    """Return the references of planes that lie anywhere in the files of a set."""
    layout, planes = source.layout, source.planes
    dims, lead = _file_dims(layout), planes.rows.ndim
    page = layout.file_shape[lead:]
    filled: set[float] = {source.options.fill_value} if (planes.rows < 0).any() else set()
    found: dict[str, Any] = {}
    rows = np.unique(planes.rows[planes.rows >= 0]).tolist()
    headers = source.options.reader.map_headers(partial(_read_header, source), source.files, rows)
    with reported(progress, len(rows), title="references", unit="files") as advance:
        for row, (header, own) in zip(rows, headers, strict=True):
            count = planes.counts[row]
            names = ("page", *own.dims[len(own.dims) - own.page_ndim :])
            structure = replace(own, dims=names, shape=(count, *own.page_shape))
            edges = [tuple(range(count + 1)), *((0, n) for n in page)]
            of_file = chunk_file(header, structure, edges=edges)
            both = of_file if chunking is None else common_chunking(chunking, of_file)
            if both is None or own.page_shape != tuple(page):
                raise _unequal(header, of_file, chunking)
            if found and both != chunking:
                return _refer_planes(source, progress, both)
            chunking = both
            filled |= fill_values(header, source.options.fill_value)
            places: dict[int, list[list[int]]] = {}
            for place in np.argwhere(planes.rows == row).tolist():
                places.setdefault(int(planes.pages[tuple(place)]), []).append(place)
            url = _plain_url(header.file.url)
            for reference in find_references(header, structure, chunking):
                number, *inside = reference.place
                for place in places.get(number, ()):
                    key = _in_order(dims, [*place, *inside])
                    found[key] = [url, reference.offset, reference.count]
            advance(1)
    if chunking is None:
        raise OptionError("there is no file to refer to")
    predictor = chunking.predictor_dim
    whole = replace(
        chunking,
        chunk=(*[1] * lead, *chunking.chunk[1:]),
        predictor_dim=None if predictor is None else predictor - 1 + lead,
    )
    return {".zarray": json.dumps(_describe_array(layout, whole, dims, filled)), **found}


def _in_order(dims: Sequence[int], place: Sequence[int]) -> str:
    """Return the name of a chunk from its place along each dim of a file.

    >>> _in_order([1, 0], [7, 3])
    '3.7'
    """
    ordered = dict(zip(dims, place, strict=True))
    return ".".join(str(ordered[dim]) for dim in sorted(ordered))


def _refer_files(
    source: StackArray, progress: Progress, chunking: Chunking | None = None
) -> dict[str, Any]:
    """Return the references of files that are whole in their cells.

    *chunking* is known to fit some of the files; if it does not fit all, all are chunked anew.
    """
    layout = source.layout
    filled: set[float] = {source.options.fill_value} if (layout.cells < 0).any() else set()
    found: dict[str, Any] = {}
    dims, edges = _file_dims(layout), _edges(layout)
    is_there = layout.cells >= 0
    cells, rows = np.argwhere(is_there).tolist(), layout.cells[is_there].tolist()
    reader = source.options.reader
    headers = reader.map_headers(partial(_read_header, source), source.files, rows)
    with reported(progress, len(rows), title="references", unit="files") as advance:
        for cell, (header, structure) in zip(cells, headers, strict=True):
            _refuse_unequal(header, structure, layout, cell)
            own = chunk_file(header, structure, edges=edges)
            both = own if chunking is None else common_chunking(chunking, own)
            if both is None:
                raise _unequal(header, own, chunking)
            if found and both != chunking:
                return _refer_files(source, progress, both)
            chunking = both
            filled |= fill_values(header, source.options.fill_value)
            start, url = _first_chunk(layout, cell, chunking), _plain_url(header.file.url)
            for reference in find_references(header, structure, chunking):
                place = list(start)
                for dim, i in zip(dims, reference.place, strict=True):
                    place[dim] += i
                found[".".join(map(str, place))] = [url, reference.offset, reference.count]
            advance(1)
    if chunking is None:
        raise OptionError("there is no file to refer to")
    return {".zarray": json.dumps(_describe_array(layout, chunking, dims, filled)), **found}


def _unequal(header: Header, own: Chunking, chunking: Chunking | None) -> UnsupportedFileError:
    others = "" if chunking is None else f", those of files before it {_describe(chunking)}"
    return UnsupportedFileError(
        f"{header.file.url} cannot be referred to: its segments are {_describe(own)}{others}; "
        f"{ADVICE}",
        url=header.file.url,
    )


def _describe_array(
    layout: Layout, chunking: Chunking, dims: Sequence[int], filled: set[float]
) -> dict[str, Any]:
    """Return the metadata of the array, in Zarr's format 2."""
    chunk = [1] * len(layout.dims)
    for dim, extent in zip(dims, chunking.chunk, strict=True):
        chunk[dim] = extent
    chunked_dims = [dim for dim, extent in zip(dims, chunking.chunk, strict=True) if extent > 1]
    if chunked_dims != sorted(chunked_dims):
        raise OptionError(
            f"the dims {', '.join(layout.names)} are not in the order that the files have "
            f"({', '.join(layout.file_dims)}): references move no pixel; leave `dims` as it is by "
            f"default, or {ADVICE}"
        )
    values = {v for v in filled if v == v}  # a NaN is not
    if len(values) + (len(values) < len(filled)) > 1:
        raise OptionError(
            f"pixels that no file has are of several values ({', '.join(map(str, filled))}), and a "
            f"Zarr has one; {ADVICE}"
        )
    fill = (
        chunking.dtype.type(next(iter(filled))).item() if filled else None
    )  # else xarray masks it
    return {
        "zarr_format": 2,
        "shape": list(layout.shape),
        "chunks": chunk,
        "dtype": chunking.dtype.str,
        "fill_value": _as_json(fill),
        "order": "C",
        "dimension_separator": ".",
        **chunking.codecs(chunk, dims),
    }


def _as_json(value: Any) -> Any:
    """Return a fill value as Zarr format 2 spells numbers that JSON does not have.

    >>> _as_json(7), _as_json(float("-inf")), _as_json(complex(1, float("nan")))
    (7, '-Infinity', [1.0, 'NaN'])
    """
    if isinstance(value, complex):
        return [_as_json(value.real), _as_json(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _file_dims(layout: Layout) -> list[int]:
    """Return which dim of the result each dim of a file is."""
    inside = {d.file_dim: i for i, d in enumerate(layout.dims) if d.file_dim is not None}
    return [inside[i] for i in range(len(layout.file_dims))]


def _edges(layout: Layout) -> list[tuple[int, ...]]:
    """Return along each dim of a file where files begin, and the end."""
    return [layout.dims[dim].offsets or (0, layout.dims[dim].size) for dim in _file_dims(layout)]


def _first_chunk(layout: Layout, cell: Sequence[int], chunking: Chunking) -> list[int]:
    """Return the place of a file's first chunk along each dim of the result."""
    place = []
    for dim in layout.dims:
        at = 0 if dim.axis is None else cell[dim.axis]
        if dim.offsets is not None and dim.file_dim is not None:
            at = dim.offsets[at] // chunking.chunk[dim.file_dim]
        place.append(at)
    return place


def _read_header(source: StackArray, row: int) -> tuple[Header, Structure]:
    """Return the header of a file, and its structure as the options name its dims."""
    reader = source.options.reader
    header = reader.read_header(source.files[row])
    return header, reader.structure_of(header)


def _refuse_unequal(
    header: Header, structure: Structure, layout: Layout, cell: Sequence[int]
) -> None:
    """Raise if a file is not what the layout has at its cell."""
    expected = []
    for dim, size in zip(_file_dims(layout), layout.file_shape, strict=True):
        offsets, axis = layout.dims[dim].offsets, layout.dims[dim].axis
        is_extended = offsets is not None and axis is not None
        expected.append(_span(offsets, cell[axis]) if is_extended else size)  # type: ignore[arg-type, index]
    if (structure.shape, structure.dims, structure.dtype) != (
        tuple(expected),
        layout.file_dims,
        layout.dtype,
    ):
        wanted = f"{'x'.join(map(str, expected))} {layout.dtype} ({' '.join(layout.file_dims)})"
        raise UnsupportedFileError(
            f"{header.file.url} cannot be referred to: it is {structure.describe()}, and its place "
            f"is of {wanted}; {ADVICE}",
            url=header.file.url,
        )


def _span(offsets: Sequence[int], position: int) -> int:
    return offsets[position + 1] - offsets[position]


def _describe(chunking: Chunking) -> str:
    codec = "not compressed" if chunking.codec is None else chunking.codec.name
    return f"{'x'.join(map(str, chunking.chunk))} {chunking.dtype.str}, {codec}" + (
        ", with a predictor" if chunking.predictor_dim is not None else ""
    )


def _plain_url(url: str) -> str:
    """Return the URL of a file as others open it.

    Raises
    ------
    UnsupportedFileError
        If it is inside an archive or behind a cache, or holds a secret.
    """
    if is_local(url):
        return f"file://{url}"
    if "::" in url:
        raise UnsupportedFileError(
            f"{url} cannot be referred to: it is inside of an archive or behind a cache; {ADVICE}",
            url=url,
        )
    if hide_in_text(url) != url:
        raise UnsupportedFileError(
            f"{url} cannot be referred to: its URL may hold a secret, which would stand in the "
            "document; give it by storage_options",
            url=url,
        )
    return url


def _verify(source: StackArray, document: Mapping[str, Any], verify: Verify) -> Verified:
    """Compare some or all chunks with what this package reads.

    Raises
    ------
    VerificationError
        If they differ.
    """
    array = open_document(document, source.files.urls[0], source.options.reader.storage_options)
    counts = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    total = math.prod(counts)
    numbers = range(total)
    if verify == "sample":
        numbers = sorted({int(n) for n in np.linspace(0, total - 1, SAMPLES)})  # type: ignore[assignment]
    nbytes = 0
    for number in numbers:
        place = np.unravel_index(number, counts)
        region = tuple(
            slice(int(i) * c, min((int(i) + 1) * c, n))
            for i, c, n in zip(place, array.chunks, array.shape, strict=True)
        )
        expected = np.asarray(source[region])
        try:
            found = np.asarray(array[region]).astype(expected.dtype)
        except (ValueError, RuntimeError, zlib.error) as exc:  # as codecs and Zarr say it
            raise _differing(region) from exc
        if found.tobytes() != expected.tobytes():
            raise _differing(region)
        nbytes += expected.nbytes
    return Verified(verify, len(numbers), nbytes)


def _differing(region: Sequence[slice]) -> VerificationError:
    where = ", ".join(f"{s.start}:{s.stop}" for s in region)
    return VerificationError(
        f"the references do not give the pixels of [{where}] as they are, so nothing is written; "
        f"{ADVICE}"
    )
