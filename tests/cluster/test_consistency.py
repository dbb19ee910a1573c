"""What one mount closed or fsynced, every other one sees at its next open or stat (DESIGN section 3)."""

import os
import threading
from pathlib import Path

import mooseng_py
from mooseng_py.demo.harness import Cluster


def test_what_one_mount_closed_every_other_reads_at_its_next_open(cluster: Cluster) -> None:
    first, second = cluster.mount(1) / "handover", cluster.mount(2) / "handover"
    for index in range(40):
        writer, reader = (first, second) if index % 2 else (second, first)
        content = os.urandom([10, 5000, 9000, 200_000][index % 4])
        writer.write_bytes(content)
        assert reader.stat().st_size == len(content)
        assert reader.read_bytes() == content


def test_a_cached_page_is_not_served_after_another_mount_changed_the_file(cluster: Cluster) -> None:
    first, second = cluster.mount(1) / "cached", cluster.mount(2) / "cached"
    first.write_bytes(b"a" * 300_000)
    assert second.read_bytes() == b"a" * 300_000
    with first.open("r+b", buffering=0) as file:
        file.seek(100_000)
        file.write(b"b" * 10)
        os.fsync(file.fileno())
        assert second.read_bytes()[100_000:100_010] == b"b" * 10


def test_a_reader_that_keeps_the_file_open_sees_it_grow(cluster: Cluster) -> None:
    with (
        (cluster.mount(1) / "tail").open("ab", buffering=0) as writer,
        (cluster.mount(2) / "tail").open("rb", buffering=0) as reader,
    ):
        for index in range(20):
            record = bytes([index]) * 3000
            writer.write(record)
            os.fsync(writer.fileno())
            assert reader.read(3000) == record


def test_appends_of_two_mounts_are_neither_lost_nor_split(cluster: Cluster) -> None:
    def append(index: int) -> None:
        with (cluster.mount(index) / "journal").open("ab", buffering=0) as file:
            for number in range(100):
                file.write(b"%d-%04d;" % (index, number))
                os.fsync(file.fileno())

    (cluster.mount(1) / "journal").touch()
    threads = [threading.Thread(target=append, args=(index,)) for index in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = (cluster.mount(3) / "journal").read_bytes().split(b";")[:-1]
    assert sorted(records) == sorted(b"%d-%04d" % (index, number) for index in (1, 2) for number in range(100))


def test_names_made_removed_and_moved_on_one_mount_are_so_on_the_others(cluster: Cluster) -> None:
    first, second = cluster.mount(1), cluster.mount(2)
    for index in range(30):
        (first / "n").mkdir()
        assert (second / "n").is_dir()
        os.rename(second / "n", second / f"m{index}")
        assert not (first / "n").exists()
        assert (first / f"m{index}").is_dir()


def test_truncating_on_one_mount_shows_on_the_other_and_grown_parts_are_zero(cluster: Cluster) -> None:
    first, second = cluster.mount(1) / "cut", cluster.mount(2) / "cut"
    first.write_bytes(b"x" * 150_000)
    assert second.read_bytes() == b"x" * 150_000
    os.truncate(second, 1000)
    assert first.read_bytes() == b"x" * 1000
    os.truncate(first, 3000)
    assert second.read_bytes() == b"x" * 1000 + bytes(2000)


def test_a_file_unlinked_on_another_mount_stays_readable_while_open(cluster: Cluster) -> None:
    data = os.urandom(400_000)
    (cluster.mount(1) / "ghost").write_bytes(data)
    with (cluster.mount(2) / "ghost").open("rb", buffering=0) as held:
        (cluster.mount(1) / "ghost").unlink()
        assert not (cluster.mount(3) / "ghost").exists()
        seen = b""
        while piece := held.read(65536):
            seen += piece
        assert seen == data


def test_the_sdk_and_the_mounts_show_one_file_system(cluster: Cluster, tmp_path: Path) -> None:
    with mooseng_py.connect(cluster.url()) as fs:
        fs.makedirs("/sdk/a/b")
        with fs.open("/sdk/a/b/file", "wb") as file:
            file.write(b"from the sdk" * 5000)
        assert (cluster.mount(1) / "sdk/a/b/file").read_bytes() == b"from the sdk" * 5000
        (cluster.mount(2) / "sdk/a/c").write_bytes(b"from a mount")
        assert fs.listdir("/sdk/a") == ["b", "c"] or sorted(fs.listdir("/sdk/a")) == ["b", "c"]
        with fs.open("/sdk/a/c", "rb") as file:
            assert file.read() == b"from a mount"
