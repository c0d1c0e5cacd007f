"""The errors that the plugin raises on purpose. Each message says what was found, what was
expected and what to do next; nothing here knows about pytest."""


class AblationError(Exception):
    """Base of all errors raised by pytest-ablation."""


class StudyError(AblationError, ValueError):
    """A study, variant or mode is defined in a way that cannot give a fair comparison."""


class Diverged(AblationError):
    """A loss stopped being finite.

    Raised inside the training function by :meth:`pytest_ablation.Run.log` and
    :meth:`pytest_ablation.Run.step`, and caught by the harness, which keeps a record with status
    ``diverged``. A training function should let it pass through.
    """


class UnknownName(AblationError, KeyError):
    """A metric or a verdict of that name does not exist."""

    def __str__(self):  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


def described(error: BaseException) -> str:
    """What an exception is, and what it says: ``ValueError: no such file``, or ``MemoryError``."""
    return ": ".join(filter(None, [type(error).__name__, str(error)]))


class RecordWarning(UserWarning):
    """A kept record could not be used; its run is trained again."""
