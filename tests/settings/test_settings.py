"""The settings by topic: what each takes, what it becomes, and the words for what it does not take."""

from __future__ import annotations

import ipaddress
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from bridge.auth.api_keys import ApiKey, Scope
from bridge.calls.keypad import KeypadMode, KeypadOptions
from bridge.calls.webhooks import ALL_EVENTS
from bridge.config import Settings, is_secret, load_settings
from bridge.errors import ConfigError, LocalError
from bridge.settings.base import Topic, facts_of

UUID = "d7934305-0972-4844-938e-9060eef73d05"
ACCOUNT, OTHER_ACCOUNT, API_KEY = "AC" + "0" * 32, "AC" + "1" * 32, "SK" + "a" * 32


def pem_of(key: PrivateKeyTypes, password: bytes | None = None) -> str:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


_RSA = rsa.generate_private_key(65537, 2048)
RSA_PEM = pem_of(_RSA)
LOCKED_PEM = pem_of(_RSA, b"hunter2")
EC_PEM = pem_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistakes(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


# --- what is taken -------------------------------------------------------------------------------------------


def test_the_defaults_of_the_new_settings() -> None:
    settings = load_settings({})
    assert (settings.instance_id, settings.timezone, settings.zone) == (None, "UTC", UTC)
    assert (settings.redact_numbers, settings.redact_dtmf, settings.burst, settings.recording) == (False,) * 4
    assert (settings.redis_url, settings.redis_prefix, settings.limits_when_redis_down) == (None, "bridge", "fail_open")
    assert (settings.agent_concurrency, settings.agent_daily_limit, settings.burst_cap) == (-1, None, 300)
    assert (settings.burst_minutes_per_day, settings.calls_per_second_per_source) == (None, None)
    assert (settings.overflow, settings.overflow_queue_s, settings.overflow_divert_to) == ("reject", 60.0, None)
    assert (settings.retention_records_days, settings.retention_transcripts_days) == (90.0, 30.0)
    assert (settings.retention_audio_days, settings.recording_format, settings.recording_bucket) == (30.0, "wav", None)
    assert (settings.personalization_timeout_s, settings.personalization_on_failure) == (3.0, "continue")
    assert (settings.webhook_events, settings.webhook_max_age_h, settings.egress_allow) == (ALL_EVENTS, 24.0, ())
    assert (settings.api_keys, settings.webhook_signing_secret, settings.elevenlabs_webhook_secrets) == ((), "", ())
    assert (settings.webhook_header_map, settings.personalization_header_map) == ({}, {})
    assert (settings.carrier_options, settings.genesys_output_wait_s) == (
        {"genesys_when_full": "retry", "sip_when_full": "busy"},
        5.0,
    )


def test_the_defaults_of_what_agents_and_callers_do() -> None:
    settings = load_settings({})
    assert settings.keypad_options == KeypadOptions(KeypadMode.MESSAGE, 2.0, 0, "#", False)
    assert (settings.dtmf_inband, settings.dtmf_webhook_url, settings.dtmf_webhook_header_map) == (False, None, {})
    assert (settings.tool_name_map, settings.tool_timeout_s, settings.transfer_allow) == ({}, 20.0, ())
    assert (settings.transfer_type, settings.transfer_ring_s, settings.transfer_accept_key) == ("auto", 30, "")
    assert settings.transfer_machine_detection is True
    assert (settings.outbound_ring_s, settings.machine_detection) == (60, "off")
    assert (settings.voicemail_action, settings.voicemail_message, settings.voicemail_audio) == ("continue", None, None)
    assert (settings.agent_reconnect, settings.agent_reconnect_s, settings.fallback_to) == (True, 2.0, None)
    assert (settings.apology_audio, settings.elevenlabs_voice_id) == (None, None)
    assert (settings.flight_recorder, settings.flight_recorder_kb, settings.flight_audio) == ("off", 512, False)
    assert settings.retention_flights_days == 30


def test_the_defaults_of_the_carriers_interfaces() -> None:
    settings = load_settings({})
    assert (settings.twilio_api_base_url, settings.vonage_api_base_url) == (
        "https://api.twilio.com",
        "https://api.nexmo.com",
    )
    assert (settings.twilio_edge, settings.twilio_region, settings.twilio_calls_per_second) == (None, None, 1.0)
    assert (settings.twilio_from_numbers, settings.vonage_from_numbers) == ((), ())
    assert (settings.twilio_rest_credentials, settings.carrier_request_timeout_s) == (None, 5.0)
    assert (settings.vonage_application_id, settings.vonage_private_key) == (None, None)
    assert (settings.vonage_signature_secrets, settings.vonage_webhook_allow) == ((), ())
    assert (settings.vonage_topology, settings.vonage_rate_hz) == ("direct", 16000)


@pytest.mark.parametrize(
    ("plan", "calls"),
    [("free", 4), ("Starter", 6), ("creator", 10), ("PRO", 20), ("scale", 30), ("business", 30), ("77", 77)],
)
def test_a_plan_stands_for_its_limit(plan: str, calls: int) -> None:
    assert load_settings({"WORKSPACE_CONCURRENCY": plan}).workspace_concurrency == calls


def test_a_limit_may_be_given_as_a_number() -> None:
    assert Settings(workspace_concurrency=5).workspace_concurrency == 5


def test_api_keys_have_a_scope() -> None:
    settings = load_settings({"BRIDGE_API_KEY": "one, read:two,admin:three"})
    assert settings.api_keys == (
        ApiKey(Scope.ADMIN, "one"),
        ApiKey(Scope.READ, "two"),
        ApiKey(Scope.ADMIN, "three"),
    )


def test_a_time_zone_of_the_iana_list() -> None:
    assert load_settings({"TIMEZONE": "Europe/Berlin"}).zone == ZoneInfo("Europe/Berlin")
    assert load_settings({"TIMEZONE": "utc"}).zone is UTC


@pytest.mark.parametrize("word", ["on", "ON", "true", "1", "yes"])
def test_switches_are_truth_values(word: str) -> None:
    settings = load_settings({"RECORDING": word, "REDACT_NUMBERS": "off"})
    assert settings.recording is True
    assert settings.redact_numbers is False


@pytest.mark.parametrize("url", ["redis://h:6379/0", "rediss://:pw@h/1", "unix:///run/redis.sock", "redis://[::1]"])
def test_addresses_of_a_redis(url: str) -> None:
    assert load_settings({"REDIS_URL": url}).redis_url == SecretStr(url)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p@h/db", "postgres://h/db", "postgresql+asyncpg://h:5432/db", "sqlite:///a.db", "sqlite:////a/b"],
)
def test_addresses_of_a_database(url: str) -> None:
    assert load_settings({"DATABASE_URL": url}).database_url == SecretStr(url)


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://calls", ("calls", "")),
        ("s3://calls/", ("calls", "")),
        ("s3://my.calls-1/a/b/", ("my.calls-1", "a/b")),
    ],
)
def test_a_bucket_has_a_name_and_a_prefix(url: str, bucket: tuple[str, str]) -> None:
    assert load_settings({"RECORDING_S3_URL": url}).recording_bucket == bucket


