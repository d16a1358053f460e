"""Options proposed for a folder: pattern, axes, dims inside the files, and what to leave out.

Names are listed once and read by :mod:`intake_tiffstack.pattern.propose`; then the headers that
opening would read show whether the files of each proposal fit together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.find_files import take_listing
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    PatternError,
    StructureMismatchError,
)
from intake_tiffstack.layout.columns import given_value
from intake_tiffstack.layout.holes import describe_gaps, describe_holes
from intake_tiffstack.listing.url_list import LIST_SUFFIXES, has_tiff_suffix
from intake_tiffstack.options import Options, UrlPath
from intake_tiffstack.pattern.matching import parts_below
from intake_tiffstack.pattern.propose import Proposal, exclude_globs, propose_patterns
from intake_tiffstack.redact import hide_secrets, mask_secrets
from intake_tiffstack.storage.urls import absolute_url, is_local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intake_tiffstack.layout.model import Grid

__all__ = ["INFER", "Suggestion", "Suggestions", "explain_none", "infer_options", "suggest"]

INFER = "infer"
"""The pattern that stands for the best suggestion."""

INFERRED = ("urlpath", "pattern", "concat_dim", "sel", "exclude", "file_dims", "unmatched")
"""Options that a suggestion gives."""

_PAGE_DIMS = (("z", Role.Z), ("t", Role.TIME), ("c", Role.CHANNEL))
"""What pages without a label are, the likeliest first."""

_SHOWN = 5
"""Proposals that are examined: each reads headers."""


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Options that open the files of a folder, with the grid they give and the reason for them.

    Examples
    --------
    >>> print(suggest("raw/").best.to_python())
    open_stack('raw/', pattern='lattice', concat_dim=['t', 'c'])
    """

    options: Mapping[str, Any] = field(repr=False)
    """Options of :func:`intake_tiffstack.open_stack`, ``urlpath`` included."""
    sizes: Mapping[str, int]
    """Extent of each dim of the array; of the axes alone where the files do not fit together."""
    dtype: str | None
    """Data type of a pixel, None where the files do not fit together."""
    n_files: int
    """Files that take part."""
    n_listed: int
    """TIFFs that were listed."""
    n_cells: int
    """Cells of the grid of files."""
    holes: tuple[str, ...]
    """Cells without a file, and gaps in a numbering, a line each."""
    reasons: tuple[str, ...]
    """Why these options, a sentence each."""
    problem: str | None
    """Why the options do not open, None where they do."""

    @property
    def fullness(self) -> float:
        """Part of the cells that has a file, 0 to 1."""
        return self.n_files / self.n_cells

    @property
    def is_whole(self) -> bool:
        """Whether the options open as they are: no hole, and files that fit together."""
        return self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold; secrets are ``***``."""
        return {
            "options": hide_secrets(self.options),
            "sizes": dict(self.sizes),
            "dtype": self.dtype,
            "files": self.n_files,
            "listed": self.n_listed,
            "cells": self.n_cells,
            "fullness": self.fullness,
            "holes": list(self.holes),
            "reasons": list(self.reasons),
            "problem": self.problem,
        }

    def to_yaml(self, name: str = "images") -> str:
        """Return the text of a catalog with one entry, *name*, that has these options.

        A secret is replaced by the name of an environment variable.
        """
        arguments = mask_secrets(self.options, is_literal=True)
        entry = {"driver": "tiffstack", "args": arguments}
        return yaml.safe_dump({"sources": {name: entry}}, sort_keys=False, allow_unicode=True)

    def to_python(self) -> str:
        """Return the call of :func:`intake_tiffstack.open_stack` with these options.

        Secrets are ``***``.
        """
        urlpath, *others = hide_secrets(self.options).items()
        given = "".join(f", {name}={value!r}" for name, value in others)
        return f"open_stack({urlpath[1]!r}{given})"

    def __str__(self) -> str:
        sizes = " x ".join(f"{n} {dim}" for dim, n in self.sizes.items())
        lines = [f"{sizes or 'one image'}{f', {self.dtype}' if self.dtype else ''}"]
        lines[0] += (
            f": {self.n_files:,} of {self.n_listed:,} TIFFs, {self.fullness:.0%} of the cells"
        )
        lines += [f"  {name}: {value}" for name, value in hide_secrets(self.options).items()]
        lines += [f"  because {reason}" for reason in self.reasons]
        lines += [f"  hole: {line}" for line in self.holes]
        if self.problem:
            lines += [f"  NOT AS IT IS: {line}" for line in self.problem.splitlines()[:4]]
        return "\n".join(lines)


class Suggestions(list[Suggestion]):
    """Suggestions, best first; :attr:`best` is None where none is better than all others.

    Examples
    --------
    >>> found = suggest("raw/")
    >>> len(found), found.best is found[0], found.why_none
    (1, True, '')
    """

    def __init__(self, items: Sequence[Suggestion] = (), *, why_none: str = "") -> None:
        super().__init__(items)
        self.why_none = why_none

    @property
    def best(self) -> Suggestion | None:
        """The first, None where the first two are equally good or there is no reason to pick it."""
        return None if self.why_none or not self else self[0]

    def __str__(self) -> str:
        texts = [f"{i}. {one}" for i, one in enumerate(self, 1)]
        return "\n".join([*texts, *([f"None is picked: {self.why_none}"] if self.why_none else [])])

    __repr__ = __str__


def suggest(
    urlpath: UrlPath,
    *,
    storage_options: Mapping[str, Any] | None = None,
    exclude: str | Sequence[str] = (),
) -> Suggestions:
    """Return whole sets of options for the files at *urlpath*, best first.

    The files are listed, those below a folder included. Names alone give the patterns; the
    headers that opening reads show whether files differ in shape and name dims inside them.

    Parameters
    ----------
    urlpath : str, os.PathLike or sequence of these
        A folder, glob or list, local or any fsspec URL.
    storage_options : mapping, optional
        Passed to fsspec.
    exclude : str or sequence of str
        Globs of paths that are left out.

    Returns
    -------
    Suggestions
        A list of :class:`Suggestion`; print it. The index of a plate comes first; of those that
        read names the best is the one that ``pattern="infer"`` takes. ``best`` is None where
        ``why_none`` says why none is picked.

    Raises
    ------
    FilesNotFoundError
        If no file is found.
    StorageError
        If a folder cannot be listed.

    Examples
    --------
    >>> from intake_tiffstack import open_stack
    >>> found = suggest("raw/")
    >>> found.best.options["pattern"], found.best.is_whole
    ('lattice', True)
    >>> open_stack(**found.best.options).to_dask().shape
    (3, 2, 8, 64, 48)
    """
    by_names = suggest_by_names(urlpath, storage_options=storage_options, exclude=exclude)
    given = _given(urlpath, storage_options, exclude)
    by_index = _by_index(given) if isinstance(given["urlpath"], str | os.PathLike) else None
    if by_index is None:
        return by_names
    return Suggestions([by_index, *by_names])


def _given(urlpath: UrlPath, storage_options: Any, exclude: str | Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {"urlpath": urlpath}
    given |= {"storage_options": dict(storage_options)} if storage_options else {}
    given |= (
        {"exclude": [exclude] if isinstance(exclude, str) else list(exclude)} if exclude else {}
    )
    return given


def _by_index(given: Mapping[str, Any]) -> Suggestion | None:
    """Return the suggestion to read the index of a plate, None where there is none to open by."""
    options = {**given, "layout": "sidecar"}
    try:
        examination = _try(options)
    except (FilesNotFoundError, OptionError):
        return None
    if examination is None:
        return None
    reason = f"{examination.found.table_name} says which file is what"
    return _describe(options, examination, [reason], examination.found.listed)


def suggest_by_names(
    urlpath: UrlPath,
    *,
    storage_options: Mapping[str, Any] | None = None,
    exclude: str | Sequence[str] = (),
) -> Suggestions:
    """Return the suggestions of :func:`suggest` that read names."""
    given = _given(urlpath, storage_options, exclude)
    options = Options.parse(given)
    folder = _as_folder(options.urlpath)
    wide = options if folder is None else replace(options, urlpath=f"{folder}**/")
    listing = take_listing(wide)
    paths = [path for path in listing.files.paths if has_tiff_suffix(path)]
    if folder is not None and not paths:
        paths = list(listing.files.paths)
    names = parts_below(paths, listing.root)
    proposals = propose_patterns(names)
    found: list[Suggestion] = []
    ranks: list[Any] = []
    for proposal in proposals[:_SHOWN]:
        examined = list(_examine(given, folder, names, proposal))
        found += examined
        ranks += [(proposal.rank, proposal.weight)] * len(examined)
    return Suggestions(found, why_none=explain_none(found, ranks, names))


def explain_none(found: Sequence[Suggestion], ranks: Sequence[Any], names: Sequence[str]) -> str:
    """Return why none of the suggestions is picked, empty where the first is. Pure."""
    if not found:
        shown = ", ".join(map(repr, names[:2]))
        what = "there is one TIFF" if len(names) == 1 else f"{len(names):,} TIFFs"
        return f"{what} whose names number nothing, such as {shown}: no pattern is needed or known"
    first = found[0]
    rivals = [s for s, rank in zip(found, ranks, strict=True) if rank == ranks[0]]
    if len(rivals) > 1 and rivals[1].n_files == first.n_files:
        return "the first two are equally good: take one by its number"
    if len(rivals) > 1 and 2 * first.n_files < sum(s.n_files for s in rivals):
        return (
            "files differ in shape, and no kind has more than half of them: take one by its number"
        )
    return ""


def _as_folder(urlpath: Any) -> str | None:
    """Return the folder, ending in ``/``, that a urlpath stands for, None for anything else."""
    if not isinstance(urlpath, str) or "::" in urlpath:
        return None
    if is_local(urlpath):
        path = absolute_url(urlpath)
        return f"{path.rstrip('/')}/" if os.path.isdir(path) else None
    last = urlpath.rstrip("/").rpartition("/")[2]
    is_other = any(c in urlpath for c in "*?[{") or last.lower().endswith(LIST_SUFFIXES)
    return None if is_other or has_tiff_suffix(last) else f"{urlpath.rstrip('/')}/"


def _examine(
    given: Mapping[str, Any], folder: str | None, names: Sequence[str], proposal: Proposal
) -> Iterator[Suggestion]:
    """Yield the suggestions that a proposal leads to: one, or one per kind of file."""
    options = _options_of(given, folder, names, proposal)
    n_listed = len(names)
    examination = _try(options)
    if examination is None:
        return
    split = _split_by_structure(examination, options)
    if not split:
        yield _describe(options, examination, proposal.reasons, n_listed)
        return
    for chosen, reason in split:
        part = _try(chosen)
        if part is not None:
            yield _describe(chosen, part, (*proposal.reasons, reason), n_listed)


def _options_of(
    given: Mapping[str, Any], folder: str | None, names: Sequence[str], proposal: Proposal
) -> dict[str, Any]:
    """Return the options of a proposal: where its files lie, and what else lies there. Pure."""
    options = {**given, "pattern": proposal.pattern, "concat_dim": list(proposal.concat_dim)}
    members = [names[row] for row in np.append(proposal.rows, proposal.unselected).tolist()]
    is_inside = np.ones(len(names), bool)
    only: str | None = None
    if folder is not None:
        folders = {name.rpartition("/")[0] for name in members}
        only = folders.pop() if len(folders) == 1 else None
        urlpath = given["urlpath"]
        text = os.fspath(urlpath).rstrip("/") or "/"
        if only is None:
            options["urlpath"] = f"{text}/**/"
        else:
            options["urlpath"] = f"{text}/{only}" if only else os.fspath(urlpath)
            is_inside = np.array([name.rpartition("/")[0] == only for name in names])
    if proposal.sel:
        options["sel"] = dict(proposal.sel)
    is_inside[proposal.rows] = is_inside[proposal.unselected] = False
    strays = [names[row] for row in np.flatnonzero(is_inside).tolist()]
    if strays:
        start = f"{only}/" if only else ""  # what the urlpath contains already
        globs = exclude_globs(
            [name.removeprefix(start) for name in strays],
            [name.removeprefix(start) for name in members],
        )
        if globs is None:
            options["unmatched"] = "ignore"
        else:
            options["exclude"] = [*given.get("exclude", []), *globs]
    return options


def _try(options: Mapping[str, Any]) -> Examination | None:
    """Return what opening finds with these options, None where they cannot be meant."""
    parsed = replace(Options.parse(options), unmatched="ignore")
    try:
        return Examination(parsed).complete()
    except PatternError:  # reads a stray two ways
        return None


def _split_by_structure(
    examination: Examination, options: Mapping[str, Any]
) -> list[tuple[dict[str, Any], str]]:
    """Return options for each kind of file, where one field decides the kind; largest first."""
    grid, headers = examination.grid, examination.headers
    problem = next((p for p in examination.problems if isinstance(p, StructureMismatchError)), None)
    if problem is None or grid is None or headers is None or not grid.axes:
        return []
    rows = list(headers.structures)
    kinds = [headers.structures[row] for row in rows]
    keys = [(s.shape, s.dtype.str, s.dims) for s in kinds]
    index = grid.locate(rows)
    for axis, codes in sorted(zip(grid.axes, index, strict=True), key=lambda x: len(x[0].values)):
        kind_at: dict[int, set[Any]] = {}
        for code, key in zip(codes.tolist(), keys, strict=True):
            kind_at.setdefault(code, set()).add(key)
        if any(len(found) > 1 for found in kind_at.values()):
            continue
        groups: dict[Any, list[int]] = {}
        for code in sorted(kind_at):
            groups.setdefault(next(iter(kind_at[code])), []).append(code)
        chosen = []
        for key, members in sorted(groups.items(), key=lambda item: -len(item[1])):
            values = [given_value(axis.values[i]) for i in members]
            sel = {**options.get("sel", {}), axis.name: values}
            reason = f"{axis.name} decides the shape: these files are {'x'.join(map(str, key[0]))}"
            chosen.append(({**options, "sel": sel}, reason))
        return chosen
    return []


def _describe(
    options: Mapping[str, Any],
    examination: Examination,
    reasons: Sequence[str],
    n_listed: int,
) -> Suggestion:
    """Return the suggestion, with the dims of unlabelled pages named where names leave one free."""
    grid, layout = examination.grid, examination.layout
    named, reason = _name_pages(examination)
    if named:
        options = {**options, "file_dims": named}
        reasons = (*reasons, reason)
        again = _try(options)
        if again is not None:
            grid, layout = again.grid, again.layout
    problems = examination.problems
    sizes = (
        _axis_sizes(grid) if layout is None else dict(zip(layout.names, layout.shape, strict=True))
    )
    return Suggestion(
        options=dict(options),
        sizes=sizes,
        dtype=None if layout is None else str(layout.dtype),
        n_files=len(examination.found.files),
        n_listed=n_listed,
        n_cells=len(examination.found.files) if grid is None else int(grid.cells.size),
        holes=() if grid is None else (*describe_holes(grid), *describe_gaps(grid)),
        reasons=tuple(reasons),
        problem=str(problems[0]) if problems else None,
    )


def _axis_sizes(grid: Grid | None) -> dict[str, int]:
    return {} if grid is None else {axis.name: len(axis.values) for axis in grid.axes}


def _name_pages(examination: Examination) -> tuple[list[str], str]:
    """Return dims for files with one unlabelled dim of pages, and why; nothing for others."""
    layout = examination.layout
    if layout is None or layout.file_dims.count("page") != 1 or "page" in layout.file_dims[1:]:
        return [], ""
    roles = {role_of(name) for name in layout.names}
    free = [name for name, role in _PAGE_DIMS if role not in roles]
    if not free:
        return [], ""
    return (
        [free[0], *layout.file_dims[1:]],
        f"the {layout.file_shape[0]} pages of a file have no label and no name gives {free[0]}",
    )


def infer_options(options: Options) -> tuple[Options, Suggestion]:
    """Return *options* with what ``pattern="infer"`` stands for; options given already win.

    Raises
    ------
    PatternError
        If names give no pattern, or two that are equally good; the message shows them.
    """
    found = suggest_by_names(
        options.urlpath, storage_options=options.storage_options, exclude=options.exclude
    )
    best = found.best
    if best is None:
        raise PatternError(f"pattern='infer' picks none of these:\n{found}", pattern=INFER)
    defaults = Options.parse({"urlpath": "-"})
    parsed = Options.parse(best.options)
    taken = {
        name: getattr(parsed, name)
        for name in INFERRED
        if name in ("urlpath", "pattern", "exclude")
        or getattr(options, name) == getattr(defaults, name)
    }
    return replace(options, **taken), best
