"""Molecular Devices MetaXpress: ``.HTD``, which says what was planned, but names no file. Pure."""

from __future__ import annotations

import csv
import math
import re

from intake_tiffstack.errors import warn
from intake_tiffstack.listing.plates.index import Folder, PlateIndex, Row, number, well_name
from intake_tiffstack.pattern.matching import compile_pattern, match_paths

__all__ = ["METAXPRESS"]

_SELECTION = re.compile("WellsSelection([1-9][0-9]{0,2})")


def _read(content: bytes, name: str, folder: Folder) -> list[Row]:
    """Return the images whose names begin with that of the index; thumbnails are none.

    Beside stacks lie their projections, in no ``ZStep`` folder: these are left out then.
    """
    known = _settings(content)
    stem = name.rpartition(".")[0].lower() + "_"
    paths = [p for p in folder.tiffs() if p.rpartition("/")[2].lower().startswith(stem)]
    planes = [path for path in paths if "zstep_" in path.lower()]
    rows = _rows(planes or paths, known)
    if planes and (projections := _rows(sorted({*paths} - {*planes}), known)):
        warn(
            f"{name}: {len(projections):,} projections are left out beside {len(rows):,} planes; "
            "exclude='ZStep_*' with a pattern opens them instead"
        )
    _warn_of_unplanned(rows, known, name)
    return rows


def _rows(paths: list[str], known: dict[str, list[str]]) -> list[Row]:
    matches = match_paths(compile_pattern("imagexpress"), paths, "")
    rows: list[Row] = []
    for i, place in enumerate(matches.indices.tolist()):
        fields = {name: values[i] for name, values in matches.columns.items()}
        c = fields.get("c", 1)
        row: Row = {
            "url": paths[place],
            "well": fields["well"].upper(),
            "field": fields.get("site", 1),
            "t": fields.get("t", 1),
            "c": c,
            "z": fields.get("z", 1),
        }
        rows.append(
            row | ({"channel_name": names[0]} if (names := known.get(f"WaveName{c}")) else {})
        )
    return rows


def _settings(content: bytes) -> dict[str, list[str]]:
    """Return the values of each key; the text is of the machine's code page.

    >>> _settings(b'"XSites", 2\\r\\n"SiteSelection1", TRUE, FALSE\\r\\n"WaveName1", "a, b"')
    {'XSites': ['2'], 'SiteSelection1': ['TRUE', 'FALSE'], 'WaveName1': ['a, b']}
    """
    lines = content.decode("cp1252", errors="replace").splitlines()
    try:
        rows = list(csv.reader(lines, skipinitialspace=True))
    except csv.Error as exc:
        raise ValueError(str(exc)) from exc
    return {row[0]: [value.strip() for value in row[1:]] for row in rows if row}


def _warn_of_unplanned(rows: list[Row], known: dict[str, list[str]], name: str) -> None:
    """Warn of images in wells that the index does not select, or of channels that it lacks."""
    planned = {
        well_name(row[1], column)
        for key, values in known.items()
        if (row := _SELECTION.fullmatch(key)) is not None
        for column, is_taken in enumerate(values, 1)
        if is_taken.upper() == "TRUE"
    }
    waves = number("".join(known.get("NWavelengths", [])[:1])) or math.inf
    odd = [r for r in rows if (planned and r["well"] not in planned) or r["c"] > waves]
    if odd:
        warn(
            f"{name} plans neither the well nor the channel of {len(odd):,} images, such as "
            f"{odd[0]['url']}: well {odd[0]['well']}, channel {odd[0]['c']}"
        )


METAXPRESS = PlateIndex("MetaXpress", (".htd",), _read, "imagexpress", (b"HTSInfoFile", b"XWells"))
