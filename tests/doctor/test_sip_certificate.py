"""The bridge's own certificate for SIP: files, dates, names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bridge.doctor.sip_certificate import (
    CertificateSeen,
    check_certificate,
    client_context,
    judge_certificate,
    look_at_files,
    names_leading_here,
)
from bridge.server.sip.options import TlsOptions
from tests.kit.doctor import new_authority, told, tools_for
from tests.kit.server import settings_for

NOW = 1_800_000_000.0
DAY = 86_400.0
GOOD = CertificateSeen("", NOW - DAY, NOW + 60.5 * DAY, ("sip.example.com",), ("sip.example.com",))


def judged(**changes: object) -> tuple[str, str, str]:
    members = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    return told(judge_certificate(CertificateSeen(**{**members, **changes}), "54.1.2.3", NOW))


def test_a_certificate_that_is_well() -> None:
    assert judged() == ("ok", "good for 60 days, for sip.example.com", "")
    assert judged(names=("*.example.com",), leading_here=())[0] == "ok", "which of these trunks call cannot be seen"


@pytest.mark.parametrize(
    ("changes", "verdict", "seen", "advice"),
    [
        (
            {"problem": "SIP_TLS_CERT: the file cannot be read (No such file or directory)"}, "failed",
            "SIP_TLS_CERT: the file cannot be read (No such file or directory)",
            "Mend the file; the bridge does not start without it.",
        ),
        (
            {"begins_unix_s": NOW + 1}, "failed", "it is not valid yet",
            "Set this machine's clock; if it is right, have it issued again.",
        ),
        (
            {"expires_unix_s": NOW - 1}, "failed", "it has expired",
            "Renew it; the bridge takes the new files by itself in half a minute.",
        ),
        (
            {"expires_unix_s": NOW + 20.9 * DAY}, "warning", "good for 20 days, for sip.example.com",
            "Renew it now; see why it is not automatic. No restart is needed.",
        ),
        (
            {"names": (), "leading_here": ()}, "warning",
            "good for 60 days, but names no host in subjectAltName; peers look there only",
            "Have it issued again, for the name that trunks call.",
        ),
        (
            {"is_self_signed": True}, "warning", "good for 60 days, for sip.example.com, signed by itself",
            "Get one from a public authority; carriers refuse others, unless they were given this one.",
        ),
        (
            {"leading_here": ()}, "warning",
            "good for 60 days, for sip.example.com; from here none of these leads to 54.1.2.3",
            "Have trunks call one of these names, and have it lead to 54.1.2.3; peers that check refuse others.",
        ),
    ],
)  # fmt: skip
def test_certificates_that_are_not(changes: dict[str, object], verdict: str, seen: str, advice: str) -> None:
    assert judged(**changes) == (verdict, seen, advice)


def test_twenty_one_days_are_enough() -> None:
    assert judged(expires_unix_s=NOW + 21 * DAY)[0] == "ok"


# --- files -----------------------------------------------------------------------------------------------


def test_what_is_in_the_files(tmp_path: Path) -> None:
    authority = new_authority()
    seen = look_at_files(TlsOptions(authority.certificate_file(tmp_path, "sip.example.com", 30.0)))
    assert (seen.problem, seen.names, seen.is_self_signed) == ("", ("sip.example.com",), False)
    assert 29 < (seen.expires_unix_s - time.time()) / DAY < 31
    assert 99 < (time.time() - seen.begins_unix_s) / DAY < 101
    assert look_at_files(TlsOptions(authority.certificate_file(tmp_path, "192.0.2.7"))).names == ("192.0.2.7",)
    own = look_at_files(TlsOptions(authority.certificate_file(tmp_path, "", trusted=False)))
    assert (own.names, own.is_self_signed) == ((), True)


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    authority = new_authority()
    mine, other = (authority.certificate_file(tmp_path, name) for name in ("a.example.com", "b.example.com"))
    seen = look_at_files(TlsOptions(mine, other))
    assert seen.problem.startswith("SIP_TLS_KEY: certificate and key do not work together")


def test_trunks_are_called_with_the_files_or_not_at_all(tmp_path: Path) -> None:
    assert client_context(settings_for({})) is not None
    assert client_context(settings_for({"SIP_TLS_CA": str(tmp_path / "missing.pem")})) is None


# --- names -----------------------------------------------------------------------------------------------


async def test_names_are_looked_up() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        if host == "gone.example.com":
            raise OSError
        return ["54.9.9.9", "54.1.2.3"] if host == "sip.example.com" else ["54.9.9.9"]

    names = ("sip.example.com", "gone.example.com", "www.example.com", "54.1.2.3", "54.9.9.9", "*.example.com")
    async with tools_for() as tools:
        tools.resolver = resolver
        assert await names_leading_here(tools, names, "54.1.2.3") == ("sip.example.com", "54.1.2.3")


async def test_the_certificate_of_the_settings(tmp_path: Path) -> None:
    path = str(new_authority().certificate_file(tmp_path, "127.0.0.1"))
    async with tools_for(SIP_TLS_PORT="5061", SIP_TLS_CERT=path) as tools:
        finding = await check_certificate(tools)
    assert told(finding) == ("ok", "good for 90 days, for 127.0.0.1", "")
    async with tools_for(SIP_TLS_PORT="5061", SIP_TLS_CERT=str(tmp_path / "none.pem")) as tools:
        missing = await check_certificate(tools)
    assert (missing.verdict.value, missing.seen) == (
        "failed", "SIP_TLS_CERT: the file cannot be read (No such file or directory)",
    )  # fmt: skip
    async with tools_for(SIP_UDP_PORT="5060") as tools:
        assert told(await check_certificate(tools)) == (
            "skipped", "SIP_TLS_CERT is not set: no SIP over TLS", "",
        )  # fmt: skip
