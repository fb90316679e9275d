"""This machine: open files, libraries, several processes; and the outgoing addresses."""

from __future__ import annotations

import pytest

from bridge.doctor.machine import (
    check_cluster,
    check_files,
    check_libraries,
    check_target,
    judge_cluster,
    judge_files,
    judge_libraries,
)
from tests.kit.doctor import told, tools_for
from tests.kit.server import settings_for

POSTGRES = "postgresql://u:p@db/bridge"
REDIS = "redis://redis:6379/0"


def test_enough_files() -> None:
    assert told(judge_files(20_000, 20_000, 1000, records=False)) == (
        "ok", "20000 allowed, 2256 are needed for 1000 calls", "",
    )  # fmt: skip
    assert told(judge_files(-1, -1, 1000, records=True)) == (
        "ok", "without limit, 3256 are needed for 1000 calls", "",
    )  # fmt: skip


def test_calls_over_sip_need_two_more() -> None:
    assert told(judge_files(20_000, 20_000, 1000, records=True, sip=True)) == (
        "ok", "20000 allowed, 5256 are needed for 1000 calls", "",
    )  # fmt: skip
    assert judge_files(1024, 4096, 1000, records=False, sip=True).seen == (
        "1024 allowed here, enough for 192 calls; BRIDGE_MAX_CALLS is 1000"
    )


async def test_sip_counts_once_a_port_is_set() -> None:
    async with tools_for(BRIDGE_MAX_CALLS="10") as tools:
        assert " 276 are needed for 10 calls" in (await check_files(tools, records=False)).seen
    async with tools_for(BRIDGE_MAX_CALLS="10", SIP_UDP_PORT="5060") as tools:
        assert " 296 are needed for 10 calls" in (await check_files(tools, records=False)).seen


def test_too_few_files() -> None:
    assert told(judge_files(1024, 4096, 1000, records=False)) == (
        "warning",
        "1024 allowed here, enough for 384 calls; BRIDGE_MAX_CALLS is 1000",
        "Give the bridge more: LimitNOFILE=2256 in systemd, --ulimit nofile=2256 in Docker, or ulimit -n 2256. "
        "Or set BRIDGE_MAX_CALLS to 384.",
    )
    assert "(as root: the hard limit is lower, too)" in judge_files(100, 100, 1000, records=False).advice


def test_libraries() -> None:
    assert told(judge_libraries([], [])) == ("ok", "all there", "")
    assert told(judge_libraries(["uvloop"], [])) == (
        "warning",
        "uvloop is missing; the bridge is slower or does not start without",
        "Install the package again: pip install --force-reinstall telephony-bridge.",
    )
    assert told(judge_libraries([], ["boto3"])) == (
        "failed", "boto3 is missing, which the settings need", "Install: pip install 'telephony-bridge[s3]'.",
    )  # fmt: skip


async def test_this_installation_is_whole() -> None:
    given = {"RECORDING": "on", "RECORDING_FORMAT": "mp3", "RECORDING_S3_URL": "s3://bucket"}
    async with tools_for(None, given) as tools:
        assert (await check_libraries(tools, records=True)).seen == "all there"
        assert (await check_files(tools, records=True)).name == "open files"


@pytest.mark.parametrize(
    ("given", "verdict", "seen", "advice"),
    [
        ({}, "ok", "set up for one process; nothing is shared", ""),
        (
            {"INSTANCE_URL": "https://one.example.com"}, "warning", "INSTANCE_URL is set, but nothing is shared",
            "With more than one process set REDIS_URL and DATABASE_URL; with one leave INSTANCE_URL away.",
        ),
        (
            {"DATABASE_URL": POSTGRES}, "warning", "records go to a shared database, but REDIS_URL is not set",
            "With more than one process set REDIS_URL, or each counts its calls alone and limits are exceeded.",
        ),
        (
            {"REDIS_URL": REDIS}, "warning",
            "limits are shared by Redis, but each process keeps records of its own in SQLite",
            "With more than one process set DATABASE_URL to a PostgreSQL that all of them use.",
        ),
        (
            {"REDIS_URL": REDIS, "DATABASE_URL": POSTGRES}, "warning",
            "limits and records are shared, but INSTANCE_URL is not set",
            "With more than one process set INSTANCE_URL to an address by which carriers reach this very one: webhooks "
            "in the middle of a call go there.",
        ),
        (
            {"REDIS_URL": REDIS, "DATABASE_URL": POSTGRES, "INSTANCE_URL": "https://b.example.com",
             "PUBLIC_URL": "https://b.example.com"}, "warning",
            "INSTANCE_URL is the same as PUBLIC_URL, which all processes share",
            "Set INSTANCE_URL to an address of this process alone.",
        ),
        (
            {"REDIS_URL": REDIS, "DATABASE_URL": POSTGRES, "INSTANCE_URL": "https://one.example.com"}, "ok",
            "limits, records and the address of each process are set", "",
        ),
    ],
)  # fmt: skip
async def test_several_processes(given: dict[str, str], verdict: str, seen: str, advice: str) -> None:
    assert told(judge_cluster(settings_for(given))) == (verdict, seen, advice)
    async with tools_for(None, given) as tools:
        assert (await check_cluster(tools)).seen == seen


async def test_targets_are_kept_off_private_networks() -> None:
    async with tools_for(WEBHOOK_URL="http://hooks.example.com/secret-path") as tools:
        finding = await check_target(tools, "webhooks", "WEBHOOK_URL", tools.settings.webhook_url)
        unset = await check_target(tools, "personalization", "PERSONALIZATION_URL", None)
    assert told(finding) == (
        "failed",
        "hooks.example.com: it is not on the public internet, and EGRESS_ALLOW does not open it",
        "If you trust this network, put it into EGRESS_ALLOW.",
    )
    assert told(unset) == ("skipped", "PERSONALIZATION_URL is not set", "")
