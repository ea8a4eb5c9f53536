"""Many frames sent by one call of the kernel: sendmmsg(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

from .libc import libc


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint))


class Sender:
    """Sends frames with sendmmsg(2), up to :attr:`AT_ONCE` in one call."""

    AT_ONCE = 256

    def __init__(self) -> None:
        self.vectors = (_IoVec * self.AT_ONCE)()
        self.headers = (_MMsgHdr * self.AT_ONCE)()
        base = ctypes.addressof(self.vectors)
        size = ctypes.sizeof(_IoVec)
        for number, message in enumerate(self.headers):
            message.header.iov = base + number * size
            message.header.iovlen = 1
        self.words = memoryview(self.vectors).cast("B").cast("Q")

    def send(self, port: socket.socket, buffer: bytearray | memoryview, lengths: list[int]) -> int:
        """Send back-to-back frames of ``lengths`` from ``buffer``; return how many went out.

        Fewer than asked means that the next one was refused; its error is raised when it is
        the first. The kernel took every frame that is counted.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        done = 0
        position = address
        while done < len(lengths):
            some = lengths[done : done + self.AT_ONCE]
            words = self.words
            for number, length in enumerate(some):
                words[2 * number] = position
                words[2 * number + 1] = length
                position += length
            sent = 0
            while sent < len(some):
                first = ctypes.byref(self.headers, sent * ctypes.sizeof(_MMsgHdr))
                result = libc.sendmmsg(port.fileno(), first, len(some) - sent, 0)
                if result < 0:
                    number = ctypes.get_errno()
                    if number == errno.EINTR:
                        continue
                    if done + sent:
                        return done + sent
                    raise OSError(number, os.strerror(number))
                sent += result
            done += len(some)
        return done
