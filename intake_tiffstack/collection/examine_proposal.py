"""Whether the files of a proposal fit together: what opening them with its options finds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.suggestion import Suggestion
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import PatternError, StructureMismatchError
from intake_tiffstack.layout.columns import given_value
from intake_tiffstack.layout.holes import describe_gaps, describe_holes
from intake_tiffstack.options import Options
from intake_tiffstack.pattern.propose import Proposal, exclude_globs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intake_tiffstack.layout.model import Grid

__all__ = ["describe", "examine", "examine_proposal"]

_PAGE_DIMS = (("z", Role.Z), ("t", Role.TIME), ("c", Role.CHANNEL))
"""What pages without a label are, the likeliest first."""


def examine_proposal(
    given: Mapping[str, Any], folder: str | None, names: Sequence[str], proposal: Proposal
) -> Iterator[Suggestion]:
    """Yield the suggestions that a proposal leads to: one, or one per kind of file."""
    options = _options_of(given, folder, names, proposal)
    n_listed = len(names)
    examination = examine(options)
    if examination is None:
        return
    split = _split_by_structure(examination, options)
    if not split:
        yield describe(options, examination, proposal.reasons, n_listed)
        return
    for chosen, reason in split:
        part = examine(chosen)
        if part is not None:
            yield describe(chosen, part, (*proposal.reasons, reason), n_listed)


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


def examine(options: Mapping[str, Any]) -> Examination | None:
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


def describe(
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
        again = examine(options)
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
