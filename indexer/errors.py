"""The exception tree: one root, and messages that say what, which value and what to do.

Everything a user can get wrong ends in a subclass of `FailsearchError`. The command line prints
the message as one line and leaves with code 2, so a message never spans lines.
"""


class FailsearchError(Exception):
    """Root of all errors a user can mend. `str(error)` is one line: cause, value and way out."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class DataError(FailsearchError):
    """A data set that cannot be read as a whole: missing path, no images, no label column."""


class RejectedImageError(FailsearchError):
    """One image or row that cannot be used. The run records it under its id and goes on."""


class ModelError(FailsearchError):
    """A model that cannot be loaded, or cannot be used as a classifier of the given data."""


class UntrustedModelError(ModelError):
    """An index whose model is a module that this user never named; says what would be imported."""


class UnsupportedLayerError(ModelError):
    """A parametrised layer whose per-sample gradient is not defined; names layer and way out."""


class ClassMapError(FailsearchError):
    """Class names of data set and model that do not fit together; shows both lists."""


class StoreError(FailsearchError):
    """A database that cannot be opened, read or written."""


class AbsentError(StoreError):
    """What is not there, or not yet: an index, a table, modes, findings; says how to make it."""


class DiskFullError(StoreError):
    """No room for what was to be written; what was there before is untouched."""


class LockedError(StoreError):
    """Another process is writing to the database; names the holder."""


class IncompatibleIndexError(StoreError):
    """An index made by another model, transform, layout or newer schema; names the difference."""


class ChangedWeightsError(IncompatibleIndexError):
    """A model whose weights are not those that were indexed.

    Attributes:
        digest: of the weights that it has now.
        source: where they came from, as a user named it.
        file: what a patch can be taken off: a folder or file; None where it is not known.
    """

    def __init__(self, message: str, *, digest: str, source: str, file: str | None) -> None:
        super().__init__(message)
        self.digest, self.source, self.file = digest, source, file


class UnknownSampleError(FailsearchError):
    """An id (of a sample, mode or repair) that the index does not hold."""


class FilterError(FailsearchError):
    """A `--filter` expression that does not parse or names a column the index lacks."""


class SettingError(FailsearchError):
    """An option outside its range."""


class FailsearchWarning(UserWarning):
    """Root of what a user should hear of and need not mend; the text is one line."""


class AuditWarning(FailsearchWarning):
    """A part of an audit that came to nothing; says what is shown instead."""


class StoreWarning(FailsearchWarning):
    """A database that was damaged and mended on opening; says what was set aside."""
