"""The metadata of one file: pixel sizes, units, origin, channels, times and instrument.

Each value has its source. Faulty metadata never prevent reading pixels: a fault becomes a warning
that names the file, and an unknown value is absent, never guessed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.metadata.model import FileMetadata, Findings
from intake_tiffstack.metadata.reader import Subject
from intake_tiffstack.metadata.readers import READERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

    from intake_tiffstack.metadata.reader import RawMetadata

__all__ = ["FileMetadata", "describe_file"]

_LETTERS: Mapping[Role | None, str] = {
    Role.TIME: "t",
    Role.CHANNEL: "c",
    Role.Z: "z",
    Role.Y: "y",
    Role.X: "x",
}


_FAULTS = (ValueError, TypeError, LookupError, ArithmeticError)
"""What values of another kind than a format has them raise; a mistake of ours is none of these."""


@contextmanager
def _faults_reported(name: str, found: Findings) -> Iterator[None]:
    """Make a warning of values that a reader does not expect: pixels open all the same."""
    try:
        yield
    except _FAULTS as exc:
        found.warn(
            f"{name} metadata are read in part only, since a value has no meaning: {exc!r:.200}"
        )


def describe_file(
    raw: RawMetadata,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    url: str,
    dtype: np.dtype[Any] | None = None,
    series: int = 0,
    base_shape: tuple[int, ...] | None = None,
) -> FileMetadata:
    """Return the metadata of one file's pixels, each value with its source. Pure.

    The first of :data:`~intake_tiffstack.metadata.readers.READERS` that knows a value wins.

    Parameters
    ----------
    raw : RawMetadata
        The file's metadata, not interpreted.
    dims, shape : tuple
        Of the pixels; the pixels win over what the metadata claim.
    url : str
        Names the file in warnings; its last part in the provenance.
    dtype : numpy.dtype, optional
        Of the pixels.
    series : int
        Which image of an OME-XML.
    base_shape : tuple of int, optional
        Shape of pyramid level 0 where ``shape`` is that of another level: steps along y and x
        grow by the ratio.
    """
    found = Findings(url, raw.notes)
    sizes = {_LETTERS.get(role_of(d), d): n for d, n in zip(dims, shape, strict=True)}
    subject = Subject(sizes, series, dtype, is_reduced=base_shape is not None, tags=raw.tags)
    for reader in READERS:
        if reader.interpret is not None and raw.tags.get(reader.name) is not None:
            with _faults_reported(reader.name, found):
                reader.interpret(raw.tags[reader.name], subject, found)
        if reader.interpret_sidecar is not None:
            for name, content in raw.sidecars.items():
                with _faults_reported(name, found):
                    reader.interpret_sidecar(name, content, subject, found)
    found.check_channels(dims, shape)
    if base_shape is not None:
        found.coarsen({d: base / n for d, n, base in zip(dims, shape, base_shape, strict=True)})
    return found.freeze()
