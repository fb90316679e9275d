"""The exceptions of this package: who broke the rules, we or they.

BridgeError
 +-- LocalError    our own code misused an object: always a bug, never caused by what a peer sends
 +-- RemoteError   a peer broke its protocol: caught where the peer is fed, turned into an ``Ended`` event
 +-- ConfigError   the operator's settings do not work: shown once, at start, with the mend
"""

from __future__ import annotations


class BridgeError(Exception):
    """Base of every exception that this package raises on purpose."""


class LocalError(BridgeError):
    """Our own misuse of an object (a command in the wrong state, a payload of the wrong size)."""


class RemoteError(BridgeError):
    """A peer sent something its protocol does not allow; the message names the field and the problem."""


class ConfigError(BridgeError):
    """Settings that do not work; the message lists every mistake with the setting's name and the mend."""
