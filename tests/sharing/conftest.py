"""Some of these tests mount images: they are undone also when the tests are told to stop."""

from tests.faults.conftest import _a_polite_kill_still_undoes_everything  # noqa: F401  # a fixture that is used by itself
