"""gRPC on a master: bytes pass through, errors become statuses, health and reflection answer. The node is a stand-in here."""

import errno
import socket
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mooseng_py.errors import make_error
from mooseng_py.master.rpc import SERVICES, RpcServer, carried_error, status_of
from mooseng_py.native import Node, method
from mooseng_py.proto import cluster_pb2, common_pb2, name_pb2


class ScriptedNode:
    """Answers calls as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes]] = []
        self.answer: bytes | Exception = b""

    def call(self, method: int, message: bytes) -> bytes:
        self.calls.append((method, message))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Served:
    def __init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{found.getsockname()[1]}"
        self.node = ScriptedNode()
        self.ready = True
        self.server = RpcServer(self.address, cast(Node, self.node), lambda: self.ready)
        self.channel = grpc.insecure_channel(self.address)

    def call(self, path: str, request: bytes) -> Any:
        return self.channel.unary_unary(f"/mooseng.v1.{path}", None, None)(request, timeout=10)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.channel.close()
    found.server.stop()


def test_bytes_pass_through_to_the_method_of_each_call(served: Served) -> None:
    numbers = {
        "Cluster/View": method("View"),
        "Cluster/File": method("FileInfo"),
        "Cluster/Transfer": method("Transfer"),
        "NameSpace/Execute": method("Name"),
        "NameSpace/Renew": method("Renew"),
    }
    for path, number in numbers.items():
        served.node.answer = cluster_pb2.ClusterView(term=number).SerializeToString()
        assert served.call(path, b"\x08\x01") == served.node.answer
        assert served.node.calls[-1] == (number, b"\x08\x01")


def test_every_call_of_the_schema_is_served() -> None:
    for name, service in cluster_pb2.DESCRIPTOR.services_by_name.items():
        assert set(SERVICES[f"mooseng.v1.{name}"]) == {method.name for method in service.methods}


def test_a_refusal_is_a_status_with_its_errno_kind_and_leader(served: Served) -> None:
    served.node.answer = make_error(errno.EAGAIN, 2, "ask the leader", leader="h:1")
    with pytest.raises(grpc.RpcError) as caught:
        served.call("NameSpace/Execute", b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "ask the leader")
    metadata: Any = caught.value.trailing_metadata()
    assert dict(metadata) == {
        "mooseng-errno": str(errno.EAGAIN),
        "mooseng-kind": "unavailable",
        "mooseng-leader": "h:1",
    }


def test_an_error_inside_a_reply_is_found_without_reading_others(served: Served) -> None:
    error = common_pb2.Error(errno=errno.ENOENT, kind=common_pb2.ERROR_NAMESPACE, message="no such name")
    for reply in (name_pb2.NameReply, cluster_pb2.FileInfo, cluster_pb2.AdminReply, name_pb2.RenewReply):
        served.node.answer = reply(error=error).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            served.call("NameSpace/Execute", b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such name")
    assert carried_error(name_pb2.NameReply(session=1).SerializeToString()) is None
    assert carried_error(cluster_pb2.ClusterView(term=1).SerializeToString()) is None
    assert carried_error(b"") is None


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [
        (errno.ENOENT, 0, "NOT_FOUND"),
        (errno.EEXIST, 0, "ALREADY_EXISTS"),
        (errno.EACCES, 0, "PERMISSION_DENIED"),
        (errno.ENOTEMPTY, 0, "FAILED_PRECONDITION"),
        (errno.ENOSPC, 0, "RESOURCE_EXHAUSTED"),
        (errno.ESTALE, 1, "ABORTED"),
        (errno.EIO, 2, "UNAVAILABLE"),
        (errno.EBADMSG, 3, "DATA_LOSS"),
    ],
)
def test_each_kind_of_error_has_the_status_that_clients_handle_rightly(number: int, kind: int, status: str) -> None:
    assert status_of(make_error(number, kind, "x")).name == status


def test_health_follows_readiness(served: Served) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel)

    def status() -> int:
        found: int = stub.Check(health_pb2.HealthCheckRequest(service="mooseng.v1.Cluster"), timeout=5).status
        return found

    def wait_for(wanted: int) -> None:
        import time

        deadline = time.monotonic() + 10
        while status() != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for(health_pb2.HealthCheckResponse.SERVING)
    served.ready = False
    wait_for(health_pb2.HealthCheckResponse.NOT_SERVING)


def test_reflection_lists_services_and_their_messages(served: Served) -> None:
    database = ProtoReflectionDescriptorDatabase(served.channel)
    assert set(database.get_services()) >= {"mooseng.v1.Cluster", "mooseng.v1.NameSpace", "grpc.health.v1.Health"}
    assert b"ClusterView" in database.FindFileContainingSymbol("mooseng.v1.Cluster").SerializeToString()


def test_a_taken_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(OSError, match=f"grpc_listen = {address}"):
            RpcServer(address, cast(Node, ScriptedNode()), lambda: True)
