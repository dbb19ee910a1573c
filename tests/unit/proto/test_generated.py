"""The committed messages are what the schema gives."""

from pathlib import Path

from mooseng_py.proto.generate import FOLDER, generate


def test_generating_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    made = {path.name: path.read_bytes() for path in generate(tmp_path)}
    committed = {path.name: path.read_bytes() for path in FOLDER.glob("*_pb2.py*")}
    assert made == committed, "run `make proto`"
