"""Generate the Python messages from the `.proto` files: `python -m mooseng_py.proto.generate`. Needs grpcio-tools.

What it makes is committed, so that nobody needs a compiler to install; a test makes it again and compares.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def generate(target: Path) -> list[Path]:
    """Write `mooseng_py/proto/*_pb2.py` and their `.pyi` below `target`; the files written.

    Raises: RuntimeError when the compiler refuses a file; it says why on standard error.
    """
    from grpc_tools import protoc

    root = FOLDER.parents[1]
    sources = sorted(path.relative_to(root).as_posix() for path in FOLDER.glob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    code = protoc.main(
        ["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}", *sources]
    )
    if code != 0:
        raise RuntimeError(f"the protobuf compiler refused {', '.join(sources)}; see above")
    return sorted((target / "mooseng_py" / "proto").glob("*_pb2.py*"))


if __name__ == "__main__":
    for written in generate(FOLDER.parents[1]):
        sys.stdout.write(f"{written.relative_to(FOLDER.parents[1])}\n")