@pytest.mark.parametrize(
    ("given", "target"),
    [("+49 30 123456", "+4930123456"), ("0049 30/123456", "+4930123456"), ("sip:desk@pbx:5070", "sip:desk@pbx:5070")],
)
def test_where_callers_are_diverted(given: str, target: str) -> None:
    assert load_settings({"OVERFLOW": "divert", "OVERFLOW_DIVERT_TO": given}).overflow_divert_to == target


def test_hold_audio_is_a_file_that_is_there(empty_folder: Path) -> None:
    (empty_folder / "hold.wav").write_bytes(b"RIFF")
    assert load_settings({"HOLD_AUDIO": "hold.wav"}).hold_audio == Path("hold.wav")


def test_headers_are_a_json_object() -> None:
    settings = load_settings(
        {"PERSONALIZATION_HEADERS": '{"X-Api-Key": "hunter2"}', "WEBHOOK_HEADERS": '{"Authorization":"Bearer hunter3"}'}
    )
    assert settings.personalization_header_map == {"X-Api-Key": "hunter2"}
    assert settings.webhook_header_map == {"Authorization": "Bearer hunter3"}
    assert "hunter" not in repr(settings)


def test_what_comes_in_has_a_ring_of_secrets_and_what_goes_out_has_one() -> None:
    settings = load_settings({"WEBHOOK_SECRET": "one,secret", "ELEVENLABS_WEBHOOK_SECRET": "new,old"})
    assert (settings.webhook_signing_secret, settings.elevenlabs_webhook_secrets) == ("one,secret", ("new", "old"))


