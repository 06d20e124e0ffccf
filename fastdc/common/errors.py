"""Define the errors that a user can cause.

Each message states what was found, where, what was expected and what to do. The command line prints it as one line,
without a traceback, and exits with `exit_code`.
"""


class FastDCError(Exception):
    """Base of every error that fastdc raises on purpose."""

    exit_code = 2


class SourceError(FastDCError):
    """A folder or archive of images cannot be used (missing, empty, unreadable image, bad classes)."""


class OutputError(FastDCError):
    """A result cannot be written (exists already, read-only folder, disk full, another writer at work)."""


class BetonError(FastDCError):
    """A `.beton` file is truncated, damaged or not a beton of images and labels."""


class ManifestError(FastDCError):
    """A manifest is missing, damaged, or belongs to another beton."""


class LoaderError(FastDCError):
    """A batch cannot be made: undecodable sample, index out of range, failing stage, no samples."""


class ConfigError(FastDCError):
    """A setting, name or configuration file is unknown or out of range."""


class MethodError(FastDCError):
    """A compression method cannot serve the request (IPC too large, bad scores, missing class)."""


class TeacherError(MethodError):
    """A teacher exists, but its outputs or its image size do not fit the data set."""


class StoreError(FastDCError):
    """The result store cannot be opened (not SQLite, newer schema, damaged)."""


class CheckpointError(FastDCError):
    """A checkpoint is damaged or belongs to another run; training can start over without it."""


class DivergedError(FastDCError):
    """Training reached a loss that is NaN or infinite."""

    exit_code = 1


class WorkerError(FastDCError):
    """A worker process or host of a sweep cannot be started, or was lost."""

    exit_code = 1
