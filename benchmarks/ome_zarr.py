"""Writing OME-Zarr: compared with other tools, and the cost of its levels."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, Bar, Case, Facts, Start
from benchmarks.files import PATTERN, cubes, volumes
from benchmarks.peers import open_ours
from benchmarks.pixels import true_sum
from benchmarks.zarr_writing import Copy, new_place

__all__ = ["CASES", "eubi_version"]

NGFF_ZARR = "ngff-zarr"
BIOIO = "bioio-ome-zarr"
EUBI = "EuBI-Bridge"
ONE_LEVEL = f"{OURS}, one level"

EUBI_PYTHON = Path(
    os.environ.get("EUBI_PYTHON", Path(__file__).parents[1] / ".venv-eubi/bin/python")
)
"""It needs another version of tifffile, and so has its own environment."""

LEVELS = 3
BLOCKS = 4
CUBE = 128


def whole_volumes(folder: Path, count: int = 60) -> Facts:
    """Write the same number of volumes for each channel."""
    return volumes(folder, count - count % 3)


def _sum_full(place: str) -> int:
    """Return the sum of the pixels of the full level, read by dask and Zarr."""
    import dask.array as da
    import zarr

    ome: Any = zarr.open_group(place, mode="r").attrs["ome"]
    path = ome["multiscales"][0]["datasets"][0]["path"]
    return int(da.from_zarr(place, component=path).sum().compute())


def _writing(make_write: Callable[[str], Callable[[str], None]]) -> Start:
    """Return the work of writing to a new place."""

    def start(place: str) -> Callable[[], Any]:
        write = make_write(place)

        def work() -> Any:
            target = new_place()
            write(target)
            return Copy(target, _sum_full)

        return work

    return start


def _open_stack(place: str) -> Any:
    from intake_tiffstack import open_stack

    return open_stack(
        f"{place}/*.tif",
        pattern=PATTERN,
        concat_dim=["t", "c"],
        file_dims="zyx",
        scale={"z": 1.0, "y": 0.5, "x": 0.5},
        units=dict.fromkeys("zyx", "micrometer"),
    )


def _ours(place: str, **options: Any) -> Callable[[str], None]:
    import intake_tiffstack.export.ome_zarr  # noqa: F401  else its import would count

    stack = _open_stack(place)
    stack.to_dask()
    return lambda target: stack.export(target, format="ome-zarr", progress=False, **options)


def _open_array(place: str) -> Any:
    """Return the lazy array that the peers write: axes t, c, z, y, x, one chunk per file."""
    return open_ours(place, file_dims="zyx", chunks="file", dims="tczyx")


def _ngff_zarr(place: str) -> Callable[[str], None]:
    import ngff_zarr

    array = _open_array(place)

    def write(target: str) -> None:
        image = ngff_zarr.to_ngff_image(array, dims=list("tczyx"))
        factors = [{"z": 1, "y": 2**i, "x": 2**i} for i in range(1, LEVELS)]
        levels = ngff_zarr.to_multiscales(
            image,
            scale_factors=factors,
            method=ngff_zarr.Methods.DASK_BIN_SHRINK,  # a mean; its default is a Gaussian
            chunks={"t": 1, "c": 1, "z": 4, "y": 512, "x": 512},
            cache=False,
        )
        ngff_zarr.to_ngff_zarr(target, levels, version="0.5")

    return write


def _bioio(place: str) -> Callable[[str], None]:
    from bioio_ome_zarr.writers import OMEZarrWriter
    from zarr.codecs import BloscCodec

    array = _open_array(place)
    shapes = [(*array.shape[:3], *(n >> i for n in array.shape[3:])) for i in range(LEVELS)]

    def write(target: str) -> None:
        chunks = [(1, 1, 4, *shape[3:]) for shape in shapes]
        writer = OMEZarrWriter(
            target,
            level_shapes=shapes,
            dtype=array.dtype,
            chunk_shape=chunks,
            zarr_format=3,
            compressor=BloscCodec(typesize=2, cname="zstd", clevel=3, shuffle="bitshuffle"),
        )
        writer.write_full_volume(array)

    return write


def eubi_version() -> str:
    """Return the version of EuBI-Bridge in its own environment."""
    if not EUBI_PYTHON.exists():
        return "not installed"
    code = "from importlib.metadata import version; print(version('eubi-bridge-lite'))"
    done = subprocess.run([EUBI_PYTHON, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _start_eubi(place: str) -> Callable[[], Any]:
    if not EUBI_PYTHON.exists():
        raise FileNotFoundError("EuBI-Bridge has no environment (EUBI_PYTHON names its Python)")

    def work() -> Any:
        target = new_place()
        options = {
            "channel_tag": "ch",
            "time_tag": "stack",
            "concatenation_axes": "ct",
            "ome_zarr_version": "0.5",
            "n_layers": LEVELS,
            "time_chunk": 1,
            "channel_chunk": 1,
            "auto_chunk": False,
            "z_chunk": 4,
            "y_chunk": 512,
            "x_chunk": 512,
            "z_scale_factor": 1,
            "compressor": "blosc",
            "compressor_params": {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"},
            "max_processes": 1,
            "max_threads": 2,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [str(EUBI_PYTHON.with_name("eubi")), "to_zarr", place, target, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (made,) = [path for path in Path(target).iterdir() if path.is_dir()]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of its largest process
        nbytes = peak * (1 if sys.platform == "darwin" else 1024)
        return Copy(str(made), _sum_full), {"peak_bytes": nbytes}

    return work


PEERS: dict[str, Start] = {
    NGFF_ZARR: _writing(_ngff_zarr),
    BIOIO: _writing(_bioio),
    EUBI: _start_eubi,
}

CASES = (
    Case(
        name="ome-zarr",
        work=f"write 1 GB as OME-Zarr 0.5 with {LEVELS} levels",
        dataset=whole_volumes,
        truth=true_sum,
        contenders={OURS: _writing(functools.partial(_ours, levels=LEVELS)), **PEERS},
        bars=(
            *(Bar("speed", 1, peer) for peer in PEERS),
            *(Bar("peak_bytes", 1, peer) for peer in PEERS),
        ),
        repeats=3,
        is_fresh=True,
        patience=60,
        deadline=300,
    ),
    Case(
        name="ome-zarr-levels",
        work=f"write 1 GB as OME-Zarr: {LEVELS} levels, and the full one alone",
        dataset=whole_volumes,
        truth=true_sum,
        contenders={
            OURS: _writing(functools.partial(_ours, levels=LEVELS)),
            ONE_LEVEL: _writing(functools.partial(_ours, levels=1)),
        },
        bars=(Bar("time", 1.5, ONE_LEVEL),),
        repeats=5,
        is_fresh=True,
        patience=60,
    ),
    Case(
        name="ome-zarr-five",
        work="write 1 GB as OME-Zarr: 5 levels, and the full one alone",
        dataset=whole_volumes,
        truth=true_sum,
        contenders={
            OURS: _writing(functools.partial(_ours, levels=5)),
            ONE_LEVEL: _writing(functools.partial(_ours, levels=1)),
        },
        bars=(Bar("time", 1.35, ONE_LEVEL),),
        repeats=5,
        is_fresh=True,
        patience=60,
    ),
    Case(
        name="ome-zarr-cubes",
        work=f"write 540 MB as OME-Zarr: {BLOCKS} levels of chunks of {CUBE} x {CUBE} x {CUBE}",
        dataset=cubes,
        truth=true_sum,
        contenders={
            OURS: _writing(
                functools.partial(
                    _ours,
                    levels=[dict.fromkeys("zyx", 2)] * (BLOCKS - 1),
                    chunks=(1, 1, CUBE, CUBE, CUBE),
                )
            )
        },
        # Three blocks of 128 MiB for each of two workers, and imports.
        bars=(Bar("peak_bytes", 1.1e9),),
        repeats=3,
        is_fresh=True,
        patience=30,
    ),
)