def test_transfers_are_allowed_by_pattern() -> None:
    assert load_settings({"TRANSFER_ALLOW": "+49 30*, sales"}).transfer_allow == ("+49 30*", "sales")
    with pytest.raises(ConfigError, match=r"TRANSFER_ALLOW \(from environment\) has more than 4 stars; use fewer"):
        load_settings({"TRANSFER_ALLOW": "+1*2*3*4*5*6"})


def test_the_url_of_a_webhook_keeps_path_and_query() -> None:
    settings = load_settings({"WEBHOOK_URL": "https://h.example/a/?b=1", "PERSONALIZATION_URL": "http://10.0.0.1:8/p/"})
    assert (settings.webhook_url, settings.personalization_url) == ("https://h.example/a/?b=1", "http://10.0.0.1:8/p/")


def test_events_are_a_list() -> None:
    settings = load_settings({"WEBHOOK_EVENTS": "call.ended, call.started,call.ended"})
    assert settings.webhook_events == ("call.ended", "call.started")


def test_networks_and_addresses_that_are_open() -> None:
    assert load_settings({"EGRESS_ALLOW": "10.1.0.0/16, 127.0.0.1,fd00::/8"}).egress_allow == (
        ipaddress.ip_network("10.1.0.0/16"),
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("fd00::/8"),
    )
    assert Settings(egress_allow=(ipaddress.ip_network("10.1.0.0/16"),)).egress_allow[0].prefixlen == 16


def test_what_genesys_needs() -> None:
    settings = load_settings(
        {
            "GENESYS_API_KEY": "new,old",
            "GENESYS_CLIENT_SECRET": "TXlTdXBlclNlY3JldEtleQ, c2Vjb25k",
            "GENESYS_ORGANIZATION_ID": UUID.upper(),
            "GENESYS_WHEN_FULL": "overflow",
            "GENESYS_OUTPUT_WAIT_S": "0",
        }
    )
    assert settings.carrier_secrets["genesys_api_key"] == ("new", "old")
    assert settings.carrier_secrets["genesys_client_secret"] == ("TXlTdXBlclNlY3JldEtleQ", "c2Vjb25k")
    assert settings.carrier_secrets["genesys_organization_id"] == (UUID,)
    assert settings.carrier_options["genesys_when_full"] == "overflow"
    assert settings.genesys_output_wait_s == 0


def test_an_instance_may_be_reached_on_its_own() -> None:
    settings = load_settings({"PUBLIC_URL": "https://bridge.example", "INSTANCE_URL": "https://b1.bridge.example/x/"})
    assert settings.instance_base_url == "https://b1.bridge.example/x"
    assert settings.instance_ws_url == "wss://b1.bridge.example/x"
    alone = load_settings({"PUBLIC_URL": "https://bridge.example"})
    assert (alone.instance_base_url, alone.instance_ws_url) == ("https://bridge.example", "wss://bridge.example")


def test_what_becomes_of_keys() -> None:
    settings = load_settings(
        {
            "DTMF_TO_AGENT": "Update", "DTMF_PAUSE_S": "3", "DTMF_LENGTH": "4", "DTMF_END_KEY": "*",
            "DTMF_INBAND": "on", "REDACT_DTMF": "on", "DTMF_WEBHOOK_URL": "http://10.0.0.1/keys",
            "DTMF_WEBHOOK_HEADERS": '{"X-Api-Key": "hunter2"}',
        }
    )  # fmt: skip
    assert settings.keypad_options == KeypadOptions(KeypadMode.UPDATE, 3.0, 4, "*", True)
    assert (settings.dtmf_inband, settings.dtmf_webhook_url) == (True, "http://10.0.0.1/keys")
    assert settings.dtmf_webhook_header_map == {"X-Api-Key": "hunter2"}
    assert "hunter2" not in repr(settings)
    assert load_settings({"DTMF_END_KEY": "none"}).keypad_options.end_key == ""


