"""The state of the whole cluster in a word and in sentences. Pure."""

from __future__ import annotations

from typing import Any

from .seen import Snapshot

Plain = dict[str, Any]


def verdict(
    snapshot: Snapshot,
    leader: Plain | None,
    masters: list[Plain],
    servers: list[Plain],
    clients: list[Plain],
    chunks: Plain,
) -> Plain:
    """The state of the whole in a word and in sentences, worst first."""
    if not snapshot.looks:
        return {"state": "unknown", "sentences": ["Looking at the cluster for the first time"]}
    if snapshot.heard_s is None:
        return {"state": "unknown", "sentences": ["No master has answered yet"]}
    bad: list[str] = []
    warnings: list[str] = []
    silent = [master["name"] for master in masters if not master["answers"]]
    if len(silent) == len(masters):
        bad.append("No master answers; everything below is what they last said")
    elif leader is None:
        bad.append("No master leads: names can be neither read nor changed until one does")
    elif silent:
        warnings.append(f"{_listed(silent)} {'does' if len(silent) == 1 else 'do'} not answer")
    bad += [
        f"chunkserver-{one.server_id} is refused: {one.reason}"
        for one in (snapshot.led.what.refused if snapshot.led.what else ())
    ]
    if chunks["missing"]:
        bad.append(f"{_count(chunks['missing'], 'chunk')} without any live copy")
    down = [server["name"] for server in servers if server["state"] != "up"]
    if down:
        warnings.append(f"{_listed(down)} {'is' if len(down) == 1 else 'are'} down")
    if chunks["endangered"]:
        warnings.append(f"{_count(chunks['endangered'], 'chunk')} with too few copies")
    disks = [
        f"{server['name']} {disk['path']} ({disk['state']})"
        for server in servers
        for disk in server["disks"]
        if not disk["ok"]
    ]
    if disks:
        warnings.append(f"Disks that are not well: {_listed(disks)}")
    idle = [client["name"] for client in clients if client["state"] == "not ready" or client["state"] == "silent"]
    if idle:
        warnings.append(f"{_listed(idle)} {'does' if len(idle) == 1 else 'do'} not serve")
    if bad or warnings:
        return {"state": "bad" if bad else "warning", "sentences": bad + warnings}
    return {"state": "good", "sentences": ["Every node answers and every chunk has all its copies"]}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
