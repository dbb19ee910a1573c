"""Runs the Pulumi program against mocks that also keep the options of each resource. Starts no command, asks no engine."""

from __future__ import annotations

import asyncio
import atexit
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
import yaml
from pulumi.runtime import mocks, set_all_config
from pulumi.runtime.proto import resource_pb2

from infra.policy import CONTAINER, Resource
from infra.program import main

ROOT = Path(__file__).parents[2]
# Pulumi takes the thread's loop, and a test that ran one before may have left none.
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)
STACKS = ("minimal", "dev", "demo", "prod", "ci")
PASSWORD = "correct horse"
SECRET = "mooseng:grafanaPassword"


@dataclass
class Outcome:
    """What a run registered, in order."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    # URN to the URNs that must be there first: what it depends on, and its parent.
    dependencies: dict[str, set[str]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def containers(self) -> dict[str, Mapping[str, Any]]:
        return {made.name: made.inputs for made in self.resources if made.type == CONTAINER}

    def of(self, kind: str) -> list[str]:
        return sorted(made.name for made in self.resources if made.type == kind)

    def containers_before(self, name: str, kind: str = CONTAINER) -> set[str]:
        """The containers that are there before this one is made, and go after it has gone."""
        start = next(urn for urn in self.dependencies if urn.endswith(f"{kind}::{name}"))
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for urn in self.dependencies.get(waiting.pop(), set()) - seen:
                seen.add(urn)
                waiting.append(urn)
        return {urn.rpartition("::")[2] for urn in seen if f"{CONTAINER}::" in urn}


class _Mocks(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        outputs = dict(args.inputs)
        if args.typ == "docker:index/remoteImage:RemoteImage":
            outputs["imageId"] = f"sha256:of-{args.inputs['name']}"
        if args.typ == "docker:index/image:Image":
            outputs["repoDigest"] = f"sha256:of-{args.inputs['imageName']}"
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"the program calls {args.token}, which works on no engine that is not there yet")


class _Monitor(mocks.MockMonitor):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(_Mocks())
        self.outcome = outcome

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> resource_pb2.RegisterResourceResponse:
        answer: resource_pb2.RegisterResourceResponse = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            inputs = self.resources[answer.urn].state if request.custom else {}
            self.outcome.resources.append(
                Resource(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    protect=request.protect,
                    delete_before_replace=request.deleteBeforeReplace,
                    replace_on_changes=tuple(request.replaceOnChanges),
                )
            )
            self.outcome.dependencies[answer.urn] = {*request.dependencies, *filter(None, [request.parent])}
        return answer


def committed(stack: str) -> dict[str, Any]:
    """The configuration of a stack as its file has it: key to value."""
    values: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return values


def run(
    stack: str, config: Mapping[str, Any] | None = None, *, preview: bool = False, secrets: tuple[str, ...] = (SECRET,)
) -> Outcome:
    """Run the program for a stack with `config`, or its committed file and a password. Raises: RunError."""
    values = {**committed(stack), SECRET: PASSWORD} if config is None else config
    outcome = Outcome()
    asyncio.set_event_loop(_LOOP)
    mocks.set_mocks(_Mocks(), project="mooseng", stack=stack, preview=preview, monitor=_Monitor(outcome))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    set_all_config(texts, list(secrets))
    exported: dict[str, Any] = {}
    with (
        mock.patch.object(pulumi, "export", exported.__setitem__),
        mock.patch.object(pulumi.log, "info", lambda message, *_, **__: outcome.messages.append(message)),
    ):
        _finish(main)
        _finish(lambda: pulumi.Output.all(**exported).apply(outcome.outputs.update))
    return outcome


def _finish(program: Callable[[], object]) -> None:
    """Run it, and wait for all that it registered."""
    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]


def object_config(**values: Any) -> dict[str, Any]:
    """The whole configuration with this `mooseng:cluster`."""
    return {"mooseng:cluster": values}
