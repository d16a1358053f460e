"""``tiffstack inspect``: what is found at a URL, as a screen and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes
from rich.table import Table
from rich.text import Text

from intake_tiffstack.cli.source import HOW_TO_TAKE, NonePicked, open_source
from intake_tiffstack.collection.suggest import suggest
from intake_tiffstack.collection.suggestion import Suggestion, Suggestions
from intake_tiffstack.errors import LayoutError
from intake_tiffstack.header.frames import SegmentedFrames
from intake_tiffstack.options import Options, given_options

if TYPE_CHECKING:
    from rich.console import Console

    from intake_tiffstack.collection.report import Report
    from intake_tiffstack.stack import TiffStack

_SHOWN = 3
"""Globs of `exclude` that are shown."""

__all__ = ["Description", "describe", "print_description"]


@dataclass(frozen=True, eq=False)
class Description:
    """What was found."""

    suggestions: Suggestions | None
    """The proposals, None if a pattern was given."""
    stack: TiffStack | None
    """The collection, None if no pattern can be picked."""
    report: Report | None
    problems: tuple[str, ...]
    """Why it does not open."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Compression and tasks of what opens."""

    @property
    def is_undecided(self) -> bool:
        """Whether no pattern can be picked."""
        return self.stack is None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        found = self.suggestions
        opened = self.stack if self.stack is not None and not self.problems else None
        metadata = None if opened is None else opened.metadata
        return {
            "suggestions": [] if found is None else [one.to_dict() for one in found],
            "none_picked": None if found is None else found.why_none or None,
            "options": None if self.stack is None else given_options(self.stack.options),
            "report": None if self.report is None else self.report.to_dict(),
            "metadata": None
            if metadata is None
            else {k: v for k, v in metadata.items() if k not in ("coords", "provenance")},
            "problems": list(self.problems),
            **self.facts,
        }


def describe(url: str, options: Mapping[str, Any]) -> Description:
    """Return what is found at a URL; headers are read, no pixels."""
    try:
        stack, found = open_source(url, options)
    except NonePicked:
        parsed = Options.parse(
            {"urlpath": url, **{k: v for k, v in options.items() if k != "pattern"}}
        )
        found = suggest(url, storage_options=parsed.storage_options, exclude=parsed.exclude)
        return Description(found, None, None, ())
    try:
        facts = _facts(stack)
    except (LayoutError, OSError) as exc:
        report = stack.report()
        problems = report.to_dict()["problems"] or [str(exc)]
        return Description(found, stack, report, tuple(problems))
    return Description(found, stack, stack.report(), (), facts)


def _facts(stack: TiffStack) -> dict[str, Any]:
    collection = stack.collection
    structures = collection.discovery.structures.values()
    decoded = sum(s.nbytes for s in structures)
    sizes = [collection.files.sizes[row] for row in collection.discovery.structures]
    stored = int(sum(sizes)) if all(size >= 0 for size in sizes) else None
    chunk = tuple(max(extents) for extents in stack.chunks)
    return {
        "codec": _codec(stack),
        "compressed_files": sum(s.is_compressed for s in structures),
        "headers": len(structures),
        "compression_ratio": None if not stored else round(decoded / stored, 2),
        "chunk_shape": list(chunk),
        "chunk_bytes": math.prod(chunk) * stack.dtype.itemsize,
        "tasks": math.prod(len(extents) for extents in stack.chunks),
    }


def _codec(stack: TiffStack) -> str | None:
    """Return how the first file is compressed, None if it is not."""
    collection = stack.collection
    row = collection.template
    if not collection.discovery.structures[row].is_compressed:
        return None
    frames: Any = collection.reader.read_header(collection.files[row]).frames
    if not isinstance(frames, SegmentedFrames):  # pages of several kinds
        return "pages stored in several ways"
    predictor = {2: ", horizontal predictor", 3: ", floating-point predictor"}
    rows, columns = frames.segment[1:]
    kind = f"tiles of {rows} x {columns}" if frames.coding.is_tiled else f"strips of {rows} rows"
    return f"{frames.coding.codec.name}{predictor.get(frames.coding.predictor, '')}, {kind}"


def print_description(description: Description, console: Console) -> None:
    """Print the proposals, the report, and how to go on."""
    found = description.suggestions
    if found is not None:
        _print_suggestions(found, console)
    if description.report is None:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for what, text in [*description.report.lines(), *_task_lines(description)]:
        style = "red" if what == "PROBLEM" else "yellow" if what in ("missing", "gap") else ""
        table.add_row(what if what != last else "", Text(text, style=style))
        last = what
    console.print(table)
    if found is not None and found.best is not None:
        console.print("\n[bold]in Python[/]")
        console.print(Text(found.best.to_python()), soft_wrap=True)


def _task_lines(description: Description) -> list[tuple[str, str]]:
    facts, stack = description.facts, description.stack
    if not facts or stack is None:
        return []
    n = facts["compressed_files"]
    ratio = facts["compression_ratio"]
    shown = "" if ratio is None else f"; pixels are {ratio:g} times the size of the files"
    chunk = " x ".join(f"{m} {d}" for d, m in zip(stack.dims, facts["chunk_shape"], strict=True))
    scale = ", ".join(
        f"{dim} {step:.6g} {stack.metadata['units'].get(dim, '')}".rstrip()
        for dim, step in stack.scale.items()
    )
    return [
        ("calibration", scale or "unknown: no metadata gives a scale"),
        (
            "compression",
            f"{facts['codec'] or 'none'} in the first file; {n:,} of {facts['headers']:,} files "
            f"read are compressed{shown}",
        ),
        (
            "a task reads",
            f"{chunk}, {format_bytes(facts['chunk_bytes'])}; {facts['tasks']:,} in all",
        ),
    ]


def _print_suggestions(found: Suggestions, console: Console) -> None:
    if found:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("", "files", "grid", "array", "pattern"):
            table.add_column(name, overflow="fold")
        for number, one in enumerate(found, 1):
            table.add_row(
                str(number),
                f"{one.n_files:,} of {one.n_listed:,}",
                f"{one.fullness:.0%}",
                _sizes(one),
                Text(_spelled(one)),
            )
        console.print(table)
        for number, one in enumerate(found, 1):
            for reason in one.reasons:
                console.print(Text(f"{number}: {reason}", style="dim"))
    if found.why_none:
        how = f"; {HOW_TO_TAKE}" if found else ""
        console.print(Text(f"none is picked: {found.why_none}{how}", style="yellow"))
    console.print()


def _sizes(one: Suggestion) -> str:
    return " x ".join(f"{n} {dim}" for dim, n in one.sizes.items())


def _spelled(one: Suggestion) -> str:
    options = dict(one.options)
    if len(left_out := options.get("exclude", [])) > _SHOWN:
        options["exclude"] = f"{left_out[0]!r} and {len(left_out) - 1} more"
    extra = [f"{k}: {v}" for k, v in options.items() if k in ("sel", "exclude", "file_dims")]
    return "\n".join([str(one.options["pattern"]), *extra])