def test_an_end_key_in_a_dotenv_file(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("DTMF_END_KEY=#\nDTMF_TO_AGENT=each # of them\n")
    settings = load_settings({})
    assert (settings.dtmf_end_key, settings.dtmf_to_agent) == ("#", "each")


def test_tools_may_have_other_names() -> None:
    settings = load_settings({"TOOL_NAMES": '{"transfer_to_number": "connect_caller", "hold": ""}'})
    assert settings.tool_name_map == {"transfer_to_number": "connect_caller", "hold": ""}


@pytest.mark.parametrize("key", ["0", "9", "*", "#", " 5 "])
def test_a_key_that_takes_the_caller(key: str) -> None:
    assert load_settings({"TRANSFER_ACCEPT_KEY": key}).transfer_accept_key == key.strip()


def test_what_callers_hear_when_the_agent_failed(empty_folder: Path) -> None:
    (empty_folder / "sorry.wav").write_bytes(b"RIFF")
    (empty_folder / "sorry").mkdir()
    assert load_settings({"APOLOGY_AUDIO": "sorry.wav"}).apology_audio == Path("sorry.wav")
    assert mistakes(APOLOGY_AUDIO="sorry") == [
        "APOLOGY_AUDIO (from environment) is a folder without WAV files; put in default.wav, or one a language such as "
        "de.wav"
    ]
    (empty_folder / "sorry" / "default.wav").write_bytes(b"RIFF")
    settings = load_settings({"APOLOGY_AUDIO": "sorry", "FALLBACK_TO": "0049 30 123456", "AGENT_RECONNECT": "off"})
    assert (settings.apology_audio, settings.fallback_to) == (Path("sorry"), "+4930123456")
    assert settings.agent_reconnect is False


def test_what_twilio_needs() -> None:
    settings = load_settings(
        {
            "TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": "token,old",
            "TWILIO_SUBACCOUNT_TOKENS": f"{OTHER_ACCOUNT}=t1, {OTHER_ACCOUNT}=t2",
            "TWILIO_EDGE": "dublin", "TWILIO_REGION": "ie1", "TWILIO_FROM_NUMBERS": "+1 555 010 0100, 0049 30 123456",
        }
    )  # fmt: skip
    assert settings.twilio_keys.subaccount_tokens == {OTHER_ACCOUNT: ("t1", "t2")}
    assert settings.carrier_secrets["twilio_subaccount_tokens"] == (f"{OTHER_ACCOUNT}=t1", f"{OTHER_ACCOUNT}=t2")
    assert settings.twilio_from_numbers == ("+15550100100", "+4930123456")
    assert settings.twilio_rest_credentials == (ACCOUNT, "token")
    assert (settings.twilio_edge, settings.twilio_region) == ("dublin", "ie1")


def test_an_api_key_goes_before_the_token() -> None:
    environ = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_API_KEY": API_KEY, "TWILIO_API_KEY_SECRET": "hunter2"}
    settings = load_settings({**environ, "TWILIO_AUTH_TOKEN": "token"})
    assert settings.twilio_rest_credentials == (API_KEY, "hunter2")
    assert load_settings(environ).twilio_rest_credentials == (API_KEY, "hunter2")
    del environ["TWILIO_ACCOUNT_SID"]
    assert load_settings(environ).twilio_rest_credentials is None


def test_what_vonage_needs(empty_folder: Path) -> None:
    settings = load_settings(
        {
            "VONAGE_APPLICATION_ID": UUID, "VONAGE_SIGNATURE_SECRET": "new,old", "VONAGE_RATE_HZ": "24000",
            "VONAGE_TOPOLOGY": "Conversation", "VONAGE_WEBHOOK_ALLOW": "Hooks.example.com, *.example.org,10.0.0.1",
            "VONAGE_FROM_NUMBERS": "+44 20 7946 0000",
        }
    )  # fmt: skip
    assert settings.vonage_signature_secrets == settings.carrier_secrets["vonage_signature_secret"] == ("new", "old")
    assert (settings.vonage_application_id, settings.vonage_rate_hz) == (UUID, 24000)
    assert (settings.vonage_topology, settings.vonage_from_numbers) == ("conversation", ("+442079460000",))
    assert settings.vonage_webhook_allow == ("hooks.example.com", "*.example.org", "10.0.0.1")
    assert Settings(vonage_rate_hz=8000).vonage_rate_hz == 8000


@pytest.mark.parametrize("way", ["escaped", "lines", "file", "dotenv", "toml", "windows"])
def test_a_private_key_however_it_is_given(way: str, empty_folder: Path) -> None:
    environ: dict[str, str] = {}
    if way == "escaped":
        environ["VONAGE_PRIVATE_KEY"] = RSA_PEM.replace("\n", "\\n")
    elif way == "lines":
        environ["VONAGE_PRIVATE_KEY"] = RSA_PEM
    elif way == "windows":
        environ["VONAGE_PRIVATE_KEY"] = RSA_PEM.replace("\n", "\r\n")
    elif way == "file":
        (empty_folder / "private.key").write_text(RSA_PEM)
        environ["VONAGE_PRIVATE_KEY"] = "private.key"
    elif way == "dotenv":
        (empty_folder / ".env").write_text(f'VONAGE_PRIVATE_KEY="{RSA_PEM}"\n')
    else:
        (empty_folder / "bridge.toml").write_text(f'vonage_private_key = """{RSA_PEM}"""\n')
    key = load_settings(environ).vonage_private_key
    assert key is not None
    assert key.get_secret_value() == RSA_PEM


# --- what is not ---------------------------------------------------------------------------------------------

NOT_REDIS = "is no address of a Redis; give redis://HOST:6379/0, rediss://HOST:6379/0 (TLS) or unix:///PATH"
NO_URL = "give an absolute URL such as https://hooks.example.com/bridge"
HEADERS = 'give a JSON object of texts such as {"X-Api-Key": "..."}'
NOT_DATABASE = "is no address of a database; give postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH"
NO_ZONE = "is no time zone that this machine knows; give an IANA name such as Europe/Berlin (and install tzdata)"
NO_PEM = "is neither a PEM text nor the path of a PEM file that can be read"
NO_KEY = "cannot be read as a private key without a password; download it again from Vonage"
TOOLS = 'give a JSON object such as {"transfer_to_number": "connect_caller"}'
NO_NUMBER = "is no international number; give it with + and country code, such as +49301234567"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BRIDGE_API_KEY", "good,write:hunter2", "key 2 has an unknown scope before its colon; "),
        ("INSTANCE_ID", "a b", "is 'a b'; give up to 100 letters, digits, dots, colons, hyphens and underscores"),
        ("TIMEZONE", "Berlin", NO_ZONE),
        ("TIMEZONE", "../etc/passwd", NO_ZONE),
        ("TIMEZONE", "Europe", NO_ZONE),
        ("REDACT_DTMF", "maybe", "is 'maybe'; give on or off"),
        ("WORKSPACE_CONCURRENCY", "gold", "is 'gold'; give a whole number from 1 to 100000, or a plan: free, "),
        ("AGENT_CONCURRENCY", "-2", "is '-2'; give a whole number from -1 to 100000"),
        ("CALLS_PER_SECOND_PER_SOURCE", "0", "is '0'; give a number above 0, up to 10000"),
        ("OVERFLOW", "hang", "is 'hang'; give one of reject, queue, divert"),
        ("OVERFLOW_DIVERT_TO", "030 1234", NO_NUMBER),
        ("OVERFLOW_DIVERT_TO", "+49 3", NO_NUMBER),
        ("OVERFLOW_DIVERT_TO", "sip:pbx", "is no SIP address; give one such as sip:sales@pbx.example.com"),
        ("HOLD_AUDIO", "gone.wav", "is no file that is there; give the path of a WAV file"),
        ("REDIS_URL", "http://hunter2", NOT_REDIS),
        ("REDIS_URL", "redis:///0", NOT_REDIS),
        ("REDIS_URL", "redis://h:hunter2", "is no URL; give redis://HOST:6379/0, "),
        ("REDIS_PREFIX", "a{b}", "is 'a{b}'; give up to 64 letters, digits, dots, colons, hyphens and underscores"),
        ("DATABASE_URL", "mysql://hunter2/db", NOT_DATABASE),
        ("DATABASE_URL", "postgresql://hunter2", NOT_DATABASE),
        ("DATABASE_URL", "postgresql://[hunter2", "is no URL; give postgresql://USER:PASSWORD@HOST/DATABASE "),
        ("RETENTION_AUDIO_DAYS", "-1", "is '-1'; give a whole number from 0 to 36500"),
        ("RECORDING_FORMAT", "ogg", "is 'ogg'; give one of wav, mp3"),
        ("RECORDING_S3_URL", "https://bucket", "is no bucket; give s3://BUCKET or s3://BUCKET/PREFIX"),
        ("RECORDING_S3_SECRET_KEY", "hunter2", "is set although RECORDING_S3_ACCESS_KEY is not; set both or neither"),
        ("PERSONALIZATION_URL", "h.example", f"is no absolute http or https URL; {NO_URL}"),
        ("PERSONALIZATION_URL", "https://h:x", f"is no URL; {NO_URL}"),
        ("WEBHOOK_URL", "https://me:hunter2@h", "holds a user or password; take them out of the URL"),
        ("WEBHOOK_URL", "https://h/#x", "holds a fragment, which no server gets to see; take it out"),
        ("WEBHOOK_URL", "https://h/" + "x" * 4096, "is longer than 4096 characters; shorten it"),
        ("WEBHOOK_HEADERS", "hunter2", f"is no JSON; {HEADERS}"),
        ("WEBHOOK_HEADERS", '["hunter2"]', f"is no JSON object of texts; {HEADERS}"),
        ("WEBHOOK_HEADERS", '{"a": 1}', f"is no JSON object of texts; {HEADERS}"),
        ("WEBHOOK_HEADERS", '{"a b": "hunter2"}', "has as header 1 what is no header name; use letters, "),
        ("WEBHOOK_HEADERS", '{"Host": "hunter2"}', "sets the header Host, which the bridge sets itself; take it out"),
        ("WEBHOOK_HEADERS", r'{"a": "hunter2\r\nb: c"}', "has a value of the header a that cannot be sent; use up to "),
        ("WEBHOOK_HEADERS", r'{"a": "hünter2"}', "has a value of the header a that cannot be sent; use up to "),
        ("WEBHOOK_HEADERS", "[" * 100_000, f"is no JSON; {HEADERS}"),
        ("WEBHOOK_EVENTS", "call.end", "names 'call.end', which is no event; choose from call.started, "),
        ("WEBHOOK_MAX_AGE_H", "0", "is '0'; give a number above 0, up to 720"),
        ("EGRESS_ALLOW", "localhost", "holds 'localhost', which is no network or address; give a list such as "),
        ("EGRESS_ALLOW", "10.0.0.1/8", "holds '10.0.0.1/8', which has bits beyond its prefix; did you mean 10.0.0.0/8"),
        ("GENESYS_CLIENT_SECRET", "c2Vj,hunter2!", "entry 2 is no base64 text; copy the client secret again from "),
        ("GENESYS_ORGANIZATION_ID", f"{UUID},x", "entry 2 is no UUID; copy the organization ID again from Genesys"),
        ("GENESYS_WHEN_FULL", "hide", "is 'hide'; give one of retry, overflow, refuse"),
        ("INSTANCE_URL", "https://h/?hunter2", "holds a query or fragment; give only scheme, host, port and path"),
        ("TWILIO_SUBACCOUNT_TOKENS", f"{ACCOUNT}=a,hunter2", "entry 2 is not of the form AC...=token; give the "),
        ("TWILIO_SUBACCOUNT_TOKENS", "SK1=hunter2", "entry 1 is not of the form AC...=token; give the subaccount's "),
        ("TWILIO_FROM_NUMBERS", "+15550100100,030 hunter2", "entry 2 is no international number; give each with + "),
        ("TWILIO_FROM_NUMBERS", "sip:a@hunter2", "entry 1 is no international number; give each with + and country "),
        ("TWILIO_CALLS_PER_SECOND", "0", "is '0'; give a number above 0, up to 1000"),
        ("TWILIO_API_BASE_URL", "api.twilio.com", "is no absolute http or https URL; give an absolute URL such as "),
        ("CARRIER_REQUEST_TIMEOUT_S", "31", "is '31'; give a number above 0, up to 30"),
        ("VONAGE_APPLICATION_ID", "abc", "is 'abc'; give a UUID"),
        ("VONAGE_PRIVATE_KEY", "hunter2", NO_PEM),
        ("VONAGE_PRIVATE_KEY", "gone/private.key", NO_PEM),
        ("VONAGE_PRIVATE_KEY", "hunter2" * 1000, NO_PEM),
        ("VONAGE_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----hunter2", NO_KEY),
        ("VONAGE_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----hünter2", "is no PEM text; download the application's "),
        ("VONAGE_PRIVATE_KEY", "-----BEGIN PRIVATE KEY-----" + "x" * 20_000, "is no PEM text; download the "),
        ("VONAGE_PRIVATE_KEY", EC_PEM, "is no RSA private key of 1024 bits or more; download it again from Vonage"),
        ("VONAGE_PRIVATE_KEY", LOCKED_PEM, NO_KEY),
        ("VONAGE_WEBHOOK_ALLOW", "h.example,https://hunter2/", "entry 2 is no host; give a list such as "),
        ("VONAGE_WEBHOOK_ALLOW", "*", "entry 1 is no host; give a list such as hooks.example.com, *.example.org"),
        ("VONAGE_RATE_HZ", "44100", "is '44100'; give one of 8000, 16000, 24000"),
        ("VONAGE_RATE_HZ", "fast", "is 'fast'; give one of 8000, 16000, 24000"),
        ("VONAGE_TOPOLOGY", "star", "is 'star'; give one of direct, conversation"),
        ("DTMF_TO_AGENT", "loud", "is 'loud'; give one of message, update, each, off"),
        ("DTMF_LENGTH", "65", "is '65'; give a whole number from 0 to 64"),
        ("DTMF_END_KEY", "0", "is '0'; give one of #, *, none"),
        ("DTMF_WEBHOOK_HEADERS", "hunter2", f"is no JSON; {HEADERS}"),
        ("TOOL_NAMES", "hold", f"is no JSON; {TOOLS}"),
        ("TOOL_NAMES", "[]", f"is no JSON object of texts; {TOOLS}"),
        ("TOOL_NAMES", '{"hold": 1}', f"is no JSON object of texts; {TOOLS}"),
        ("TOOL_NAMES", '{"hodl": "x"}', "has 'hodl', which is no tool; there are transfer_to_number, "),
        ("TOOL_NAMES", '{"hold": "resume"}', "gives two tools the name resume; each needs its own"),
        ("TOOL_TIMEOUT_S", "0", "is '0'; give a number above 0, up to 120"),
        ("TRANSFER_RING_S", "4", "is '4'; give a whole number from 5 to 300"),
        ("TRANSFER_ACCEPT_KEY", "12", "is '12'; give one of 0-9, * and #"),
        ("TRANSFER_ACCEPT_KEY", "A", "is 'A'; give one of 0-9, * and #"),
        ("TRANSFER_TYPE", "cold", "is 'cold'; give one of auto, conference, blind"),
        ("OUTBOUND_RING_S", "601", "is '601'; give a whole number from 5 to 600"),
        ("MACHINE_DETECTION", "on", "is 'on'; give one of off, enable, detect_message_end"),
        ("VOICEMAIL_ACTION", "leave", "is 'leave'; give one of continue, hang_up, leave_message"),
        ("VOICEMAIL_MESSAGE", "x" * 1001, f"is '{'x' * 60}...'; give a text of up to 1000 characters"),
        ("VOICEMAIL_AUDIO", "gone.wav", "is no file that is there; give the path of a WAV file"),
        ("APOLOGY_AUDIO", "gone", "is no file or folder that is there; give a WAV file, or a folder with default.wav"),
        ("ELEVENLABS_VOICE_ID", "a/b", "is 'a/b'; give up to 128 letters, digits, underscores and hyphens"),
        ("AGENT_RECONNECT_S", "0", "is '0'; give a number above 0, up to 30"),
        ("FALLBACK_TO", "hunter2", NO_NUMBER),
        ("FLIGHT_RECORDER", "on", "is 'on'; give one of errors, all, off"),
        ("FLIGHT_RECORDER_KB", "15", "is '15'; give a whole number from 16 to 65536"),
        ("RETENTION_FLIGHTS_DAYS", "-1", "is '-1'; give a whole number from 0 to 36500"),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(name: str, value: str, problem: str) -> None:
    [mistake] = mistakes(**{name: value})
    assert mistake.startswith(f"{name} (from environment) {problem}")
    assert "hunter2" not in mistake


def test_too_many_headers() -> None:
    many = "{" + ",".join(f'"h{number}":"x"' for number in range(33)) + "}"
    assert mistakes(WEBHOOK_HEADERS=many) == ["WEBHOOK_HEADERS (from environment) has 33 headers; give at most 32"]


def test_who_diverts_says_where_to() -> None:
    assert mistakes(OVERFLOW="divert") == [
        "OVERFLOW_DIVERT_TO is not set although OVERFLOW is divert; set it to a number such as +49301234567 or a "
        "sip: address"
    ]


def test_keys_of_a_bucket_come_in_pairs() -> None:
    assert mistakes(RECORDING_S3_ACCESS_KEY="a") == [
        "RECORDING_S3_SECRET_KEY is not set although RECORDING_S3_ACCESS_KEY is; set both or neither"
    ]
    assert load_settings({"RECORDING_S3_ACCESS_KEY": "a", "RECORDING_S3_SECRET_KEY": "b"}).recording_s3_secret_key


@pytest.mark.parametrize(
    ("one", "value", "other"),
    [("TWILIO_API_KEY", API_KEY, "TWILIO_API_KEY_SECRET"), ("TWILIO_EDGE", "dublin", "TWILIO_REGION")],
)
def test_what_goes_together_at_twilio(one: str, value: str, other: str) -> None:
    assert mistakes(**{one: value}) == [f"{other} is not set although {one} is; set both or neither"]
    assert mistakes(**{other: "ie1"}) == [
        f"{other} (from environment) is set although {one} is not; set both or neither"
    ]


@pytest.mark.parametrize(
    ("one", "value", "problem"),
    [
        ("TWILIO_API_KEY", "hunter2", "is no SID of an API key; give SK and 32 hex digits"),
        ("TWILIO_EDGE", "Dublin", "is 'Dublin'; give an edge such as dublin"),
    ],
)
def test_a_wrong_half_hides_no_other_mistake(one: str, value: str, problem: str) -> None:
    other = {"TWILIO_API_KEY": "TWILIO_API_KEY_SECRET", "TWILIO_EDGE": "TWILIO_REGION"}[one]
    assert mistakes(**{one: value, other: "ie1"}) == [f"{one} (from environment) {problem}"]
    assert mistakes(TWILIO_EDGE="dublin", TWILIO_REGION="Ireland") == [
        "TWILIO_REGION (from environment) is 'Ireland'; give a region such as ie1"
    ]


# --- how they are declared -----------------------------------------------------------------------------------


def test_secrets_are_known_as_such() -> None:
    assert [name for name in Settings.model_fields if is_secret(name)] == [
        "bridge_api_key", "elevenlabs_api_key", "twilio_auth_token", "twilio_shared_keys", "twilio_subaccount_tokens",
        "twilio_api_key", "twilio_api_key_secret", "vonage_private_key", "vonage_signature_secret", "genesys_api_key",
        "genesys_client_secret", "sip_password", "sip_outbound_password", "sip_outbound_headers",
        "dtmf_webhook_headers", "personalization_headers", "webhook_secret", "webhook_headers",
        "elevenlabs_webhook_secret", "database_url", "recording_s3_access_key", "recording_s3_secret_key", "redis_url",
        "otel_exporter_otlp_headers",
    ]  # fmt: skip


def test_what_was_opened_at_the_start_waits_for_a_restart() -> None:
    assert {name for name in Settings.model_fields if facts_of(Settings, name).restart} == {
        "bridge_host", "bridge_port", "instance_id", "timezone", "data_dir", "hold_audio", "egress_allow",
        "database_url", "recording_dir", "recording_s3_url", "recording_s3_endpoint", "recording_s3_region",
        "recording_s3_access_key", "recording_s3_secret_key", "redis_url", "redis_prefix", "limits_when_redis_down",
        "log_format", "call_token_ttl_s", "webhook_url", "redact_numbers", "bridge_auth", "recording_format",
        "retention_records_days", "retention_transcripts_days", "retention_audio_days", "instance_url",
        "twilio_api_key", "twilio_api_key_secret", "twilio_api_base_url", "twilio_edge", "twilio_region",
        "vonage_application_id", "vonage_private_key", "vonage_api_base_url", "carrier_request_timeout_s",
        "dtmf_webhook_url", "dtmf_webhook_headers", "voicemail_audio", "apology_audio", "retention_flights_days",
        "flight_recorder", "twilio_calls_per_second", "sip_host", "sip_udp_port", "sip_tcp_port", "sip_tls_cert",
        "sip_tls_key", "sip_tls_ca", "sip_tls_client_ca", "sip_tls_port", "sip_external_ip", "sip_rtp_port_min",
        "sip_rtp_port_max", "sip_realm", "sip_digest_algorithms", "retention_sip_messages_days",
        "otel_exporter_otlp_endpoint", "otel_exporter_otlp_headers", "otel_service_name",
    }  # fmt: skip


def test_a_setting_that_was_declared_otherwise_is_our_mistake() -> None:
    class Odd(Topic):
        plain: int = 1

    with pytest.raises(LocalError, match="plain is not declared with setting"):
        facts_of(Odd, "plain")
