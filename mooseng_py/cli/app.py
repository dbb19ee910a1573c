"""The commands that people type. Each prints for people, or JSON with --json; a failure is one sentence and exit code 1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from mooseng_py import __version__
from mooseng_py.config import ConfigError
from mooseng_py.errors import MooseError
from mooseng_py.local import LocalError

from . import cluster, files
from .connection import selected_stack
from .errors import UsageError
from .local import local
from .output import fail, print_json

app = typer.Typer(
    name="mooseng",
    help="MooseNG: a distributed file system.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(local, name="local")
cluster.register(app)
files.register(app)


@app.callback()
def options(
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack", metavar="NAME", help="The cluster of this Pulumi stack; wins over --masters and --dir."
        ),
    ] = None,
) -> None:
    """MooseNG: a distributed file system."""
    selected_stack.set(stack)


@app.command()
def version(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """The version of this software."""
    print_json({"version": __version__}) if as_json else print(f"mooseng {__version__}")


def _elsewhere(name: str, help: str) -> None:
    """List a command that `main` runs without coming here."""

    @app.command(
        name,
        help=help,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )
    def forward(context: typer.Context) -> None:
        from .main import main

        raise typer.Exit(main([name, *context.args]))


_elsewhere("master", "Run a master in the foreground (--config FILE; --help lists every setting).")
_elsewhere("chunkserver", "Run a chunkserver in the foreground.")
_elsewhere("mount", "Run a FUSE client in the foreground.")
_elsewhere("dashboard", "Run the web dashboard in the foreground (--masters HOST:PORT,...).")
_elsewhere("health", "Is a daemon alive (--live) or ready (--ready)? For container checks.")


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command."""
    try:
        typer.main.get_command(app)(list(arguments), prog_name="mooseng")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (ConfigError, UsageError) as error:
        fail(str(error))
        return 2
    except LocalError as error:
        fail(str(error))
        return 1
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        fail(_sentence(error))
        return 1
    return 0


def _sentence(error: OSError) -> str:
    text = error.strerror or str(error)
    if error.filename is None:
        return text
    name = os.fsdecode(error.filename)
    kind = "" if isinstance(error, MooseError) else "local file "
    return text if name in text else f"{kind}{name}: {text}"
