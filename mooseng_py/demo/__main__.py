"""`python -m mooseng_py.demo`: run the demonstration, print what held, exit 0 only if all of it did."""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mooseng_py.demo.harness import Cluster, CommandFailed, free_port_offset
from mooseng_py.demo.steps import STEPS, Demonstration


def run_steps(demo: Demonstration, console: Console) -> bool:
    """Run every step in order; stop at the first that does not hold."""
    for number, (name, step) in enumerate(STEPS, start=1):
        console.print(f"[bold]{number}. {name}[/bold]")
        begin = time.monotonic()
        try:
            seen = step(demo)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is what the step saw
            say(console, f"   [red]does not hold:[/red] {escape(f'{type(error).__name__}: {error}')}")
            return False
        say(console, f"   [green]holds[/green] ({time.monotonic() - begin:.1f} s): {escape(seen)}")
    return True


def say(console: Console, text: str) -> None:
    """One line, however long: the terminal wraps it, and a log keeps it whole."""
    console.print(text, highlight=False, soft_wrap=True)


def print_figures(demo: Demonstration, console: Console) -> None:
    table = Table(title="Times and rates (nine nodes, three copies, durable)")
    table.add_column("what")
    table.add_column("measured", justify="right")
    for name, value in demo.figures:
        table.add_row(name, value)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mooseng_py.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster's directory for a look at logs and data")
    arguments = parser.parse_args()
    console = Console()
    base = Path(tempfile.mkdtemp(prefix="mooseng-demo-"))
    cluster = Cluster(base / "cluster", port_offset=free_port_offset())
    demo = Demonstration(cluster, base)
    say(
        console,
        f"3 masters, 3 chunkservers and 3 mounts as processes of this machine, in {base}; this takes one to three minutes",
    )
    begin = time.monotonic()
    held = False
    try:
        held = run_steps(demo, console)
        print_figures(demo, console)
    except KeyboardInterrupt:
        say(console, "interrupted; stopping the nodes")
    finally:
        with contextlib.suppress(CommandFailed):
            cluster.down()
        if arguments.keep or not held:
            say(console, f"logs (nodes/*/log) and data are kept in {base}/cluster; remove them with `rm -r {base}`")
        else:
            shutil.rmtree(base)
    console.print(f"{'all steps held' if held else 'a step did not hold'}, {time.monotonic() - begin:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
