"""Calls as users write them, for mypy (``make types``): nothing here is run.

Each wrong call carries the ignore that it needs; strict mode reports an ignore that is not needed,
so that a way in that loses its types fails the check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intake_tiffstack import TiffStack, TiffStackSource, TiffStackZarrSource, open_stack


def open_with_options() -> TiffStack:
    open_stack(Path("raw"), file_dims="zyx", chunks="64 MiB", sizes={"t": 5})
    open_stack(["a.tif", Path("b.tif")], file_dims={"t": -1, "z": 10}, chunks={"t": 1, "y": "auto"})
    open_stack("raw", sel={"c": ["DAPI"]}, labels={"c": {"0": "DAPI"}}, channel_names={0: "DAPI"})
    open_stack("raw", scale={"z": 2}, units={"z": "um"}, fill_value=1.5, chunks=(1, -1, [2, 3]))
    return open_stack("raw/*.tif", pattern=None, missing="mask", on_error="fill", series=1)


def open_wrongly() -> None:
    open_stack(5)  # type: ignore[arg-type]
    open_stack("raw", chunk="auto")  # type: ignore[call-arg]
    open_stack("raw", chunks=1.5)  # type: ignore[arg-type]
    open_stack("raw", missing="masked")  # type: ignore[arg-type]
    open_stack("raw", on_stale=True)  # type: ignore[arg-type]
    open_stack("raw", series="first")  # type: ignore[arg-type]
    open_stack("raw", sizes={"t": "5"})  # type: ignore[dict-item]


def export(stack: TiffStack, options: dict[str, Any]) -> None:
    stack.export("a.zarr")
    stack.export(Path("a.zarr"), attrs={"by": "me"}, zarr_format=2, chunks={"t": 1}, shards=64)
    stack.export("a.zarr", format="ome-zarr", version="0.4", levels="source", verify=False)
    stack.export("a.json", format="references", verify="all", overwrite=True, progress=print)
    stack.export("a.zarr", **options)


def export_wrongly(stack: TiffStack) -> None:
    stack.export("a.zarr", levels=3)  # type: ignore[call-overload]
    stack.export("a.zarr", format="ome-zar")  # type: ignore[call-overload]
    stack.export("a.zarr", format="ome-zarr", downsample="max")  # type: ignore[call-overload]
    stack.export("a.json", format="references", verify="sampel")  # type: ignore[call-overload]
    stack.export("a.json", format="references", chunks=(1, 64))  # type: ignore[call-overload]


def use_source() -> TiffStackZarrSource:
    source = TiffStackSource("raw", dims="tyx", metadata={"by": "me"})
    source.persist(3600, zarr_format=3, progress=False).read()
    source.repersist(verify="all")
    return source.export("a.zarr", format="ome-zarr", name="plate")


def use_source_wrongly(source: TiffStackSource) -> None:
    TiffStackSource("raw", chunk="auto")  # type: ignore[call-arg]
    TiffStackSource("raw", validate="some")  # type: ignore[arg-type]
    source.persist(overwrite=True)  # type: ignore[call-arg]
    source.persist(verify="sampel")  # type: ignore[arg-type]
    source.export("a.zarr", format="zarr", sel={"t": 0})  # type: ignore[call-overload]


def use_copy() -> None:
    TiffStackZarrSource("a.zarr", level=1, image="B/03/0", sel={"t": {"from": 0, "to": 3}})
    TiffStackZarrSource(Path("a.json"), remote_options={"anon": True}, arraytype="cupy")
    TiffStackZarrSource("a.zarr", levels=1)  # type: ignore[call-arg]
    TiffStackZarrSource("a.zarr", level="first")  # type: ignore[arg-type]
