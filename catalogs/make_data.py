"""Writes a small collection for each catalog of this folder, and opens every entry.

Run ``make catalogs``, or ``python catalogs/make_data.py`` in a clone of the repository. The files
go into ``demo_output/``, where the catalogs look by default.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import intake

from intake_tiffstack.samples import make_lattice, make_movie, make_plate, make_satellite

if TYPE_CHECKING:
    from collections.abc import Iterator

CATALOGS = Path(__file__).parent


def main(root: Path = CATALOGS) -> int:
    """Return the exit status: 0, because an entry that does not open raises its error.

    Parameters
    ----------
    root : Path
        The folder of the catalogs; the data go into ``demo_output`` next to it.
    """
    write_data(root.parent / "demo_output")
    # Intake warns so of every parameter that is text, though none asks for a shell command.
    warnings.filterwarnings("ignore", "Shell command not executed")
    for name, source in entries(intake.open_catalog(str(root / "all.yml"))):
        sizes = ", ".join(f"{size} {dim}" for dim, size in source.to_xarray().sizes.items())
        print(f"{name:<20} {sizes}")
    return 0


def write_data(output: Path) -> None:
    """Write the collections below *output*, in place of those of an earlier run."""
    for folder in ("raw", "plate", "scenes"):
        if (output / folder).exists():
            shutil.rmtree(output / folder)
    make_lattice(output / "raw", channels=3, times=5, shape=(12, 128, 160))
    make_plate(output / "plate", strays=True)
    make_satellite(output / "scenes")
    make_movie(output / "movie.tif")
    make_movie(output / "pages.tif", metadata="none")


def entries(catalog: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the source of each entry of a catalog, nested ones included."""
    for name in catalog:
        source = catalog[name]
        if source.container == "catalog":
            yield from entries(source, f"{path}{name}.")
        else:
            yield f"{path}{name}", source


if __name__ == "__main__":
    sys.exit(main())
