"""A lock on a cell's directory, which the kernel gives up when its process ends, however it ends."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgjax.errors import UserError, disk_errors

FILE = "LOCK"


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Yields whether the folder's lock was free; if so, it is held meanwhile.

    The file stays: removing it would let two processes lock two files of one name. It says who had it last.

    Raises:
        UserError: the folder cannot be written, or its file system has no locks.
    """
    with disk_errors(folder):
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _locked(descriptor, folder):
            yield False
            return
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode())
        yield True
    finally:
        os.close(descriptor)  # which unlocks


def _locked(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            raise UserError(f"{folder}: its file system has no locks ({error.strerror}); expected one with") from error
        raise
    return True
