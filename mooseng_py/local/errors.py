"""The one error of the local runner."""


class LocalError(Exception):
    """A local cluster cannot do what was asked: one sentence with the reason and the mend."""
