"""Two mounts that change one file at the same time, and space that comes back after deleting."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, wait_until

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize("record_bytes", [100, 3000, 70_000])
@pytest.mark.parametrize("synced", [True, False])
def test_records_that_two_mounts_append_are_neither_lost_nor_split(
    cluster: Cluster, record_bytes: int, synced: bool
) -> None:
    """O_APPEND takes its offset at each write, wherever the other one writes meanwhile. Source: open(2)."""
    name = f"journal-{record_bytes}-{synced}"

    def append(index: int) -> None:
        with (cluster.mount(index) / name).open("ab", buffering=0) as file:
            for number in range(40):
                head = b"%d-%04d-" % (index, number)
                file.write(head + b"x" * (record_bytes - len(head) - 1) + b";")
                if synced and number % 5 == 0:
                    os.fsync(file.fileno())

    (cluster.mount(1) / name).touch()
    threads = [threading.Thread(target=append, args=(index,)) for index in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = (cluster.mount(3) / name).read_bytes().split(b";")[:-1]
    assert {len(record) for record in records} == {record_bytes - 1}
    assert sorted(record[:6] for record in records) == sorted(
        b"%d-%04d" % (index, number) for index in (1, 2) for number in range(40)
    )


@pytest.mark.parametrize("files", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_file_that_outgrows_its_inode_on_three_mounts_at_once_loses_nothing(cluster: Cluster, files: int) -> None:
    """One of them moves the bytes into a chunk; the others wait for it, and their bytes follow."""
    for number in range(files):
        name, record_bytes = f"outgrows-{number}", (1500, 3000, 5000, 9000)[number % 4]
        (cluster.mount(1) / name).touch()
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(_append, cluster.mount(mount) / name, mount, record_bytes) for mount in (1, 2, 3)]:
                done.result()
        records = (cluster.mount(3) / name).read_bytes().split(b";")[:-1]
        assert sorted(record[:6] for record in records) == sorted(
            b"%d-%04d" % (mount, record) for mount in (1, 2, 3) for record in range(10)
        )


def _append(path: Path, mount: int, record_bytes: int) -> None:
    with path.open("ab", buffering=0) as file:
        for record in range(10):
            head = b"%d-%04d-" % (mount, record)
            file.write(head + b"x" * (record_bytes - len(head) - 1) + b";")
            if record % 3 == 0:
                os.fsync(file.fileno())


@pytest.mark.parametrize("size", [100, 50_000, 3 * MIB])
def test_writers_of_different_parts_of_one_file_on_two_mounts_both_keep_theirs(cluster: Cluster, size: int) -> None:
    name = f"parts-{size}"
    (cluster.mount(1) / name).write_bytes(b"." * size)
    with (
        (cluster.mount(1) / name).open("r+b", buffering=0) as one,
        (cluster.mount(2) / name).open("r+b", buffering=0) as two,
    ):
        for step in range(8):
            at = step * size // 8
            length = max(1, size // 16)
            os.pwrite(one.fileno(), b"1" * length, at)
            os.pwrite(two.fileno(), b"2" * length, at + size // 16)
        os.pwrite(two.fileno(), b"end", size + 9000)
    content = (cluster.mount(3) / name).read_bytes()
    length = max(1, size // 16)
    for step in range(8):
        at = step * size // 8
        assert content[at : at + length] == b"1" * length
        assert content[at + size // 16 : at + size // 16 + length] == b"2" * length
    assert content[size:] == bytes(9000) + b"end"


def test_an_open_reader_sees_a_large_file_that_was_cut_and_written_anew_as_a_small_one(cluster: Cluster) -> None:
    """The new content lies in the inode, the old one lay in chunks."""
    writer, reader = cluster.mount(1) / "again", cluster.mount(2) / "again"
    writer.write_bytes(b"x" * 200_000)
    with reader.open("rb", buffering=0) as held:
        assert os.pread(held.fileno(), 10, 0) == b"x" * 10
        with writer.open("r+b", buffering=0) as file:
            os.ftruncate(file.fileno(), 0)
            file.write(b"small")
            os.fsync(file.fileno())
            assert os.fstat(held.fileno()).st_size == 5
            assert os.pread(held.fileno(), 10, 0) == b"small"
            file.write(b"y" * 50_000)
            os.fsync(file.fileno())
            assert os.fstat(held.fileno()).st_size == 50_005
            assert os.pread(held.fileno(), 10, 0) == b"smallyyyyy"


def test_bytes_written_here_survive_that_another_mount_cuts_the_file_into_its_inode(cluster: Cluster) -> None:
    one, two = cluster.mount(1) / "cut", cluster.mount(2) / "cut"
    one.write_bytes(b"x" * 200_000)
    with one.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"y" * 1000, 3000)
        two.write_bytes(b"small" * 20)
        os.pwrite(file.fileno(), b"z" * 1000, 100_000)
        os.fsync(file.fileno())
    content = two.read_bytes()
    assert len(content) == 101_000
    assert content[100_000:] == b"z" * 1000
    assert content[:100] == b"small" * 20
    # What was on its way when the file was cut came before the cut or after it.
    assert content[3000:4000] in (bytes(1000), b"y" * 1000)
    assert set(content[4000:100_000]) == {0}
    assert one.read_bytes() == content


def test_a_descriptor_kept_open_sees_what_another_mount_synced_from_its_next_fstat_on(cluster: Cluster) -> None:
    writer, reader = cluster.mount(1) / "watched", cluster.mount(2) / "watched"
    for size in (3000, 300_000):
        writer.write_bytes(b"a" * size)
        with reader.open("rb", buffering=0) as held, writer.open("r+b", buffering=0) as file:
            for index in range(10):
                assert len(os.pread(held.fileno(), size, 0)) == size
                os.pwrite(file.fileno(), bytes([index]) * 10, index * 100)
                os.fsync(file.fileno())
                os.fstat(held.fileno())
                assert os.pread(held.fileno(), 10, index * 100) == bytes([index]) * 10


def stored_bytes(cluster: Cluster) -> int:
    """Disk space that all chunk data takes, as du counts it."""
    return sum(
        path.stat().st_blocks * 512 for server in cluster.names("chunkserver") for path in cluster.data_files(server)
    )


@pytest.mark.slow
def test_the_space_of_deleted_and_cut_files_comes_back_and_a_big_tree_goes(cluster: Cluster) -> None:
    folder = cluster.mount(1) / "space"
    folder.mkdir()
    before = stored_bytes(cluster)
    (folder / "deleted").write_bytes(os.urandom(40 * MIB))
    (folder / "cut").write_bytes(os.urandom(30 * MIB))
    for index in range(600):
        place = folder / "tree" / str(index % 20) / str(index % 3)
        place.mkdir(parents=True, exist_ok=True)
        (place / str(index)).write_bytes(b"x" * (20_000 if index % 10 == 0 else 100))
    assert stored_bytes(cluster) - before > 3 * 69 * MIB
    with (folder / "deleted").open("rb") as held:
        (folder / "deleted").unlink()
        os.truncate(folder / "cut", 0)
        subprocess.run(["rm", "-rf", folder / "tree"], check=True)
        assert sorted(os.listdir(cluster.mount(2) / "space")) == ["cut"]
        assert len(held.read()) == 40 * MIB, "what is open stays"
    wait_until("the space back", lambda: stored_bytes(cluster) - before < 3 * 4 * MIB, timeout_s=60, every_s=0.5)
    shutil.rmtree(folder)


def test_a_process_killed_with_unflushed_bytes_leaves_a_file_that_others_can_use(cluster: Cluster) -> None:
    path = cluster.mount(1) / "left"
    script = f"import os, signal; f = open({str(path)!r}, 'wb', 0); f.write(b'k' * 300_000); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert path.read_bytes() == b"k" * 300_000
    other = cluster.mount(2) / "left"
    wait_until("the bytes on the other mount", lambda: Path(other).stat().st_size == 300_000, timeout_s=10)
    assert other.read_bytes() == b"k" * 300_000
    os.unlink(other)
    assert not path.exists()
