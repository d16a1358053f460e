"""Indexes of plates that instruments write beside their TIFFs; a module per instrument.

Pure, given what lies beside: an index in, one row of fields per image out.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.listing.plates.cell_voyager import CELL_VOYAGER
from intake_tiffstack.listing.plates.harmony import HARMONY
from intake_tiffstack.listing.plates.incell import INCELL
from intake_tiffstack.listing.plates.index import Folder, PlateIndex, Row
from intake_tiffstack.listing.plates.metaxpress import METAXPRESS
from intake_tiffstack.listing.plates.scanr import SCANR

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PLATES", "choose_index", "is_plate_index", "plate_index", "read_plate"]

PLATES: tuple[PlateIndex, ...] = (HARMONY, CELL_VOYAGER, INCELL, METAXPRESS, SCANR)

_SAME_STEP = 1e-3


def plate_index(name: str) -> PlateIndex | None:
    """Return the kind of index that a file is by its name, None for another file.

    >>> plate_index("s3://b/plate/Index.idx.xml").program, plate_index("a.tif")
    ('Harmony and Columbus', None)
    """
    return next((plate for plate in PLATES if plate.fits(name)), None)


def is_plate_index(name: str, content: bytes) -> bool:
    """Return whether a file is an index by its name and by what it holds.

    >>> [is_plate_index("index.xml", text) for text in (b"<rss/>", b"<EvaluationInputData>")]
    [False, True]
    """
    plate = plate_index(name)
    return plate is not None and plate.is_marked(content)


def choose_index(names: Sequence[str]) -> str | None:
    """Return which of the files of a folder is the index, None if there is none.

    Raises
    ------
    OptionError
        If several are, and nothing tells which counts.

    >>> choose_index(["a.tif", "Index.xml", "Index.idx.xml"])
    'Index.idx.xml'
    """
    kinds = {plate.program: plate for name in names if (plate := plate_index(name)) is not None}
    found = [name for name in names if plate_index(name) is not None]
    if not found:
        return None
    plate = next(iter(kinds.values()))
    best = min(plate.names, key=lambda end: not any(name.lower().endswith(end) for name in found))
    chosen = [name for name in found if name.lower().endswith(best)]
    if len(kinds) > 1 or len(chosen) > 1:
        raise OptionError(
            f"the folder has {len(found)} indexes of plates, {' and '.join(sorted(found)[:3])}: "
            "give one of them as urlpath, or read the names of the files by layout='names'"
        )
    return chosen[0]


def read_plate(content: bytes, url: str, folder: Folder) -> list[Row]:
    """Return a row per image: ``url``, ``well``, ``field``, ``t``, ``c``, ``z`` and what is known.

    ``stage_z_um``, ``stage_y_um``, ``stage_x_um``, ``pixel_y_um``, ``pixel_x_um`` and ``z_step_um``
    are in micrometres, ``acquired`` is ISO 8601 text, wavelengths are in nm, ``exposure_s`` and
    ``interval_s`` in seconds. A column may lack values in some rows.

    Raises
    ------
    OptionError
        If it is not such an index, or names a file outside of its folder.
    """
    name = url.partition("::")[0].rpartition("/")[2]
    plate = plate_index(name)
    if plate is None:
        raise OptionError(f"{url} is not the index of a plate by its name", url=url)
    try:
        rows = plate.read(content, name, folder)
        if not rows:
            raise ValueError("it names no image")
    except (KeyError, ValueError) as exc:
        why = f"it has no {exc}" if isinstance(exc, KeyError) else str(exc)
        raise OptionError(
            f"{url} cannot be read as the index of a plate ({plate.program}): {why}; "
            "layout='names' opens its folder without it",
            url=url,
        ) from exc
    _drop_redundant(rows)
    _drop_unusable(rows, url)
    for row in rows:
        path = row["url"].replace("\\", "/")
        if path.startswith("/") or ":" in path or ".." in path.split("/"):
            raise OptionError(
                f"{url} names {row['url']!r}, which is outside of its folder", url=url
            )
        row["url"] = path
    if (step := _z_step(rows)) is not None:
        for row in rows:
            row.setdefault("z_step_um", step)
    return rows


_NUMBERS = ("stage_z_um", "stage_y_um", "stage_x_um", "exposure_s", "interval_s")
_POSITIVE = (
    *("pixel_y_um", "pixel_x_um", "emission_nm", "excitation_nm"),
    *("magnification", "numerical_aperture"),
)
_FARTHEST = 1e100


def _drop_unusable(rows: Sequence[Row], url: str) -> None:
    """Remove values that are no number or time from the rows, with a warning per column."""
    for column in (*_NUMBERS, *_POSITIVE, "acquired"):
        bad = [row for row in rows if column in row and not _is_usable(column, row[column])]
        for row in bad:
            del row[column]
        if bad:
            warn(
                f"{url} has no usable {column} for {len(bad):,} of {len(rows):,} images, such as "
                f"{bad[0]['url']}; ignored"
            )


def _is_usable(column: str, value: Any) -> bool:
    if column == "acquired":
        return value is None or _is_time(value)
    return abs(value) <= _FARTHEST and (value > 0 or column in _NUMBERS)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_PLACE = ("well", "field", "t", "c", "z")
_BESIDE = ("timeline", "action", "sequence")


def _drop_redundant(rows: Sequence[Row]) -> None:
    """Remove what tells images apart only where their place does not."""
    places = {tuple(row[key] for key in _PLACE) for row in rows}
    for key in _BESIDE:
        values = {row.get(key) for row in rows}
        if len(places) == len(rows) or len(values) == 1:
            for row in rows:
                row.pop(key, None)


def _z_step(rows: Sequence[Row]) -> float | None:
    """Return the distance between planes of the first stack, None if they are not even."""
    own = [row for row in rows if all(row[key] == rows[0][key] for key in _PLACE[:-1])]
    known = {row["z"]: float(row["stage_z_um"]) for row in own if "stage_z_um" in row}
    is_whole = len(known) == len(own) > 1 and max(known) - min(known) == len(known) - 1
    if not is_whole:
        return None
    steps = np.abs(np.diff([known[z] for z in sorted(known)]))
    mean = round(float(steps.mean()), 9)
    return mean if mean and (np.abs(steps - mean) <= _SAME_STEP * mean).all() else None
