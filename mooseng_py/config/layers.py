"""Put the layers of a configuration together, and turn every mistake into one sentence that says where it stands.

Reads one file and the mapping it is given; touches nothing else.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import ConfigError
from .models import MODELS, DaemonConfig, allowed, schema_of

_PREFIX = "MOOSENG_"
# Variables that other parts of MooseNG read.
_FOREIGN = ("MOOSENG_MASTERS", "MOOSENG_DIR", "MOOSENG_LEVEL", "MOOSENG_FAULT", "MOOSENG_TEST_", "MOOSENG_BENCH_")

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

ConfigT = TypeVar("ConfigT", bound=DaemonConfig)


def load(
    model: type[ConfigT],
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> ConfigT:
    """The settings of one daemon; later layers win, key by key.

    `flags` maps field names to texts. Raises: ConfigError.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        for key, value in read_file(file, model.role).items():
            _known(model, key, key, str(file))
            values[key], origin[key] = value, str(file)
    for variable, text in sorted((environ or {}).items()):
        if variable.startswith(_PREFIX) and (field := _variable_key(model, variable)):
            place = f"the environment ({variable})"
            values[field], origin[field] = parse_text(model, field, text, place), place
    for key, text in (flags or {}).items():
        flag = "--" + key.replace("_", "-")
        _known(model, key, flag, "the command line")
        place = f"the command line ({flag})"
        values[key], origin[key] = parse_text(model, key, text, place), place
    return _validated(model, values, origin, str(file) if file else "the command line")


def check_text(model: type[ConfigT], text: str, place: str) -> ConfigT:
    """The settings that a TOML text gives on its own; `place` names it in errors. Raises: ConfigError."""
    values = _checked_role(_toml(text, place), model.role, place)
    for key in values:
        _known(model, key, key, place)
    return _validated(model, values, {}, place)


def read_file(file: str | Path, role: str | None = None) -> dict[str, Any]:
    """The keys of a TOML file, `role` checked and taken out. With role None the file's own is kept. Raises: ConfigError."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name an existing file with --config") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from None
    values = _toml(text, str(file))
    return values if role is None else _checked_role(values, role, str(file))


def _toml(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place}: is not TOML: {error}") from None


def _checked_role(values: dict[str, Any], role: str, place: str) -> dict[str, Any]:
    found = values.pop("role", role)
    if found != role:
        raise ConfigError(
            f"{place}: key 'role' is {found!r}, but this is a {role}; run `mooseng {found}` or name another file"
        )
    return values


def _validated(model: type[ConfigT], values: dict[str, Any], origin: Mapping[str, str], fallback: str) -> ConfigT:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(model, error, origin, fallback)) from None


def _variable_key(model: type[DaemonConfig], variable: str) -> str | None:
    """The field that an environment variable sets; None when it belongs to another role or part."""
    key = variable.removeprefix(_PREFIX).lower()
    if key in model.model_fields:
        return key
    if variable.startswith(_FOREIGN) or any(key in other.model_fields for other in MODELS.values()):
        return None
    raise ConfigError(_unknown(model, variable, key, "the environment", prefix=_PREFIX, upper=True))


def _known(model: type[BaseModel], key: str, shown: str, place: str) -> None:
    if key not in model.model_fields:
        raise ConfigError(_unknown(model, shown, key, place))


def _unknown(model: type[BaseModel], shown: str, key: str, place: str, prefix: str = "", upper: bool = False) -> str:
    keys = list(model.model_fields)
    close = difflib.get_close_matches(key, keys, n=1)
    names = [prefix + (name.upper() if upper else name) for name in keys]
    hint = f"did you mean {prefix + (close[0].upper() if upper else close[0])!r}? " if close else ""
    return f"{place}: key {shown!r} is unknown; {hint}allowed keys: {', '.join(names)}"


def parse_text(model: type[BaseModel], key: str, text: str, place: str) -> Any:
    """The value that a text from the environment or a flag stands for; checked further by the model. Raises: ConfigError."""
    _known(model, key, key, place)
    kind = schema_of(model, key).get("type")
    if kind == "string":
        return text
    if kind == "boolean" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if kind == "integer" and text.removeprefix("-").replace("_", "").isdecimal():
        return int(text)
    items = [item.strip() for item in text.split(",") if item.strip()]
    if kind == "array":
        return items
    if kind == "object" and all("=" in item for item in items):
        return {left.strip(): right.strip() for left, _, right in (item.partition("=") for item in items)}
    raise ConfigError(f"{place}: key {key!r} is {text!r}; allowed is {allowed(model, key)}")


def _sentence(model: type[BaseModel], error: ValidationError, origin: Mapping[str, str], fallback: str) -> str:
    """The first mistake, as one sentence: place, key, value, what is allowed."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"{fallback}: {first['msg'].removeprefix('Value error, ')}"
    key = str(first["loc"][0])
    if first["type"] == "missing":
        flag = key.replace("_", "-")
        return f"{fallback}: key {key!r} is missing; it is {allowed(model, key)}, set there, by {_PREFIX}{key.upper()} or --{flag}"
    where = key + "".join(f"[{part!r}]" for part in first["loc"][1:])
    what = first["msg"].removeprefix("Value error, ") if first["type"] == "value_error" else allowed(model, key)
    return f"{origin.get(key, fallback)}: key {where!r} is {first['input']!r}; allowed is {what}"
