"""A trunk-side SIP user agent, sans-I/O: bytes, time and ids are arguments, sockets are in ``bridge.server``.

Why the grammar is our own: the one maintained pure Python library for it (sipmessage 0.7.1, BSD-2, a 17 kB wheel
without dependencies) was tried with all 49 messages of RFC 4475. It rejects six valid ones (folded lines, URIs with
headers, unknown URI schemes), loses hops of a seventh (a blank before the colon), takes eight invalid ones (content
length negative, too long or twice, methods that differ, numbers out of range, a required header twice) and does no
framing at all. A layer in front of it would have to unfold, trim, frame, compare and re-parse, which is most of a
parser, and would leave two places that read the same bytes differently. Our own is the smaller and the safer way.

The way of a message: ``framing`` cuts bytes off a datagram or stream, ``parse`` makes a ``Request`` or ``Response``
of them (raising ``NotSip`` where nothing may be answered), ``envelope`` reads the headers that every message needs
(or says with which status to reject it), ``abilities`` says what this user agent does not do.
"""
