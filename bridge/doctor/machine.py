"""This machine and the outgoing addresses: open files, libraries, several processes, webhooks and personalization.

The limit of open files is the doctor's own; a service manager may give the bridge another one, which is said.

Sources: getrlimit(2); systemd.exec(5), LimitNOFILE.
"""

from __future__ import annotations

import importlib.util
import resource
from urllib.parse import urlsplit

from bridge.config import Settings
from bridge.doctor.findings import Finding, ok, skipped, warning
from bridge.doctor.findings import failed as failed_finding
from bridge.doctor.reach import judge_address, look_at_address
from bridge.doctor.tools import Tools
from bridge.server.store.address import SqliteFile, parse_address

FILES_NAME, LIBRARIES_NAME, CLUSTER_NAME = "open files", "libraries", "several processes"

SOCKETS_PER_CALL = 2
"""Carrier and agent. Over SIP the carrier's may be a connection that it opens for this call alone."""
SIP_SOCKETS_PER_CALL = 2
"""RTP and RTCP, besides."""
FILES_BESIDE_CALLS = 256
"""Database, Redis, HTTP clients, requests of carriers and operators, libraries."""

_LIBRARIES = ("uvloop", "httptools", "picows", "pybase64", "msgspec", "numpy", "soxr", "hiredis", "audioop")


def judge_files(limit: int, hard_limit: int, max_calls: int, *, records: bool, sip: bool = False) -> Finding:
    """Whether so many calls find enough open files; a negative limit is none. ``sip``: all may come over SIP."""
    per_call = SOCKETS_PER_CALL + records + (SIP_SOCKETS_PER_CALL if sip else 0)
    need = max_calls * per_call + FILES_BESIDE_CALLS
    if limit < 0 or limit >= need:
        shown = "without limit" if limit < 0 else f"{limit} allowed"
        return ok(FILES_NAME, f"{shown}, {need} are needed for {max_calls} calls")
    calls = max(0, (limit - FILES_BESIDE_CALLS) // per_call)
    how = f"LimitNOFILE={need} in systemd, --ulimit nofile={need} in Docker, or ulimit -n {need}"
    rights = "" if hard_limit < 0 or hard_limit >= need else " (as root: the hard limit is lower, too)"
    return warning(
        FILES_NAME,
        f"{limit} allowed here, enough for {calls} calls; BRIDGE_MAX_CALLS is {max_calls}",
        f"Give the bridge more: {how}{rights}. Or set BRIDGE_MAX_CALLS to {max(calls, 1)}.",
    )


async def check_files(tools: Tools, *, records: bool) -> Finding:
    """The limit of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    limits = [-1 if each == unlimited else each for each in (soft, hard)]
    settings = tools.settings
    return judge_files(limits[0], limits[1], settings.bridge_max_calls, records=records, sip=settings.has_sip)


def judge_libraries(missing: list[str], wanted: list[str]) -> Finding:
    """``missing``: absent though every installation has them; ``wanted``: absent though the settings need them."""
    if wanted:
        mends = {"boto3": "pip install 'telephony-bridge[s3]'", "lameenc": "pip install 'telephony-bridge[mp3]'"}
        return failed_finding(
            LIBRARIES_NAME,
            f"{', '.join(wanted)} is missing, which the settings need",
            f"Install: {'; '.join(mends[name] for name in wanted)}.",
        )
    if missing:
        return warning(
            LIBRARIES_NAME,
            f"{', '.join(missing)} is missing; the bridge is slower or does not start without",
            "Install the package again: pip install --force-reinstall telephony-bridge.",
        )
    return ok(LIBRARIES_NAME, "all there")


async def check_libraries(tools: Tools, *, records: bool) -> Finding:
    """Libraries by what is set."""
    settings = tools.settings
    wanted = [
        name
        for name, needed in (
            ("boto3", records and settings.recording_bucket is not None),
            ("lameenc", records and settings.recording_format == "mp3"),
        )
        if needed
    ]
    return judge_libraries(_absent(_LIBRARIES), _absent(wanted))


def _absent(names: tuple[str, ...] | list[str]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


# --- several processes -----------------------------------------------------------------------------------


def judge_cluster(settings: Settings) -> Finding:
    """Whether what several processes must share is shared, as far as settings tell."""
    url = settings.database_url
    address = parse_address(None if url is None else url.get_secret_value(), settings.data_dir)
    own_records = isinstance(address, SqliteFile)
    if settings.redis_url is None and not own_records:
        return warning(
            CLUSTER_NAME,
            "records go to a shared database, but REDIS_URL is not set",
            "With more than one process set REDIS_URL, or each counts its calls alone and limits are exceeded.",
        )
    if settings.redis_url is None:
        if settings.instance_url is not None:
            return warning(
                CLUSTER_NAME,
                "INSTANCE_URL is set, but nothing is shared",
                "With more than one process set REDIS_URL and DATABASE_URL; with one leave INSTANCE_URL away.",
            )
        return ok(CLUSTER_NAME, "set up for one process; nothing is shared")
    if own_records:
        return warning(
            CLUSTER_NAME,
            "limits are shared by Redis, but each process keeps records of its own in SQLite",
            "With more than one process set DATABASE_URL to a PostgreSQL that all of them use.",
        )
    if settings.instance_url is None:
        return warning(
            CLUSTER_NAME,
            "limits and records are shared, but INSTANCE_URL is not set",
            "With more than one process set INSTANCE_URL to an address by which carriers reach this very one: webhooks "
            "in the middle of a call go there.",
        )
    if settings.instance_url == settings.public_url:
        return warning(
            CLUSTER_NAME,
            "INSTANCE_URL is the same as PUBLIC_URL, which all processes share",
            "Set INSTANCE_URL to an address of this process alone.",
        )
    return ok(CLUSTER_NAME, "limits, records and the address of each process are set")


async def check_cluster(tools: Tools) -> Finding:
    """From the settings alone."""
    return judge_cluster(tools.settings)


# --- addresses that the bridge asks ----------------------------------------------------------------------


async def check_target(tools: Tools, name: str, setting: str, url: str | None) -> Finding:
    """An address that outgoing requests go to: name, guard, port, TLS. No request is made."""
    if url is None:
        return skipped(name, f"{setting} is not set")
    reached = await look_at_address(url, tools.tls, tools.resolver, allow=tools.settings.egress_allow)
    return judge_address(name, setting, urlsplit(url).hostname or "", reached, tools.unix())
