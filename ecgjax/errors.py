"""The one error that is the user's to mend; everything else is ours."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Bad usage, config or input.

    The message is one line that names the culprit (file, record, key or config field) and what was expected.
    Commands print it to stderr without a traceback and exit with 2.
    """


@contextmanager
def disk_errors(path: object) -> Iterator[None]:
    """Turns a full disk, a full quota or a file that may not be written at `path` into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"{path}: no space left to write; free space and start the same command again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"{path}: cannot be written ({error.strerror}); expected a writable place") from error
        raise
