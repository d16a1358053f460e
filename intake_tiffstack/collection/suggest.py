"""Options proposed for a folder: pattern, axes, dims inside the files, and what to leave out.

Names are listed once and read by :mod:`intake_tiffstack.pattern.propose`; then the headers that
opening would read show whether the files of each proposal fit together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from intake_tiffstack.collection.examine_proposal import describe, examine, examine_proposal
from intake_tiffstack.collection.find_files import take_listing
from intake_tiffstack.collection.suggestion import Suggestion, Suggestions
from intake_tiffstack.errors import FilesNotFoundError, OptionError, PatternError
from intake_tiffstack.listing.url_list import LIST_SUFFIXES, has_tiff_suffix
from intake_tiffstack.options import Options, UrlPath
from intake_tiffstack.pattern.matching import parts_below
from intake_tiffstack.pattern.propose import propose_patterns
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = ["INFER", "explain_none", "infer_options", "suggest"]

INFER = "infer"
"""The pattern that stands for the best suggestion."""

INFERRED = ("urlpath", "pattern", "concat_dim", "sel", "exclude", "file_dims", "unmatched")
"""Options that a suggestion gives."""

_SHOWN = 5
"""Proposals that are examined: each reads headers."""


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
        examination = examine(options)
    except (FilesNotFoundError, OptionError):
        return None
    if examination is None:
        return None
    reason = f"{examination.found.table_name} says which file is what"
    return describe(options, examination, [reason], examination.found.listed)


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
        examined = list(examine_proposal(given, folder, names, proposal))
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
