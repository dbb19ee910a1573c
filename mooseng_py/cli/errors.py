"""What a command raises when its words are wrong."""


class UsageError(Exception):
    """The command does not say enough, or contradicts itself: exit code 2."""
