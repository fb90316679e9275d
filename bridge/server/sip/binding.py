"""Sockets bound to their port, or the reason why not, in words for the operator."""

from __future__ import annotations

import errno
import socket

from bridge.errors import ConfigError
from bridge.server.sip.options import Listen
from bridge.sip.flow import Transport

RECEIVE_BUFFER_BYTES = 1024 * 1024
"""What the kernel shall hold while we are busy: a second of 50 calls a second. It may give less."""
BACKLOG = 1024
"""Connections that the kernel completes before we take them: a restart of a busy peer. It may give fewer."""


def open_socket(listen: Listen) -> socket.socket:
    """A bound, non-blocking socket, listening if it is for a stream. Raises ``ConfigError`` naming setting and port."""
    is_udp = listen.transport is Transport.UDP
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # both families can be listened to
        if is_udp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not for UDP: two processes could share it
        sock.setblocking(False)
        sock.bind((listen.host, listen.port))
        if not is_udp:
            sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ConfigError(_why_not(listen, error)) from None
    return sock


def _why_not(listen: Listen, error: OSError) -> str:
    place = f"{listen.setting}: cannot listen on {listen.host} port {listen.port} ({listen.transport.value})"
    if error.errno == errno.EADDRINUSE:
        return f"{place}: another program has it; stop that or set another port"
    if error.errno == errno.EACCES:
        return f"{place}: ports below 1024 need a privilege; set a higher one"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or isinstance(error, socket.gaierror):
        return f"{place}: this machine does not have that address; 0.0.0.0 stands for all of them"
    return f"{place}: {error.strerror}"
