"""Ask the masters about the cluster and take the best answer: of the newest term, the leader's if it is there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from mooseng_py.asking import ADMIN, FILE_INFO, VIEW, ask
from mooseng_py.errors import MooseError, NamespaceError, UnavailableError, make_error
from mooseng_py.proto import cluster_pb2

from .connection import Where

# A paused master accepts connections and never answers: the others' answers must not wait for it for long.
_ONE_ANSWER_S = 1.0
_PAUSE_S = 0.1


def cluster_view(where: Where, timeout_s: float, *, with_sessions: bool) -> cluster_pb2.ClusterView:
    """The view of the newest term. Raises: UnavailableError when no master answers until the deadline."""
    request = cluster_pb2.ViewRequest(with_sessions=with_sessions).SerializeToString()
    deadline = time.monotonic() + timeout_s
    while True:
        views, refusals = _ask_all(where, VIEW, request)
        if views:
            return max(map(cluster_pb2.ClusterView.FromString, views), key=lambda view: (view.term, view.is_leader))
        _give_up(deadline, refusals)


def file_info(where: Where, path: str, timeout_s: float) -> cluster_pb2.FileInfo:
    """Where a file lies. Raises: MooseError; UnavailableError when no leader answers until the deadline."""
    request = cluster_pb2.FileInfoRequest(path=path).SerializeToString()
    deadline = time.monotonic() + timeout_s
    while True:
        answers, refusals = _ask_all(where, FILE_INFO, request)
        for answer in map(cluster_pb2.FileInfo.FromString, answers):
            if not answer.HasField("error"):
                return answer
            error = answer.error
            refusals.append(make_error(error.errno, error.kind, error.message, path))
        if refused := [error for error in refusals if isinstance(error, NamespaceError)]:
            raise refused[0]
        _give_up(deadline, refusals)


def order(where: Where, command: cluster_pb2.AdminCommand, timeout_s: float) -> None:
    """Have the leader carry out an operator's order.

    Raises: MooseError; UnavailableError when no leader answers until the deadline.
    """
    request = command.SerializeToString()
    deadline = time.monotonic() + timeout_s
    while True:
        answers, refusals = _ask_all(where, ADMIN, request)
        if answers:
            return
        if refused := [error for error in refusals if isinstance(error, NamespaceError)]:
            raise refused[0]
        _give_up(deadline, refusals)


def _ask_all(where: Where, method: int, request: bytes) -> tuple[list[bytes], list[MooseError]]:
    def one(address: str) -> bytes | MooseError:
        try:
            return ask(address, method, request, timeout_s=_ONE_ANSWER_S)
        except MooseError as error:
            return error

    with ThreadPoolExecutor(len(where.masters)) as pool:
        answers = list(pool.map(one, where.masters))
    return [answer for answer in answers if isinstance(answer, bytes)], [
        answer for answer in answers if isinstance(answer, MooseError)
    ]


def _give_up(deadline: float, refusals: list[MooseError]) -> None:
    """Wait a little, or raise when the time is over. Raises: UnavailableError."""
    if time.monotonic() >= deadline:
        raise refusals[0] if isinstance(refusals[0], UnavailableError) else make_error(5, 2, str(refusals[0].strerror))
    time.sleep(_PAUSE_S)
