"""Settings: sources, their order, and one message with every mistake and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bridge.auth.twilio import TwilioKeys
from bridge.calls.admission import AgentLimits
from bridge.calls.keypad import KeypadMode, KeypadOptions
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.routing import Defaults
from bridge.calls.rules import Overflow
from bridge.config import TOPICS, Configuration, Settings, configuration_files, load_configuration, load_settings
from bridge.errors import ConfigError
from bridge.settings_table import settings_table

SID = "AC" + "0123456789abcdef" * 2
API_KEY = {"TWILIO_API_KEY": "SK" + "0" * 32, "TWILIO_API_KEY_SECRET": "s"}
VONAGE = {"VONAGE_APPLICATION_ID": "d7934305-0972-4844-938e-9060eef73d05"}
RSA_PEM = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
    .replace("\n", "\\n")
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistakes(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    first, *lines = str(caught.value).splitlines()
    assert first == "the settings do not work:"
    return [line.removeprefix("  - ") for line in lines]


# --- defaults ------------------------------------------------------------------------------------------------


def test_without_any_source_the_defaults_hold() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.bridge_host, settings.bridge_port, settings.bridge_auth) == ("127.0.0.1", 8080, "on")
    assert settings.elevenlabs_base_url == "https://api.elevenlabs.io"
    assert (settings.bridge_max_calls, settings.workspace_concurrency) == (1000, None)
    assert (settings.drain_timeout_s, settings.upload_chunk_ms) == (300.0, 20)
    assert (settings.start_timeout_s, settings.carrier_silence_s) == (5.0, 60.0)
    assert (settings.agent_connect_timeout_s, settings.agent_ready_timeout_s) == (8.0, 10.0)
    assert (settings.agent_silence_s, settings.call_token_ttl_s) == (30.0, 60.0)
    assert (settings.caller_buffer_ms, settings.playout_queue_s) == (5000, 180.0)
    assert (settings.log_format, settings.log_level) == ("auto", "info")
    assert settings.bridge_api_key is settings.elevenlabs_api_key is settings.twilio_auth_token is None


def test_the_process_environment_is_the_default_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "8123")
    assert load_settings().bridge_port == 8123


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).bridge_port = 1


# --- sources -------------------------------------------------------------------------------------------------


def test_environment_wins_over_dotenv_wins_over_toml(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text("bridge_port = 1\nBRIDGE_MAX_CALLS = 1\ndrain_timeout_s = 1.5\n")
    (empty_folder / ".env").write_text("BRIDGE_PORT=2\nbridge_max_calls=2\n")
    settings = load_settings({"BRIDGE_PORT": "3"})
    assert (settings.bridge_port, settings.bridge_max_calls, settings.drain_timeout_s) == (3, 2, 1.5)


def test_blank_values_count_as_unset(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text("bridge_port = 1\n")
    (empty_folder / ".env").write_text("BRIDGE_PORT=\nBRIDGE_HOST\n")
    settings = load_settings({"BRIDGE_PORT": "  ", "BRIDGE_API_KEY": "", "BRIDGE_CONFIG": " "})
    assert (settings.bridge_port, settings.bridge_host, settings.bridge_api_key) == (1, "127.0.0.1", None)


@pytest.mark.parametrize("source", ["environment", "dotenv", "argument"])
def test_the_toml_file_may_lie_elsewhere(source: str, empty_folder: Path) -> None:
    path = empty_folder / "other.toml"
    path.write_text("bridge_port = 7\nbridge_auth = true\n")
    if source == "dotenv":
        (empty_folder / ".env").write_text("BRIDGE_CONFIG=other.toml\n")
    environ = {"BRIDGE_CONFIG": "other.toml"} if source == "environment" else {}
    settings = load_settings(environ, toml_path=path if source == "argument" else None)
    assert (settings.bridge_port, settings.bridge_auth) == (7, "on")


def test_toml_truth_values_switch_on_and_off(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text("bridge_auth = false\n")
    assert load_settings({}).bridge_auth == "off"


def test_secrets_in_dotenv_may_hold_dollar_signs(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("ELEVENLABS_API_KEY=a$HOME${X}b\n")
    key = load_settings({}).elevenlabs_api_key
    assert key is not None
    assert key.get_secret_value() == "a$HOME${X}b"


def test_names_of_others_in_environment_and_dotenv_are_ignored(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("COMPOSE_PROJECT_NAME=x\n")
    assert load_settings({"PATH": "/bin", "BRIDGE_PROT": "1"}) == Settings()


def test_words_may_be_in_capitals() -> None:
    settings = load_settings({"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "JSON", "BRIDGE_AUTH": "Off"})
    assert (settings.log_level, settings.log_format, settings.bridge_auth) == ("debug", "json", "off")


# --- mistakes ------------------------------------------------------------------------------------------------


def test_all_mistakes_of_all_sources_come_in_one_message(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text("bridge_prot = 1\nzzz = 1\nlog_level = [1]\nupload_chunk_ms = 10\n")
    (empty_folder / ".env").write_text("DRAIN_TIMEOUT_S=nan\n")
    found = mistakes(
        {"BRIDGE_PORT": "abc", "BRIDGE_AUTH": "off", "BRIDGE_HOST": "0.0.0.0", "TWILIO_ACCOUNT_SID": "AC1"}
    )
    assert found == [
        "bridge_prot (in bridge.toml) is no setting; did you mean BRIDGE_PORT?",
        "zzz (in bridge.toml) is no setting; the README's table lists all there are",
        "LOG_LEVEL (in bridge.toml) must be one text or number, not a list",
        "BRIDGE_PORT (from environment) is 'abc'; give a whole number from 1 to 65535",
        "BRIDGE_AUTH (from environment) is off, which would let everybody in who reaches BRIDGE_HOST; "
        "set BRIDGE_HOST to 127.0.0.1, or BRIDGE_AUTH to on",
        "TWILIO_ACCOUNT_SID (from environment) is 'AC1'; give AC and 32 hex digits",
        "DRAIN_TIMEOUT_S (from .env) is 'nan'; give a number from 0 to 86400",
        "UPLOAD_CHUNK_MS (from bridge.toml) is '10'; give a whole number from 20 to 250",
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BRIDGE_PORT", "0", "is '0'; give a whole number from 1 to 65535"),
        ("BRIDGE_PORT", "65536", "is '65536'; give a whole number from 1 to 65535"),
        ("BRIDGE_PORT", "80.5", "is '80.5'; give a whole number from 1 to 65535"),
        ("BRIDGE_MAX_CALLS", "0", "is '0'; give a whole number from 1 to 100000"),
        (
            "WORKSPACE_CONCURRENCY",
            "-1",
            "is '-1'; give a whole number from 1 to 100000, or a plan: free, starter, creator, pro, scale, business",
        ),
        ("START_TIMEOUT_S", "0", "is '0'; give a number above 0, up to 60"),
        ("AGENT_SILENCE_S", "inf", "is 'inf'; give a number above 0, up to 3600"),
        ("UPLOAD_CHUNK_MS", "260", "is '260'; give a whole number from 20 to 250"),
        ("CALLER_BUFFER_MS", "-1", "is '-1'; give a whole number from 0 to 60000"),
        ("BRIDGE_AUTH", "maybe", "is 'maybe'; give one of on, off"),
        ("LOG_LEVEL", "loud", "is 'loud'; give one of debug, info, warning, error"),
        ("LOG_FORMAT", "x" * 80, f"is '{'x' * 60}...'; give one of auto, json, console"),
        ("TWILIO_ACCOUNT_SID", "SK" + "0" * 32, f"is 'SK{'0' * 32}'; give AC and 32 hex digits"),
        ("ELEVENLABS_AGENT_ID", "a\udcff", "holds an unprintable character; take it out"),
        ("ELEVENLABS_AGENT_ID", "a\nb", "holds an unprintable character; take it out"),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(name: str, value: str, problem: str) -> None:
    assert mistakes({name: value}) == [f"{name} (from environment) {problem}"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ELEVENLABS_API_KEY", "hunter2\udcff", "holds an unprintable character; take it out"),
        ("TWILIO_SHARED_KEYS", "a=hunter2,hunter3", "entry 2 is not of the form id=secret"),
        ("PUBLIC_URL", "https://me:hunter2@h", "holds a user or password; take them out of the URL"),
    ],
)
def test_a_secret_is_never_shown(name: str, value: str, problem: str) -> None:
    assert mistakes({name: value}) == [f"{name} (from environment) {problem}"]


def test_secrets_do_not_show_in_a_traceback() -> None:
    settings = load_settings({"TWILIO_AUTH_TOKEN": "hunter2", "TWILIO_SHARED_KEYS": "a=hunter3"})
    assert "hunter" not in repr(settings)


def test_a_named_toml_file_must_be_there() -> None:
    assert mistakes({"BRIDGE_CONFIG": "gone.toml"}) == [
        "BRIDGE_CONFIG: gone.toml cannot be read (No such file or directory); mend the path"
    ]


@pytest.mark.parametrize("content", [b"= 1", b"\xff"])
def test_a_toml_file_that_is_none_is_named(content: bytes, empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_bytes(content)
    [mistake] = mistakes({})
    assert mistake.startswith("bridge.toml is no valid TOML: ")


def test_a_dotenv_file_that_is_no_text_is_named(empty_folder: Path) -> None:
    (empty_folder / ".env").write_bytes(b"A=\xff\n")
    assert mistakes({}) == [".env cannot be read (UnicodeDecodeError); it must be a readable UTF-8 text file"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_auth_may_be_off_on_loopback(host: str) -> None:
    assert load_settings({"BRIDGE_AUTH": "off", "BRIDGE_HOST": host}).bridge_auth == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "bridge"])
def test_auth_may_not_be_off_elsewhere(host: str) -> None:
    [mistake] = mistakes({"BRIDGE_AUTH": "off", "BRIDGE_HOST": host})
    assert mistake.startswith("BRIDGE_AUTH (from environment) is off, which would let everybody in")


def test_a_wrong_host_hides_no_other_mistake() -> None:
    with pytest.raises(ValueError, match="bridge_host"):
        Settings(bridge_host="", bridge_auth="off")


# --- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "base", "media"),
    [
        ("", "http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("https://h.example", "https://h.example", "wss://h.example"),
        ("https://h.example/", "https://h.example", "wss://h.example"),
        ("https://h.example:8443/a/b/", "https://h.example:8443/a/b", "wss://h.example:8443/a/b"),
        ("http://[::1]:8080", "http://[::1]:8080", "ws://[::1]:8080"),
    ],
)
def test_the_public_address(given: str, base: str, media: str) -> None:
    settings = load_settings({"PUBLIC_URL": given})
    assert (settings.public_base_url, settings.public_ws_url) == (base, media)


def test_the_public_address_follows_the_port_of_a_copy() -> None:
    settings = load_settings({}).model_copy(update={"bridge_port": 9999})
    assert settings.public_base_url == "http://127.0.0.1:9999"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("bridge.example.com", "is no absolute http or https URL"),
        ("//bridge.example.com", "is no absolute http or https URL"),
        ("wss://bridge.example.com", "is no absolute http or https URL"),
        ("https://", "is no absolute http or https URL"),
        ("https://a b", "is no absolute http or https URL"),
        ("https://h:99999", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://h/?a=1", "holds a query or fragment; give only scheme, host, port and path"),
        ("https://h/#a", "holds a query or fragment; give only scheme, host, port and path"),
    ],
)
@pytest.mark.parametrize("name", ["PUBLIC_URL", "ELEVENLABS_BASE_URL"])
def test_an_address_must_be_absolute_and_bare(name: str, url: str, problem: str) -> None:
    mend = "" if ";" in problem else "; give an absolute URL such as https://bridge.example.com"
    assert mistakes({name: url}) == [f"{name} (from environment) {problem}{mend}"]


@pytest.mark.parametrize(
    ("base", "ws"),
    [
        ("https://api.eu.residency.elevenlabs.io/", "wss://api.eu.residency.elevenlabs.io"),
        ("http://127.0.0.1:9090", "ws://127.0.0.1:9090"),
    ],
)
def test_the_agents_websocket_address_follows(base: str, ws: str) -> None:
    assert load_settings({"ELEVENLABS_BASE_URL": base}).agent_ws_base == ws


# --- keys ----------------------------------------------------------------------------------------------------


def test_key_rings_are_split_at_commas() -> None:
    settings = load_settings(
        {
            "TWILIO_ACCOUNT_SID": SID,
            "TWILIO_AUTH_TOKEN": "new, old,",
            "TWILIO_SHARED_KEYS": "id1=s1, id2=s2==",
        }
    )
    assert settings.twilio_account_sid == SID
    assert settings.twilio_keys == TwilioKeys(("new", "old"), {"id1": "s1", "id2": "s2=="})
    assert settings.carrier_secrets == {
        "twilio_auth_token": ("new", "old"),
        "twilio_shared_keys": ("id1=s1", "id2=s2=="),
        "genesys_api_key": (),
        "genesys_client_secret": (),
        "genesys_organization_id": (),
        "twilio_subaccount_tokens": (),
        "vonage_signature_secret": (),
        "vonage_application_id": (),
    }


def test_without_keys_the_rings_are_empty() -> None:
    assert load_settings({"TWILIO_AUTH_TOKEN": " , "}).twilio_keys == TwilioKeys((), {})
    assert set(load_settings({}).carrier_secrets.values()) == {()}


# --- the README's table --------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_setting_with_its_reason() -> None:
    rows = [line for line in settings_table().splitlines() if line.startswith("| `")]
    assert rows[0].startswith("| `BRIDGE_CONFIG` | `bridge.toml` |")
    names = [row.split("`")[1] for row in rows[1:]]
    assert names == [name.upper() for name in Settings.model_fields]
    assert all(row.count("|") == 5 and len(row.split("|")[4].strip()) > 20 for row in rows)
    assert "| `BRIDGE_PORT` | `8080` |  | Port for HTTP and WebSockets alike. Changes take a restart. |" in rows
    assert any(row.startswith("| `DRAIN_TIMEOUT_S` | `300` | s | How long") for row in rows)
    assert any(row.startswith("| `BRIDGE_MAX_CALLS` | `1000` | calls | ") for row in rows)
    assert any(row.startswith("| `BRIDGE_API_KEY` |  |  | ") and row.endswith("Secret. |") for row in rows)


def test_the_tables_stand_by_topic() -> None:
    titles = [line.removeprefix("### ") for line in settings_table().splitlines() if line.startswith("###")]
    assert titles == [
        "Server", "Agent", "Twilio", "Vonage", "Genesys", "SIP trunks", "Keypad", "Tools and transfers",
        "Outbound calls and answering machines", "When the agent fails", "Limits", "Personalization webhook",
        "Webhooks", "Records and recordings", "Several processes", "Time-outs and buffers", "Flight recorder",
        "Traces", "Log and privacy",
    ]  # fmt: skip
    assert [name for topic in TOPICS for name in topic.model_fields] == list(Settings.model_fields)


def test_the_table_shows_defaults_as_they_are_written() -> None:
    rows = {line.split("`")[1]: line for line in settings_table().splitlines() if line.startswith("| `")}
    assert rows["BURST"].startswith("| `BURST` | `off` |  | ")
    assert rows["EGRESS_ALLOW"].startswith("| `EGRESS_ALLOW` |  |  | ")
    assert rows["WEBHOOK_EVENTS"].startswith("| `WEBHOOK_EVENTS` | `call.started, call.answered, ")
    assert rows["AGENT_CONCURRENCY"].startswith("| `AGENT_CONCURRENCY` | `-1` | calls | ")
    assert rows["REDIS_URL"].endswith(" Secret. Changes take a restart. |")
    assert rows["RETENTION_AUDIO_DAYS"].startswith("| `RETENTION_AUDIO_DAYS` | `30` | days | ")
    assert rows["DTMF_END_KEY"].startswith("| `DTMF_END_KEY` | `#` |  | ")
    assert rows["TRANSFER_ACCEPT_KEY"].startswith("| `TRANSFER_ACCEPT_KEY` |  |  | ")
    assert rows["VONAGE_RATE_HZ"].startswith("| `VONAGE_RATE_HZ` | `16000` | Hz | ")
    assert r"as `\n`) or the path" in rows["VONAGE_PRIVATE_KEY"]


def test_a_setting_has_a_name_with_its_unit() -> None:
    fields: dict[str, Any] = dict(Settings.model_fields)
    timed = [name for name in fields if any(word in name for word in ("timeout", "silence", "ttl", "buffer", "chunk"))]
    assert len(timed) == 14
    assert all(name.endswith(("_s", "_ms")) for name in timed)


def test_a_key_with_a_stray_character_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"ELEVENLABS_API_KEY": "sk_\u00e9toile"})
    assert "ELEVENLABS_API_KEY (from environment) holds a character that no key has" in str(caught.value)
    assert "toile" not in str(caught.value)


# --- the configuration as a whole ----------------------------------------------------------------------------


def test_routes_and_settings_come_from_one_file(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text(
        'elevenlabs_agent_id = "agent_0"\nrecording = true\n'
        '[[routes]]\nnumber = "+49 30 *"\nagent = "agent_1"\n'
        '[agents."agent_1"]\nconcurrency = 3\n'
    )
    configuration = load_configuration({})
    assert isinstance(configuration, Configuration)
    resolved = configuration.routing.resolve("twilio", "+4930123", "", configuration.settings.route_defaults)
    assert (resolved.agent_id, resolved.limits.concurrency, resolved.recording) == ("agent_1", 3, True)
    assert load_settings({}) == configuration.settings


def test_mistakes_in_routes_and_settings_come_in_one_message(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text('bridge_port = 0\nRoute = 1\n[[routes]]\nnumber = "*"\nagnet = "a"\n')
    assert mistakes({}) == [
        "Route (in bridge.toml) is no setting; did you mean routes?",
        "BRIDGE_PORT (from bridge.toml) is '0'; give a whole number from 1 to 65535",
        "routes[1](*).agnet is no member of it; did you mean agent? (in bridge.toml)",
    ]


def test_a_route_may_divert_to_where_the_settings_say(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text('[[routes]]\nnumber = "*"\noverflow = "divert"\n')
    assert mistakes({}) == [
        "routes[1](*).overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO (in bridge.toml)"
    ]
    assert load_configuration({"OVERFLOW_DIVERT_TO": "+4930123456"}).routing.routes[0].number == "*"


def test_the_files_that_are_read(empty_folder: Path) -> None:
    assert configuration_files({}) == (Path("bridge.toml"), Path(".env"))
    (empty_folder / ".env").write_text("BRIDGE_CONFIG=other.toml\n")
    assert configuration_files({}) == (Path("other.toml"), Path(".env"))
    assert configuration_files({"BRIDGE_CONFIG": "third.toml"}) == (Path("third.toml"), Path(".env"))
    assert configuration_files({}, Path("a.toml"), Path("b.env")) == (Path("a.toml"), Path("b.env"))


def test_what_the_settings_mean_for_limits_and_routes() -> None:
    settings = load_settings(
        {
            "BRIDGE_MAX_CALLS": "50", "WORKSPACE_CONCURRENCY": "pro", "BURST": "on", "BURST_CAP": "40",
            "BURST_MINUTES_PER_DAY": "90", "CALLS_PER_SECOND_PER_SOURCE": "2.5", "AGENT_CONCURRENCY": "5",
            "AGENT_DAILY_LIMIT": "100", "OVERFLOW": "Queue", "OVERFLOW_QUEUE_S": "7", "RECORDING": "on",
            "ELEVENLABS_AGENT_ID": "agent_0", "ELEVENLABS_BRANCH_ID": "b", "ELEVENLABS_ENVIRONMENT": "staging",
            "PERSONALIZATION_URL": "https://h.example/p?a=1",
        }
    )  # fmt: skip
    limits = settings.limits
    assert (limits.max_calls, limits.workspace_concurrency, limits.burst_cap) == (50, 20, 40)
    assert (limits.burst_minutes_per_day, limits.calls_per_second_per_source) == (90.0, 2.5)
    defaults = settings.route_defaults
    assert (defaults.agent_id, defaults.branch, defaults.environment) == ("agent_0", "b", "staging")
    assert defaults.limits == AgentLimits(concurrency=5, daily=100, bursting=True)
    assert (defaults.overflow, defaults.overflow_queue_s, defaults.overflow_divert_to) == (Overflow.QUEUE, 7.0, "")
    assert (defaults.recording, defaults.personalization) == (True, True)


def test_what_the_settings_mean_for_keys_machines_and_transfers() -> None:
    defaults = load_settings(
        {
            "TRANSFER_ALLOW": "+49 30*, Sales", "FALLBACK_TO": "+49 30 123456", "VOICEMAIL_ACTION": "hang_up",
            "VOICEMAIL_MESSAGE": "Please call back.", "DTMF_TO_AGENT": "each", "DTMF_INBAND": "on",
        }
    ).route_defaults  # fmt: skip
    assert (defaults.transfer_allow, defaults.fallback_to) == (("+4930*", "sales"), "+4930123456")
    assert defaults.machine == MachineOptions(MachineAction.HANG_UP, "Please call back.", awaits_end=False)
    assert (defaults.keypad, defaults.keypad_inband) == (KeypadOptions(KeypadMode.EACH), True)
    assert load_settings({}).route_defaults == Defaults()


def test_tools_of_the_operators_own(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text(
        'tool_names = \'{"hold": "wait"}\'\n'
        '[Tools.order_status]\ndescription = "Looks up an order."\nurl = "https://shop.example/orders"\n'
        'headers = { Authorization = "Bearer hunter2" }\n'
    )
    configuration = load_configuration({})
    assert list(configuration.tools) == ["order_status"]
    assert configuration.tools["order_status"].description == "Looks up an order."
    assert "hunter2" not in repr(configuration)
    assert load_configuration({}, dotenv_path=empty_folder / "none") == configuration


def test_mistakes_in_tools_come_with_the_others(empty_folder: Path) -> None:
    (empty_folder / "bridge.toml").write_text(
        'tool_names = \'{"hold": "wait"}\'\nbridge_port = 0\n'
        '[tools.wait]\ndescription = "a"\nurl = "https://h.example"\n'
        '[tools.hold]\ndescription = "a"\nurl = "ftp://h.example"\n'
    )
    assert mistakes({})[0] == "BRIDGE_PORT (from bridge.toml) is '0'; give a whole number from 1 to 65535"
    (empty_folder / "bridge.toml").write_text((empty_folder / "bridge.toml").read_text().replace("= 0", "= 1"))
    found = mistakes({})
    assert found[0] == "tools.wait has the name of a tool of the bridge's own; give it another (in bridge.toml)"
    assert found[1].startswith("tools.hold.url is no absolute http or https URL; give an absolute URL such as ")
    assert found[1].endswith(" (in bridge.toml)")
    (empty_folder / "bridge.toml").write_text("tools = 1\n")
    assert mistakes({}) == ["tools must be tables such as [tools.order_status] (in bridge.toml)"]


def test_a_value_of_several_lines_only_where_it_may_be() -> None:
    assert mistakes({"WEBHOOK_SECRET": "a\nb"}) == [
        "WEBHOOK_SECRET (from environment) holds an unprintable character; take it out"
    ]
    assert mistakes({"VONAGE_PRIVATE_KEY": "-----BEGIN\x00"}) == [
        "VONAGE_PRIVATE_KEY (from environment) holds an unprintable character; take it out"
    ]


def test_recordings_lie_in_the_data_folder() -> None:
    settings = load_settings({"DATA_DIR": "/srv/bridge"})
    assert settings.recordings_dir == Path("/srv/bridge/recordings")
    assert load_settings({"RECORDING_DIR": "/srv/audio"}).recordings_dir == Path("/srv/audio")


@pytest.mark.parametrize(
    ("environ", "caution"),
    [
        ({"WEBHOOK_URL": "https://h.example"}, "Set WEBHOOK_SECRET: "),
        ({"GENESYS_CLIENT_SECRET": "c2VjcmV0"}, "Set GENESYS_API_KEY: "),
        ({"BURST": "on"}, "Set WORKSPACE_CONCURRENCY: "),
        ({"RETENTION_RECORDS_DAYS": "7"}, "Raise RETENTION_RECORDS_DAYS: "),
        ({"RECORDING": "on", "RETENTION_AUDIO_DAYS": "0"}, "Raise RETENTION_AUDIO_DAYS: "),
        ({"FLIGHT_RECORDER": "all", "RETENTION_FLIGHTS_DAYS": "0"}, "Raise RETENTION_FLIGHTS_DAYS: "),
        ({"DTMF_WEBHOOK_URL": "https://h.example"}, "Set WEBHOOK_SECRET: "),
        ({"TWILIO_ACCOUNT_SID": SID, **API_KEY}, "Set TWILIO_AUTH_TOKEN: the API key signs no webhooks"),
        ({"TWILIO_AUTH_TOKEN": "t", **API_KEY}, "Set TWILIO_ACCOUNT_SID: "),
        ({"TWILIO_AUTH_TOKEN": "t", "TWILIO_FROM_NUMBERS": "+15550100100"}, "Set TWILIO_ACCOUNT_SID: "),
        ({"TWILIO_ACCOUNT_SID": SID, "TWILIO_FROM_NUMBERS": "+15550100100"}, "Set TWILIO_AUTH_TOKEN or TWILIO_API_KEY"),
        ({"VONAGE_PRIVATE_KEY": RSA_PEM}, "Set VONAGE_APPLICATION_ID: "),
        ({**VONAGE, "VONAGE_SIGNATURE_SECRET": "s"}, "Set VONAGE_PRIVATE_KEY: "),
        ({**VONAGE, "VONAGE_PRIVATE_KEY": RSA_PEM}, "Set VONAGE_SIGNATURE_SECRET: "),
        ({"VOICEMAIL_ACTION": "leave_message"}, "Set VOICEMAIL_MESSAGE or VOICEMAIL_AUDIO: "),
    ],
)
def test_what_is_hardly_meant_is_said(environ: dict[str, str], caution: str) -> None:
    [found] = load_settings(environ).cautions
    assert found.startswith(caution)
    assert load_settings({}).cautions == ()


def test_whole_credentials_need_no_word() -> None:
    environ = {
        "TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": "t", **API_KEY, "TWILIO_FROM_NUMBERS": "+15550100100",
        **VONAGE, "VONAGE_PRIVATE_KEY": RSA_PEM, "VONAGE_SIGNATURE_SECRET": "s",
        "VOICEMAIL_ACTION": "leave_message", "VOICEMAIL_MESSAGE": "Please call back.",
    }  # fmt: skip
    assert load_settings(environ).cautions == ()
