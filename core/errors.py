"""The exceptions for bad input and failed jobs, how a sentence quotes values, and a check of many."""

import sys


class InputError(ValueError):
    """Bad input, told in one sentence: what is wrong, the offending value, the remedy.

    The command line prints it and exits with 2; a page shows it as it is.
    """


class JobError(RuntimeError):
    """A job that ended without a result and by no fault of its input: its sentence is told as it is."""


def quoted(value: object) -> str:
    """A value as a sentence can quote it: its repr, cut after 200 characters."""
    whole = repr(value)
    return whole if len(whole) <= 200 else whole[:197] + "..."


def first_line(error: Exception, length: int = 160) -> str:
    """What an exception says, as a sentence can hold it: the first line of it, without a full stop."""
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:length].rstrip(".")


def is_weight(value: object) -> bool:
    """Whether it can be a weight: a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
