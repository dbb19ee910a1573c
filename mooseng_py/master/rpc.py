"""gRPC on a master: the same bytes as over frames, to the same native entry point, so that the two cannot drift.

Services Cluster and NameSpace of cluster.proto, health, reflection. An error becomes a gRPC status with the sentence,
and its errno, kind and leader in the trailing metadata (mooseng-errno, mooseng-kind, mooseng-leader).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mooseng_py.errors import IntegrityError, MooseError, NamespaceError, StaleError, make_error
from mooseng_py.native import method
from mooseng_py.proto import cluster_pb2
from mooseng_py.proto.common_pb2 import Error

if TYPE_CHECKING:
    from mooseng_py.native import Node

_PACKAGE = cluster_pb2.DESCRIPTOR.package
SERVICES = {
    f"{_PACKAGE}.Cluster": {"View": method("View"), "File": method("FileInfo"), "Transfer": method("Transfer")},
    f"{_PACKAGE}.NameSpace": {"Execute": method("Name"), "Renew": method("Renew")},
}
# Field 1, length-delimited: where every reply but a view has its error, and nothing else.
_ERROR_TAG = 0x0A
_THREADS = 8
# As the largest message over frames, with room for the envelope.
_MESSAGE_LIMIT_BYTES = 8 << 20
_HEALTH_INTERVAL_S = 1.0
_GRACE_S = 2.0


class RpcServer:
    """Serves until `stop`."""

    def __init__(self, address: str, node: Node, ready: Callable[[], bool]) -> None:
        """Raises: OSError when the address cannot be bound."""
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
                ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
            ],
            maximum_concurrent_rpcs=64,
        )
        for service, calls in SERVICES.items():
            handlers = {
                name: grpc.unary_unary_rpc_method_handler(_passing(node, number)) for name, number in calls.items()
            }
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._health = health.HealthServicer(experimental_non_blocking=False)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self._bind(address)
        self._ready = ready
        self._stopping = threading.Event()
        self._server.start()
        self._thread = threading.Thread(target=self._watch, name="grpc-health", daemon=True)
        self._thread.start()

    def _bind(self, address: str) -> None:
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise OSError(f"grpc_listen = {address} cannot be used; is another process listening there?")

    def stop(self) -> None:
        """Let running calls end, for a moment."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._server.stop(_GRACE_S).wait()
        self._thread.join()

    def _watch(self) -> None:
        """Keep the health service true: serving while this master is ready."""
        while True:
            try:
                good = self._ready()
            except Exception:  # noqa: BLE001  # whatever keeps the node from telling its status, it is not ready
                good = False
            status = health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING
            for service in ("", *SERVICES):
                self._health.set(service, status)
            if self._stopping.wait(_HEALTH_INTERVAL_S):
                return


def _passing(node: Node, method: int) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            reply: bytes = node.call(method, request)
        except MooseError as error:
            refuse(context, error)
        if (carried := carried_error(reply)) is not None:
            refuse(context, carried)
        return reply

    return handle


def carried_error(reply: bytes) -> MooseError | None:
    """The error that a reply consists of, without looking at replies that carry none."""
    if not reply or reply[0] != _ERROR_TAG:
        return None
    # Any of the replies will do: they share the number of this field.
    error: Error = cluster_pb2.IntentsReply.FromString(reply).error
    return make_error(
        error.errno, error.kind, error.message, leader=error.leader or None, failed_servers=error.failed_servers
    )


def refuse(context: Any, error: MooseError) -> None:
    """End the call with the status of `error`. Raises, always."""
    kind = next(name for branch, name in _KINDS.items() if isinstance(error, branch))
    number = error.errno or 0
    metadata = [("mooseng-errno", str(number)), ("mooseng-kind", kind)]
    if error.leader:
        metadata.append(("mooseng-leader", error.leader))
    context.set_trailing_metadata(tuple(metadata))
    context.abort(status_of(error), error.strerror or os.strerror(number))


_KINDS: dict[type[MooseError], str] = {
    NamespaceError: "namespace",
    StaleError: "stale",
    IntegrityError: "integrity",
    MooseError: "unavailable",
}


def status_of(error: MooseError) -> grpc.StatusCode:
    """The gRPC status whose usual handling by clients suits the error."""
    if isinstance(error, StaleError):
        return grpc.StatusCode.ABORTED
    if isinstance(error, IntegrityError):
        return grpc.StatusCode.DATA_LOSS
    if not isinstance(error, NamespaceError):
        return grpc.StatusCode.UNAVAILABLE
    by_errno = {
        errno.ENOENT: grpc.StatusCode.NOT_FOUND,
        errno.EEXIST: grpc.StatusCode.ALREADY_EXISTS,
        errno.EACCES: grpc.StatusCode.PERMISSION_DENIED,
        errno.EPERM: grpc.StatusCode.PERMISSION_DENIED,
        errno.EINVAL: grpc.StatusCode.INVALID_ARGUMENT,
        errno.ENAMETOOLONG: grpc.StatusCode.INVALID_ARGUMENT,
        errno.ENOSPC: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errno.EDQUOT: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errno.EFBIG: grpc.StatusCode.OUT_OF_RANGE,
        errno.EOPNOTSUPP: grpc.StatusCode.UNIMPLEMENTED,
    }
    return by_errno.get(error.errno or 0, grpc.StatusCode.FAILED_PRECONDITION)
