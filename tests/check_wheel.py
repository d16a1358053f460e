"""What a new user does first, in an environment that has the wheel and its base dependencies alone.

Run by ``make test-wheel`` outside of the checkout: makes a small collection, opens it through a
YAML catalog, converts it, exports it and opens the copy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import dask.array as da
import intake
import numpy as np
import xarray as xr

import intake_tiffstack
from intake_tiffstack.samples import make_lattice

CATALOG = """
sources:
  lattice:
    driver: tiffstack
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/*.tif"
      pattern: lattice
      concat_dim: [c, t]
      file_dims: zyx
"""


def check_bucket(root: Path, endpoint: str, pixels: np.ndarray) -> None:
    """Open files in a bucket through a catalog there, export them to it and open the copy."""
    import s3fs

    options = {"key": "k", "secret": "s", "endpoint_url": endpoint}
    bucket = s3fs.S3FileSystem(**options)
    bucket.mkdir("lab")
    for path in sorted((root / "raw").iterdir()):
        bucket.pipe_file(f"lab/raw/{path.name}", path.read_bytes())
    bucket.pipe_file("lab/lab.yml", CATALOG.encode())
    catalog = intake.open_catalog("s3://lab/lab.yml", storage_options=options)
    source = catalog.lattice(storage_options=options)
    np.testing.assert_array_equal(source.to_dask().compute(), pixels)
    copy = source.export("s3://lab/lattice.zarr", storage_options=options)
    np.testing.assert_array_equal(copy.to_xarray().to_numpy(), pixels)
    again = intake.open_tiffstack_zarr("s3://lab/lattice.zarr", storage_options=options)
    np.testing.assert_array_equal(again.to_dask().compute(), pixels)


def main() -> int:
    """Return 0 where every step gave the same pixels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True, help="must not be what is imported")
    parser.add_argument("--s3", help="URL of an S3 server to export to and to read from")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    home = Path(intake_tiffstack.__file__).resolve()
    if home.is_relative_to(checkout) and "site-packages" not in home.parts:
        print(f"{home} is the checkout and not the wheel", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_lattice(root / "raw", channels=2, times=3)
        (root / "lab.yml").write_text(CATALOG)
        source = intake.open_catalog(str(root / "lab.yml")).lattice
        pixels = source.to_dask().compute()
        assert pixels.shape == (2, 3, 8, 64, 48), pixels.shape
        named = source.to_xarray()
        assert isinstance(named, xr.DataArray)
        assert named.dims == ("c", "t", "z", "y", "x")
        np.testing.assert_array_equal(named.to_numpy(), pixels)
        print(source.report())
        copy = source.export(str(root / "lattice.zarr"))
        np.testing.assert_array_equal(copy.to_dask().compute(), pixels)
        np.testing.assert_array_equal(da.from_zarr(str(root / "lattice.zarr")).compute(), pixels)
        again = intake.open_tiffstack_zarr(str(root / "lattice.zarr")).to_xarray()
        assert again.dims == named.dims
        group = source.export(str(root / "group.zarr"), group=True).to_xarray()
        np.testing.assert_array_equal(group.to_numpy(), pixels)
        np.testing.assert_array_equal(xr.open_zarr(root / "group.zarr")["image"].to_numpy(), pixels)
        source.export(str(root / "lattice.ome.zarr"), format="ome-zarr")
        opened = intake.open_tiffstack_zarr(str(root / "lattice.ome.zarr")).to_dask()
        assert sorted(opened.shape) == sorted(pixels.shape)
        if arguments.s3:
            check_bucket(root, arguments.s3, pixels)
    print(f"intake-tiffstack {intake_tiffstack.__version__} works from {home.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
