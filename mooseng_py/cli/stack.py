"""The masters of a Pulumi stack, from its outputs. Runs `pulumi stack output` and changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess

from .errors import UsageError

_TIMEOUT_S = 60


def masters_of(stack: str) -> tuple[str, ...]:
    """Published frames addresses of the stack's masters, host:port. Raises: UsageError."""
    outputs = _outputs(stack)
    try:
        found = tuple(str(addresses["frames"]) for _, addresses in sorted(outputs["masters"].items()))
    except (AttributeError, KeyError, TypeError):
        found = ()
    if not found:
        raise UsageError(
            f"stack {stack!r} has no masters in its outputs: it is not up, or its last `pulumi up` failed; run `pulumi up --stack {stack}`"
        )
    return found


def _outputs(stack: str) -> dict[str, dict[str, dict[str, str]]]:
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise UsageError("--stack asks Pulumi, and no pulumi is on PATH; install it, or see `make pulumi`")
    command = [pulumi, "stack", "output", "--json", "--non-interactive", "--color", "never", "--stack", stack]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"`pulumi stack output` has not answered for {_TIMEOUT_S} s; try it by hand") from None
    if done.returncode != 0:
        raise UsageError(f"stack {stack!r} cannot be read: {_reason(done.stderr)}")
    try:
        outputs = json.loads(done.stdout)
    except ValueError:
        raise UsageError(f"`pulumi stack output` of {stack!r} is not JSON; try it by hand") from None
    return outputs if isinstance(outputs, dict) else {}


def _reason(text: str) -> str:
    """Pulumi's own words: its line that begins with `error:`, else its last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return (errors or lines[-1:] or ["it says no reason"])[0]
