"""What a simulated SIP end does after a REFER: NOTIFY with the progress, and BYE (RFC 3515 section 2.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.sip.message import Request

if TYPE_CHECKING:
    from bridge.simulators.sip_leg import SipLeg


async def notify(leg: SipLeg, refer: Request) -> None:
    """Tell what becomes of a REFER that was accepted, then hang up if it worked and the options say so."""
    referral = leg.options.referral
    number = (refer.headers.get("CSeq") or "").partition(" ")[0]
    for place, status in enumerate(referral.progress, 1):
        await asyncio.sleep(referral.interval_s)
        if leg.over.is_set():
            return
        is_last = place == len(referral.progress)
        state = "terminated;reason=noresource" if is_last else "active;expires=60"
        fields = [("Event", f"refer;id={number}"), ("Subscription-State", state)]
        fields += [("Content-Type", "message/sipfrag;version=2.0"), ("Contact", leg.dialog.contact)]
        body = f"SIP/2.0 {status} {'OK' if status < 300 else 'Failed'}\r\n".encode()
        response = await leg.ask("NOTIFY", *fields, body=body)
        if response is None or response.status != 200:
            leg.violate("RFC 3515 2.4.4", f"NOTIFY was answered {'never' if response is None else response.status}")
    if referral.hangs_up and (not referral.progress or referral.progress[-1] < 300):
        await asyncio.sleep(referral.interval_s)
        await leg.hang_up("transferred")
