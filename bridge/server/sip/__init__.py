"""The sockets of the SIP user agent: they carry what ``bridge.sip`` decides, and find the way to a peer's name.

``Transports`` (transports) is the way in for signalling: ``udp`` holds the datagram sockets, ``streams`` and
``connection`` those of TCP and TLS, ``tls`` the certificates, ``limits`` what a single address may ask for, and
``resolver`` turns names into addresses. Messages come out of it parsed and stamped; nothing here knows a call.
"""
