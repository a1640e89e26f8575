"""The one exception for bad input, and the sentences several parts share."""


class InputError(ValueError):
    """Bad input, told in one sentence: what is wrong, the offending value, the remedy.

    The command line prints it and exits with 2; a page shows it as it is.
    """
