"""What tasks refuse."""


class DataError(ValueError):
    """Data that are missing, damaged or too few: one line with the file, what was got and expected, what to do."""


class MissingDataError(DataError):
    """Nothing is there of a data set; what is there is not wrong."""


class NetworkError(ValueError):
    """A network that a task cannot learn with: one line with what was got and expected, and what to do."""
