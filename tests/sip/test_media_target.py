from __future__ import annotations

import pytest

from bridge.sip.media_target import media_target
from bridge.sip.rtp_source import Address

PUBLIC, NAT = "8.8.8.8", "1.1.1.1"


@pytest.mark.parametrize(
    ("remote", "peer_host", "target"),
    [
        ((PUBLIC, 4000), NAT, (PUBLIC, 4000)),
        # Behind NAT: a private address from a public peer leads nowhere, or into our own network.
        (("10.1.2.3", 4000), NAT, (NAT, 4000)),
        (("100.64.0.1", 4000), NAT, (NAT, 4000)),
        (("fd00::1", 4000), "2606:4700::1", ("2606:4700::1", 4000)),
        (("169.254.169.254", 4000), NAT, (NAT, 4000)),
        (("127.0.0.1", 4000), NAT, (NAT, 4000)),
        (("127.0.0.1", 4000), "10.0.0.9", ("10.0.0.9", 4000)),
        # A trunk in our own network, or on this machine.
        (("10.1.2.3", 4000), "10.9.9.9", ("10.1.2.3", 4000)),
        (("127.0.0.1", 4000), "127.0.0.1", ("127.0.0.1", 4000)),
        (("10.1.2.3", 4000), "127.0.0.1", ("10.1.2.3", 4000)),
        # Signalling's address is not known.
        (("10.1.2.3", 4000), "", ("10.1.2.3", 4000)),
        # Nothing to send to.
        (None, NAT, None),
        ((PUBLIC, 0), NAT, None),
        (("0.0.0.0", 4000), NAT, None),
        (("::", 4000), NAT, None),
        (("239.1.1.1", 4000), NAT, None),
        (("media.example.com", 4000), NAT, None),
    ],
)
def test_where_packets_may_go(remote: Address | None, peer_host: str, target: Address | None) -> None:
    assert media_target(remote, peer_host) == target
