"""What the Python SDK reads, as SHA-256 of each file. As a program it runs where the cluster's names resolve: JSON in, JSON out."""

import hashlib
import json
import sys
from collections.abc import Iterable

import mooseng_py


def digests(url: str, paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each file, by the path given, relative to the root."""
    with mooseng_py.connect(url) as fs:
        return {path: _digest(fs, path) for path in paths}


def _digest(fs: mooseng_py.FileSystem, path: str) -> str:
    with fs.open("/" + path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    json.dump(digests(sys.argv[1], json.load(sys.stdin)), sys.stdout)
