"""`python -m mooseng_py.demo`: run the demonstration, print what held, exit 0 only if all of it did."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mooseng_py.demo.containers import Containers, missing, plugin
from mooseng_py.demo.harness import Cluster, CommandFailed, Operated, free_port_offset
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
    parser.add_argument("--containers", action="store_true", help="nine containers by `pulumi up` instead of processes")
    parser.add_argument(
        "--double",
        type=Path,
        default=Path(),
        help="docker provider plugin for tests, used where PATH has no genuine one",
    )
    parser.add_argument("--port-offset", type=int, help="added to every port; a free one is found without it")
    arguments = parser.parse_args()
    console = Console()
    if arguments.containers and (reason := missing()):
        say(console, f"mooseng: {reason}")
        return 1
    base = Path(tempfile.mkdtemp(prefix="mooseng-demo-"))
    offset = free_port_offset() if arguments.port_offset is None else arguments.port_offset
    if arguments.containers:
        return demonstrate(lambda: containers(base, offset, arguments.double, console), base, arguments.keep, console)
    say(
        console,
        f"3 masters, 3 chunkservers and 3 mounts as processes of this machine, in {base}; this takes one to three minutes",
    )
    return demonstrate(lambda: Cluster(base / "cluster", port_offset=offset), base, arguments.keep, console)


def containers(base: Path, offset: int, double: Path, console: Console) -> Containers:
    """Says what they are made by. Raises: CommandFailed."""
    plugins, words = plugin(double)
    made = Containers(base, port_offset=offset, plugins=plugins)
    say(
        console,
        f"3 masters, 3 chunkservers and 3 mounts as containers of Pulumi stack {made.stack.name}; this takes two to five minutes",
    )
    say(console, f"pulumi {made.stack.pulumi('version')} with {words}")
    return made


def demonstrate(make: Callable[[], Operated], base: Path, keep: bool, console: Console) -> int:
    """All steps on a cluster that is gone afterwards; 0 when all of them held."""
    begin = time.monotonic()
    cluster: Operated | None = None
    held = False
    try:
        cluster = make()
        demo = Demonstration(cluster, base)
        held = run_steps(demo, console)
        print_figures(demo, console)
    except CommandFailed as error:
        say(console, f"[red]cannot begin:[/red] {escape(str(error))}")
    except KeyboardInterrupt:
        say(console, "interrupted; stopping the nodes")
    finally:
        if cluster is not None:
            try:
                cluster.down()
            except CommandFailed as error:
                say(console, f"[red]something is left:[/red] {escape(str(error))}")
        if keep or not held:
            logs = f"logs ({cluster.logs}) are" if cluster is not None else "what was made is"
            say(console, f"{logs} kept; remove all with `rm -r {base}`")
        else:
            shutil.rmtree(base)
    console.print(f"{'all steps held' if held else 'a step did not hold'}, {time.monotonic() - begin:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
