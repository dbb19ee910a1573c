"""The one error of a wrong configuration."""


class ConfigError(Exception):
    """A key or value is wrong: the message is one sentence naming its place, the key and what is allowed. Exit code 2."""

    exit_code = 2
