"""Says where memory is short when mmwatch gets none."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from mmwatch.errors import OutOfMemoryError


@contextlib.contextmanager
def told_where_memory_is_short() -> Iterator[None]:
    """:raises OutOfMemoryError: with the cgroup whose limit is to blame."""
    try:
        yield
    except (OutOfMemoryError, MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        from mmwatch.host.cgroup_memory import shortage

        what = error.message if isinstance(error, OutOfMemoryError) else "too little memory to start"
        raise OutOfMemoryError(what, shortage()) from error
