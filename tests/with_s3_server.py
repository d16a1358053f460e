"""Run a command with the URL of an S3 server on 127.0.0.1 added; it needs no moto itself."""

from __future__ import annotations

import subprocess
import sys

from servers import serve_s3

if __name__ == "__main__":
    with serve_s3() as server:
        sys.exit(subprocess.run([*sys.argv[1:], server.url], check=False).returncode)
