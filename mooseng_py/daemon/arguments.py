"""The command line of a daemon: `--config FILE` and one flag per setting. Prints help; opens nothing but the file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mooseng_py.config import DaemonConfig, load
from mooseng_py.config.models import allowed

ConfigT = TypeVar("ConfigT", bound=DaemonConfig)


def parse(model: type[ConfigT], arguments: Sequence[str], environ: Mapping[str, str]) -> ConfigT:
    """The settings of this daemon.

    Raises: ConfigError; SystemExit for --help (0) and for words that are no flags (2).
    """
    parser = argparse.ArgumentParser(
        prog=f"mooseng {model.role}",
        description=(model.__doc__ or "").strip(),
        epilog="Each setting may also stand in the file (its name with _) or in the environment (MOOSENG_NAME). Flags win, then the environment.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name, field in model.model_fields.items():
        default = "" if field.is_required() or field.default in (None, "") else f" Default: {field.default}."
        words = f"{field.description} It is {allowed(model, name)}.{default}"
        parser.add_argument("--" + name.replace("_", "-"), metavar="VALUE", help=words.replace("%", "%%"))
    given = vars(parser.parse_args(arguments))
    file = given.pop("config")
    return load(
        model, file=file, environ=environ, flags={name: text for name, text in given.items() if text is not None}
    )
