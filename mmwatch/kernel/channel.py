"""Passes objects and file descriptors between two processes over a socket."""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("=Q")
_DESCRIPTORS_MAX = 253  # SCM_MAX_FD, include/net/scm.h


def send(to: socket.socket, what: Any, descriptors: Sequence[int] = ()) -> None:
    """Send an object and copies of ``descriptors``.

    :raises OSError: the other side has gone.
    """
    data = pickle.dumps(what)
    socket.send_fds(to, [_LENGTH.pack(len(data))], list(descriptors))
    to.sendall(data)


def receive(of: socket.socket) -> tuple[Any, list[int]]:
    """Receive the next object. It is unpickled, so use this only with a child or the parent of this process.

    :returns: the object, and the descriptors, which are close-on-exec.
    :raises EOFError: the other side has gone.
    """
    head, descriptors, _flags, _address = socket.recv_fds(of, _LENGTH.size, _DESCRIPTORS_MAX)
    for descriptor in descriptors:  # recv_fds drops MSG_CMSG_CLOEXEC
        os.set_inheritable(descriptor, False)
    try:
        if len(head) < _LENGTH.size:
            raise EOFError
        (length,) = _LENGTH.unpack(head)
        data = bytearray()
        while len(data) < length:
            if not (part := of.recv(length - len(data))):
                raise EOFError
            data += part
        return pickle.loads(data), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
