"""Requests that come late: a trim, or a piece of a write, that the network kept while its sender and others went on.

Each is refused, and what was written meanwhile stays. Frames of their own make the delay exact.
"""

import errno

import pytest

from mooseng_py.demo.harness import Cluster
from mooseng_py.proto import common_pb2, name_pb2
from mooseng_py.sdk import connect
from tests.sharing.support import (
    FramesClient,
    Refused,
    copies,
    same,
    send,
    sync,
    trim,
)

OLD = b"\xee" * 200_000


def refusal(refused: pytest.ExceptionInfo[Refused]) -> tuple[int, int]:
    return refused.value.error.errno, refused.value.error.reason


@pytest.mark.parametrize("late_at", ["the version of its grant", "the version before"])
def test_a_trim_that_arrives_after_another_client_did_it_and_wrote_on_destroys_nothing(
    cluster: Cluster, late_at: str
) -> None:
    name = f"late-trim-{late_at}"
    with connect(cluster.url()) as fs:
        fs.write_bytes(f"/{name}", OLD)
        with FramesClient(cluster, "a") as a, FramesClient(cluster, "b") as b:
            inode = a.open(name)
            b.open(name)
            before = a.chunk(inode).chunk
            fs.truncate(f"/{name}", 100_000)
            granted, late = a.grant(inode), b.grant(inode)
            assert granted.trim == late.trim == 100_000
            granted = a.grant(inode)  # another grant may have brought another version
            trim(granted.replicas, granted.chunk, granted.trim)
            done = a.ask(
                trim_done=name_pb2.TrimDone(inode=inode, index=0, chunk=granted.chunk, trim=granted.trim)
            ).chunks
            chunk = done[0].chunk if done else granted.chunk
            new = b"A" * 1000
            written = send(granted.replicas, chunk, 150_000, new)
            a.commit(inode, 151_000, granted, chunk, sync(granted.replicas, chunk, written))
            with pytest.raises(Refused) as refused:
                trim(late.replicas, late.chunk if late_at == "the version of its grant" else before, late.trim)
            assert refused.value.error.errno == errno.ESTALE
        right = OLD[:100_000] + bytes(50_000) + new
        same(fs.read_bytes(f"/{name}"), right, "a reader")
    for address, content in copies(cluster, name, len(right)).items():
        same(content, right, f"the copy of {address}")


def test_the_end_of_a_trim_is_told_with_the_version_that_refuses_it_from_then_on(cluster: Cluster) -> None:
    with connect(cluster.url()) as fs, FramesClient(cluster) as client:
        fs.write_bytes("/told", OLD)
        inode = client.open("told")
        fs.truncate("/told", 100_000)
        granted = client.grant(inode)
        trim(granted.replicas, granted.chunk, granted.trim)
        told = client.ask(trim_done=name_pb2.TrimDone(inode=inode, index=0, chunk=granted.chunk, trim=granted.trim))
        assert [info.chunk.version for info in told.chunks] == [granted.chunk.version + 1]
        assert not told.chunks[0].HasField("trim")


def test_a_commit_of_bytes_that_were_sent_before_another_client_cut_the_file_is_refused(cluster: Cluster) -> None:
    with connect(cluster.url()) as fs, FramesClient(cluster) as client:
        fs.write_bytes("/cut-between", OLD)
        inode = client.open("cut-between")
        granted = client.grant(inode)
        written = send(granted.replicas, granted.chunk, 150_000, b"A" * 1000)
        stored = sync(granted.replicas, granted.chunk, written)
        fs.truncate("/cut-between", 100_000)
        with pytest.raises(Refused) as refused:
            client.commit(inode, 151_000, granted, granted.chunk, stored)
        assert refusal(refused) == (errno.ESTALE, common_pb2.REASON_CHUNK_MOVED)
        assert fs.stat("/cut-between").st_size == 100_000


def test_a_piece_of_an_earlier_round_that_arrives_late_is_refused_and_the_newer_bytes_stay(cluster: Cluster) -> None:
    """A piece was given up and sent again at the same version; the old connection's buffers deliver it after all."""
    writer, old, new = 0x5EED, b"1" * 8192, b"2" * 6000
    with connect(cluster.url()) as fs, FramesClient(cluster) as client:
        fs.write_bytes("/rounds", OLD)
        inode = client.open("rounds")
        granted = client.grant(inode)
        place = (granted.replicas, granted.chunk)
        send(*place, 50_000, old, writer=writer, round_number=1)
        send(*place, 50_000, old, writer=writer, round_number=2)
        written = send(*place, 51_000, new, writer=writer, round_number=2)
        client.commit(inode, len(OLD), granted, granted.chunk, sync(*place, written))
        with pytest.raises(Refused) as refused:
            send(*place, 50_000, old, writer=writer, round_number=1)
        assert refusal(refused) == (errno.ESTALE, common_pb2.REASON_OVERTAKEN)
        right = bytearray(OLD)
        right[50_000:58_192] = old
        right[51_000:57_000] = new
        same(fs.read_bytes("/rounds"), bytes(right), "a reader")
        # Another writer's rounds are its own, and who has none is not held up by those of others.
        send(*place, 51_000, new, writer=writer + 1, round_number=1)
        send(*place, 51_000, new)
    for address, content in copies(cluster, "rounds", len(right)).items():
        same(content, bytes(right), f"the copy of {address}")


def test_each_server_of_a_chain_refuses_an_overtaken_piece_by_itself(cluster: Cluster) -> None:
    writer, old, new = 0xBEEF, b"1" * 4096, b"2" * 4096
    with connect(cluster.url()) as fs, FramesClient(cluster) as client:
        fs.write_bytes("/each", OLD)
        inode = client.open("each")
        granted = client.grant(inode)
        written = send(granted.replicas, granted.chunk, 8192, new, writer=writer, round_number=2)
        client.commit(inode, len(OLD), granted, granted.chunk, sync(granted.replicas, granted.chunk, written))
        for replica in granted.replicas:
            with pytest.raises(Refused) as refused:
                send([replica], granted.chunk, 8192, old, writer=writer, round_number=1)
            assert refusal(refused) == (errno.ESTALE, common_pb2.REASON_OVERTAKEN)
    for address, content in copies(cluster, "each", len(OLD)).items():
        same(content, OLD[:8192] + new + OLD[12288:], f"the copy of {address}")
