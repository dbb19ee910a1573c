"""The Pulumi side: what the engine asks over gRPC, answered from `rules` and `engine`."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental import server
from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.runtime import proto
from pulumi.runtime.proto import status_pb2

from . import rules
from .engine import Engine, Failure

VERSION = "5.2.0"
_KINDS = {
    ("add", False): api.PropertyDiffKind.ADD,
    ("add", True): api.PropertyDiffKind.ADD_REPLACE,
    ("delete", False): api.PropertyDiffKind.DELETE,
    ("delete", True): api.PropertyDiffKind.DELETE_REPLACE,
    ("update", False): api.PropertyDiffKind.UPDATE,
    ("update", True): api.PropertyDiffKind.UPDATE_REPLACE,
}


class Docker(api.Provider):
    """Preview touches nothing. Calls to the engine run on threads, so that creates run side by side and a cancel is heard."""

    def __init__(self) -> None:
        self.engine = _engine(None)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        host = request.args.get("host")
        if host is not None and isinstance(host.value, str):
            self.engine = _engine(host.value)
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        wrong = rules.check(kind(request.urn), plain_map(request.new_inputs))
        return api.CheckResponse(
            inputs=request.new_inputs, failures=[api.CheckFailure(property=name, reason=why) for name, why in wrong]
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        found = rules.diff(kind(request.urn), plain_map(request.old_state), plain_map(request.new_inputs))
        return api.DiffResponse(
            changes=bool(found.changes),
            replaces=list(found.replaces),
            delete_before_replace=found.delete_before_replace,
            diffs=list(found.changes),
            detailed_diff={
                name: api.PropertyDiff(_KINDS[change, name in found.replaces], True)
                for name, change in found.changes.items()
            },
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        if request.preview:
            return api.CreateResponse(resource_id="", properties=request.properties)
        values = plain_map(request.properties)
        identity, computed = await asyncio.to_thread(self.engine.create, kind(request.urn), values)
        return api.CreateResponse(
            identity, {**request.properties, **{name: wrapped(v) for name, v in computed.items()}}
        )

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        if not request.preview:
            await asyncio.to_thread(self.engine.update, request.resource_id, plain_map(request.news))
        computed = {name: value for name, value in request.olds.items() if name in rules.COMPUTED}
        return api.UpdateResponse({**computed, **request.news})

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        found = await asyncio.to_thread(self.engine.read, kind(request.urn), request.resource_id)
        if found is None:
            return api.ReadResponse(resource_id="")
        properties = dict(request.properties)
        must_run = properties.get("mustRun", PropertyValue(True)).value
        if kind(request.urn) == rules.CONTAINER and must_run and not found["State"]["Running"]:
            properties["mustRun"] = PropertyValue(False)
        return api.ReadResponse(request.resource_id, properties, request.inputs)

    async def delete(self, request: api.DeleteRequest) -> None:
        await asyncio.to_thread(
            self.engine.delete, kind(request.urn), request.resource_id, plain_map(request.properties)
        )

    async def cancel(self) -> None:
        self.engine.cancelled.set()


class Servicer(server.ProviderServicer):
    """Errors reach the user as one sentence instead of a trace."""

    async def Create(self, request: Any, context: Any) -> Any:
        properties = PropertyValue.unmarshal_map(request.properties)
        asked = api.CreateRequest(request.urn, properties, request.timeout, request.preview)
        made = await _said(self._provider.create(asked), context, request.properties)
        return proto.CreateResponse(id=made.resource_id, properties=PropertyValue.marshal_map(made.properties))

    async def Update(self, request: Any, context: Any) -> Any:
        olds, news = PropertyValue.unmarshal_map(request.olds), PropertyValue.unmarshal_map(request.news)
        asked = api.UpdateRequest(request.urn, request.id, olds, news, request.timeout, [], request.preview)
        made = await _said(self._provider.update(asked), context, request.news)
        return proto.UpdateResponse(properties=PropertyValue.marshal_map(made.properties))

    async def Delete(self, request: Any, context: Any) -> Any:
        properties = PropertyValue.unmarshal_map(request.properties)
        asked = api.DeleteRequest(request.urn, request.id, properties, request.timeout)
        await _said(self._provider.delete(asked), context, request.properties)
        return empty_pb2.Empty()


async def _said(work: Coroutine[Any, Any, Any], context: Any, properties: Any) -> Any:
    try:
        return await work
    except Failure as failure:
        await _abort(context, failure, properties)


async def _abort(context: Any, failure: Failure, properties: Any) -> NoReturn:
    metadata: tuple[tuple[str, bytes], ...] = ()
    if failure.kept:
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(failure))
        detail = proto.ErrorResourceInitFailed(
            id=failure.kept, properties=properties, reasons=[str(failure)], inputs=properties
        )
        status.details.add().Pack(detail)
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode.UNKNOWN, str(failure), metadata)
    raise AssertionError("abort raises")


def kind(urn: str) -> str:
    """The resource's own type; the library's answer has the types of its parents before it."""
    return urn.split("::")[-2].rpartition("$")[2]


def plain_map(values: Mapping[str, PropertyValue]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}


def plain(value: PropertyValue) -> Any:
    """Blind to secretness and dependencies."""
    inner = value.value
    if isinstance(inner, Computed):
        return rules.UNKNOWN
    if isinstance(inner, Mapping):
        return plain_map(inner)
    if isinstance(inner, (list, tuple)):
        return [plain(item) for item in inner]
    return inner


def wrapped(value: Any) -> PropertyValue:
    if isinstance(value, Mapping):
        return PropertyValue({name: wrapped(item) for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return PropertyValue([wrapped(item) for item in value])
    return PropertyValue(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _engine(host: str | None) -> Engine:
    return Engine(host, keep_failed=bool(os.environ.get("MOOSENG_DOUBLE_KEEP_FAILED")))


def _end_with(parent: int) -> None:
    """A killed CLI leaves its plugins behind; this one notices."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    server.ProviderServicer = Servicer  # type: ignore[misc]  # `server.main` makes this class, and takes no other
    server.main(sys.argv[1:], VERSION, Docker())
