"""The documentation names only what exists, and every command in it is covered.

``COVERAGE`` says for each command of a fenced block how: it is run (``tests/e2e/test_docs_commands.py``), another test
runs it, or it needs what a test machine does not have, which its section then says. A command that is not listed fails,
and so does an entry whose command is gone.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from bridge.cli import app
from bridge.config import CONFIG_FILE_VARIABLE, Settings
from bridge.readme import BLOCKS
from bridge.server.metric_catalogue import CATALOGUE
from bridge.web.html import CONSOLE_CSP

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "README.md", *sorted((ROOT / "deploy").rglob("*.md")))
OPERATIONS = ROOT / "deploy" / "operations.md"

# --- the commands --------------------------------------------------------------------------------------------

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,4} .*$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command of a fenced block."""

    doc: Path
    text: str
    """Without comment; blanks are single."""
    block: str
    """The whole block that it stands in."""
    section: str
    """The text from the heading above it to the next."""


def complete(line: str) -> bool:
    """Whether a shell would not ask for more."""
    if line.endswith("\\"):
        return False
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def without_comment(line: str) -> str:
    """The line without what a shell takes for a comment: ``#`` after a blank, outside of quotes."""
    quote = ""
    for place, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


def lines_of(block: str) -> Iterator[str]:
    """The commands of a block, each as one line."""
    waiting = ""
    for line in block.splitlines():
        waiting = f"{waiting}\n{line}" if waiting else line
        if not complete(waiting):
            continue
        joined = without_comment(" ".join(part.strip().removesuffix("\\").strip() for part in waiting.splitlines()))
        waiting = ""
        if joined:
            yield joined.removeprefix("$ ")
    assert not waiting, f"a command without an end: {waiting}"


def section_at(text: str, place: int) -> str:
    """The text between the headings around this place; lines in blocks that look like headings do not count."""
    fenced = [match.span() for match in _FENCE.finditer(text)]
    heads = [
        match.start()
        for match in _HEADING.finditer(text)
        if not any(begin <= match.start() < end for begin, end in fenced)
    ]
    begin = max((head for head in heads if head <= place), default=0)
    end = min((head for head in heads if head > place), default=len(text))
    return text[begin:end]


def commands_of(doc: Path) -> Iterator[Command]:
    text = doc.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        if match[2] in ("sh", "bash", "console"):
            for line in lines_of(match[3]):
                yield Command(doc, line, match[3], section_at(text, match.start()))


COMMANDS = tuple(command for doc in DOCS for command in commands_of(doc))

# --- how each is covered ---------------------------------------------------------------------------------------

RUN = "run"
"""By ``tests/e2e/test_docs_commands.py``, for real: against bridges, simulators and databases of its own."""
DRY = "dry"
"""Below, as ``make -n``: what it would start is the suite itself, or takes minutes."""
ACCOUNT = "account"
"""Needs an account with a vendor; its section says so."""
ENGINE = "engine"
"""Needs Docker, a cluster or a service manager; its section says so."""

SAYS = {
    ACCOUNT: re.compile(r"needs? (an? |the )?(\w+ )?accounts?", re.IGNORECASE),
    ENGINE: re.compile(r"needs? (Docker|a container engine|a cluster|systemd)", re.IGNORECASE),
}

_PLACED = "tests/e2e/test_demo.py::test_the_demo_call"
_WHEEL = "tests/e2e/test_wheel.py::test_it_is_the_bridge_of_the_wheel_that_runs"
_SERVES = "tests/e2e/test_wheel.py::test_it_serves_without_any_setting_and_says_what_to_set"

COVERAGE: dict[str, str] = {
    # README.md
    "make demo": _PLACED,
    "make test": DRY,
    "make test ARGS='-m \"not e2e\"'": DRY,
    "make bench": DRY,
    "bridge doctor": RUN,
    'bridge call twilio --voice http://127.0.0.1:8080/twilio/voice --auth-token "$TWILIO_AUTH_TOKEN"': RUN,
    'curl -H "X-API-Key: $BRIDGE_API_KEY" -H "Idempotency-Key: order-427" -H "Content-Type: application/json" '
    "http://127.0.0.1:8080/v1/calls "
    '-d \'{"to_number": "+14155550100", "machine_detection": {"mode": "enable", '
    '"rules": {"machine": "hang_up"}}}\'': RUN,
    "bridge call genesys --to ws://127.0.0.1:8080/genesys/AGENT "
    '--api-key "$GENESYS_API_KEY" --client-secret "$GENESYS_CLIENT_SECRET"': RUN,
    'bridge call vonage --answer http://127.0.0.1:8080/vonage/answer --secret "$VONAGE_SIGNATURE_SECRET"': RUN,
    "bridge call sip sip:+15550199@127.0.0.1:5060": RUN,
    "cp .env.example .env": RUN,
    "docker compose up --build": ENGINE,
    "docker compose --profile observability up --build": ENGINE,
    'curl -H "X-API-Key: $BRIDGE_API_KEY" http://127.0.0.1:8080/v1/calls': RUN,
    # twilio.md, vonage.md, genesys.md
    "python3 -m venv .venv && .venv/bin/pip install .": _WHEEL,
    ".venv/bin/bridge serve": _SERVES,
    "export TWILIO_ACCOUNT_SID=AC00000000000000000000000000000000 "
    "TWILIO_AUTH_TOKEN=12345678901234567890123456789012": RUN,
    "TWILIO_API_BASE_URL=http://127.0.0.1:8099 TRANSFER_ALLOW='+1555*' bridge serve &": RUN,
    "bridge call twilio --voice http://127.0.0.1:8080/twilio/voice --rest-port 8099 --human +15550123=busy": RUN,
    'curl -H "X-API-Key: $BRIDGE_API_KEY" -H "Idempotency-Key: order-427" -H "Content-Type: application/json" '
    "https://bridge.example.com/v1/calls "
    '-d \'{"to_number": "+14155550100", "ring_timeout_s": 25, "machine_detection": {"mode": "enable", '
    '"rules": {"machine": "leave_message"}, "message": "Please call us back."}}\'': RUN,
    "bridge call vonage --to ws://127.0.0.1:8080/vonage/media": RUN,
    "bridge call genesys --to ws://127.0.0.1:8080/genesys/AGENT --probe": RUN,
    "bridge call genesys --to ws://127.0.0.1:8080/genesys/AGENT --variable customer_name=Ada --digits 12#": RUN,
    # sip.md
    "bridge agent": RUN,
    "BRIDGE_AUTH=off ELEVENLABS_BASE_URL=http://127.0.0.1:9090 ELEVENLABS_AGENT_ID=demo "
    "SIP_UDP_PORT=5060 SIP_TCP_PORT=5060 bridge serve": RUN,
    "bridge call sip sip:+15550199@127.0.0.1:5060 --recording call.wav": RUN,
    "bridge call sip 'sip:+15550199@127.0.0.1:5060;transport=tcp' --digits 12# --trace": RUN,
    "sipp -sn uac 127.0.0.1:5060 -m 10 -r 1 -d 3000": RUN,
    # sessions.md
    "curl -X PUT -H \"X-API-Key: $BRIDGE_API_KEY\" -H 'Content-Type: application/json' "
    '-d \'{"number": "+49301111*", "agent": "agent_night"}\' http://127.0.0.1:8080/v1/routes': RUN,
    "curl -H \"X-API-Key: $BRIDGE_API_KEY\" 'http://127.0.0.1:8080/v1/calls?result=upstream_error&limit=20'": RUN,
    "bridge webhooks list --state dead": RUN,
    "bridge webhooks replay --all-dead": RUN,
    # tools.md
    "bridge tools export": RUN,
    "bridge tools export --carrier genesys": RUN,
    "bridge tools export --agent agent_... --push": ACCOUNT,
    # helm/README.md
    "helm install bridge deploy/helm/telephony-bridge --set settings.PUBLIC_URL=https://bridge.example.com "
    "--set ingress.enabled=true --set ingress.host=bridge.example.com --set ingress.className=nginx "
    "--set 'secretRefs={bridge}'": ENGINE,
    "kubectl create secret generic bridge --from-env-file=.env": ENGINE,
    "kubectl get --raw '/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods/*/bridge_calls_active'": ENGINE,
    # operations.md
    "docker compose up -d --build": ENGINE,
    "docker compose ps": ENGINE,
    "docker compose stop bridge": ENGINE,
    "systemctl start telephony-bridge": ENGINE,
    "systemctl reload telephony-bridge": ENGINE,
    "systemctl stop telephony-bridge": ENGINE,
    "curl -s http://127.0.0.1:8080/readyz": RUN,
    "bridge doctor --no-conversation": RUN,
    "docker compose build bridge": ENGINE,
    "docker compose up -d --no-deps bridge": ENGINE,
    "docker compose up -d --no-deps bridge-b": ENGINE,
    "helm upgrade bridge deploy/helm/telephony-bridge --reuse-values": ENGINE,
    "kubectl rollout status deployment --timeout=15m": ENGINE,
    "mkdir -p -m 700 backup": RUN,
    'sqlite3 data/bridge.sqlite3 ".backup backup/bridge.sqlite3"': RUN,
    'sqlite3 backup/bridge.sqlite3 "PRAGMA integrity_check"': RUN,
    "tar -czf backup/files.tar.gz --exclude='*.part' --exclude='bridge.sqlite3*' data": RUN,
    'pg_dump --format=custom --file=backup/bridge.dump "$DATABASE_URL"': RUN,
    "docker compose exec -T postgres pg_dump -U bridge --format=custom bridge > backup/bridge.dump": ENGINE,
    "docker compose cp bridge:/data backup/data": ENGINE,
    'pg_restore --clean --if-exists --no-owner --dbname="$DATABASE_URL" backup/bridge.dump': RUN,
    "bridge webhooks list": RUN,
    "bridge webhooks list --state dead --json": RUN,
    "openssl rand -hex 32": RUN,
    'curl -s -H "X-API-Key: $BRIDGE_API_KEY" http://127.0.0.1:8080/v1/calls/CALL': RUN,
    'curl -s -H "X-API-Key: $BRIDGE_API_KEY" http://127.0.0.1:8080/v1/calls/CALL/events': RUN,
    "curl -s -H \"X-API-Key: $BRIDGE_API_KEY\" 'http://127.0.0.1:8080/v1/calls/CALL/sip-messages?format=text'": RUN,
    'curl -s -f -H "X-API-Key: $BRIDGE_API_KEY" -o call.flight.gz http://127.0.0.1:8080/v1/calls/CALL/flight': RUN,
    "bridge replay call.flight.gz --svg call.svg": RUN,
    "bridge doctor --json": RUN,
    # sizing.md
    "bridge bench --calls 100 --target bridge --target floor --duration-s 8": RUN,
    "bridge bench --admission": RUN,
}


def test_commands_are_found_and_joined() -> None:
    block = "make test ARGS='a # b'   # a comment\n\n# only a comment\ncurl -d '{\n  1}' \\\n  x#y\n"
    assert list(lines_of(block)) == ["make test ARGS='a # b'", "curl -d '{ 1}' x#y"]
    assert len(COMMANDS) > 50
    assert {command.doc.name for command in COMMANDS} >= {"README.md", "operations.md", "sip.md"}


def test_every_command_is_covered_and_every_entry_has_its_command() -> None:
    found = {command.text for command in COMMANDS}
    assert sorted(found - set(COVERAGE)) == [], "in the documentation, and in no entry of COVERAGE"
    assert sorted(set(COVERAGE) - found) == [], "in COVERAGE, and no longer in the documentation"


def test_the_tests_that_cover_commands_exist() -> None:
    for text, how in COVERAGE.items():
        if how not in (RUN, DRY, ACCOUNT, ENGINE):
            path, _, name = how.partition("::")
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{text}: there is no {how}"


@pytest.mark.parametrize("how", [ACCOUNT, ENGINE])
def test_what_a_command_needs_is_said_beside_it(how: str) -> None:
    for command in COMMANDS:
        if COVERAGE.get(command.text) == how:
            assert SAYS[how].search(command.section), f"{command.doc.name}: {command.text}"


@pytest.mark.parametrize("text", [text for text, how in COVERAGE.items() if how == DRY])
def test_make_knows_what_it_is_told_to_make(text: str) -> None:
    words = shlex.split(text)
    done = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "pytest" in done.stdout or "bridge bench" in done.stdout


# --- commands of the bridge, their options --------------------------------------------------------------------

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
ROOT_COMMAND = typer.main.get_command(app)


def subcommands(command: Any) -> dict[str, Any]:
    """By name; none where it is no group. (Which click a command is made of differs between versions of typer.)"""
    found: dict[str, Any] = getattr(command, "commands", {})
    return found


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and those that are left; fails where there is none of the name."""
    command: Any = ROOT_COMMAND
    while (known := subcommands(command)) and words and not words[0].startswith("-"):
        assert words[0] in known, f"`bridge {' '.join(words)}`: there is no such command"
        command, words = known[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def every_option(command: Any) -> set[str]:
    return options_of(command).union(*(every_option(each) for each in subcommands(command).values()))


def bridge_words(text: str) -> list[str] | None:
    """The words behind ``bridge`` of a command; None for another program's."""
    words = shlex.split(text.replace("...", "X"))
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0].rsplit("/", 1)[-1] != "bridge":
        return None
    return [word for word in words[1:] if word not in ("&", "X")]


def check_bridge(text: str) -> None:
    words = bridge_words(text)
    if words is None:
        return
    command, rest = resolve(words)
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given <= options_of(command), f"`{text}`: no option {given - options_of(command)}"


def prose_of(doc: Path) -> str:
    """The text without fenced blocks and without what is generated."""
    text = doc.read_text(encoding="utf-8")
    for name in BLOCKS:
        text = re.sub(rf"<!-- {name}:begin -->.*?<!-- {name}:end -->", "", text, flags=re.DOTALL)
    return _FENCE.sub("", text)


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))
def test_commands_and_options_of_the_bridge_exist(doc: Path) -> None:
    for command in commands_of(doc):
        check_bridge(command.text)
    known = every_option(ROOT_COMMAND)
    for span in _SPAN.findall(prose_of(doc)):
        if span.startswith("bridge "):
            check_bridge(span)
        elif span.startswith("--"):
            assert {word for word in span.split() if word.startswith("--")} <= known, f"{doc.name}: {span}"


def test_a_command_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="no such command"):
        check_bridge("bridge call carrier-pigeon")
    with pytest.raises(AssertionError, match="no option"):
        check_bridge("FOO=1 bridge doctor --nope")


# --- settings, metrics, alerts, paths ---------------------------------------------------------------------------

SETTINGS = {name.upper() for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
NOT_OURS = {
    # the compose file's
    "BRIDGE_UPSTREAMS", "SITE_ADDRESS", "POSTGRES_PASSWORD", "METRICS_KEY", "GRAFANA_ADMIN_PASSWORD",
    "FORWARDED_ALLOW_IPS",  # uvicorn's
    "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",  # OpenTelemetry's own
}  # fmt: skip
NOT_METRICS = {
    "bridge_resumed", "bridge_previous_conversation_id", "bridge_transcript",  # variables of a resumed conversation
    "bridge_in", "bridge_out",  # values of the label `owner`
}  # fmt: skip
SERIES = {series for spec in CATALOGUE.values() for series in spec.series} | set(CATALOGUE)
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules/bridge.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}


def all_docs() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))


@all_docs()
def test_settings_exist(doc: Path) -> None:
    named = set(re.findall(r"(?<![\w$/-])[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+(?![\w*])", doc.read_text(encoding="utf-8")))
    assert sorted(named - SETTINGS - NOT_OURS) == []


@all_docs()
def test_metrics_exist(doc: Path) -> None:
    named = set(re.findall(r"\bbridge_[a-z0-9_]+\b(?!\.)", doc.read_text(encoding="utf-8")))
    assert sorted(named - SERIES - NOT_METRICS) == []


@all_docs()
def test_alerts_exist(doc: Path) -> None:
    named = set(re.findall(r"`(Bridge[A-Z]\w+)`", doc.read_text(encoding="utf-8")))
    assert sorted(named - ALERTS) == []


def test_every_alert_has_its_advice_and_its_severity() -> None:
    rows = dict(re.findall(r"^\| `(Bridge\w+)` \| (page|ticket) \| .{20,} \|$", OPERATIONS.read_text("utf-8"), re.M))
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/bridge.yml").read_text(encoding="utf-8"))["groups"]
    assert rows == {rule["alert"]: rule["labels"]["severity"] for group in rules for rule in group["rules"]}


def slugs(doc: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    heads = (match[0].lstrip("# ").lower() for match in _HEADING.finditer(_FENCE.sub("", doc.read_text("utf-8"))))
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}


@all_docs()
def test_links_lead_somewhere(doc: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", doc.read_text(encoding="utf-8"))):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (doc.parent / path).resolve() if path else doc
        assert found.exists(), f"{doc.name}: {target}"
        assert not anchor or anchor in slugs(found), f"{doc.name}: {target}"


@all_docs()
def test_files_of_this_repository_exist(doc: Path) -> None:
    sources = {str(path.relative_to(ROOT / "bridge")) for path in (ROOT / "bridge").rglob("*.py")}
    for span in _SPAN.findall(doc.read_text(encoding="utf-8")):
        if re.fullmatch(r"(deploy|tests|bridge)/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{doc.name}: {span}"
        elif re.fullmatch(r"[a-z_/]+\.py", span):
            assert any(source == span or source.endswith(f"/{span}") for source in sources), f"{doc.name}: {span}"


@pytest.mark.parametrize("name", ["operations.md", "sizing.md", "security.md"])
def test_words_of_the_code_are_in_the_code(name: str) -> None:
    """Log lines, reasons, fields: whatever stands in code marks with an underscore."""
    text = prose_of(ROOT / "deploy" / name)
    words = {word for span in _SPAN.findall(text) for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", span)}
    files = [*(ROOT / "bridge").rglob("*.py"), ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*.y*ml")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    known = {"env_file"}  # Compose's
    missing = {word for word in words - known if not re.search(rf"\b{re.escape(word)}\b", source)}
    assert not missing


def test_the_bounds_on_the_operations_page_are_those_of_the_code() -> None:
    """Whoever changes one of them finds it here."""
    from bridge.server.flights import FlightFileOptions
    from bridge.server.recording.options import RecordingOptions
    from bridge.server.sip.message_store import MessageStoreOptions
    from bridge.server.store.instances import DEAD_S
    from bridge.server.store.ledger import LedgerOptions
    from bridge.server.store.retention import DEAD_LETTER_MAX_DAYS, DEAD_LETTER_MIN_DAYS

    assert LedgerOptions().max_pending_bytes == 64 << 20
    assert FlightFileOptions(Path()).max_total_bytes == 500_000_000
    assert MessageStoreOptions(Path()).max_total_bytes == 200_000_000
    assert RecordingOptions(Path()).min_free_bytes == 500_000_000
    assert (DEAD_LETTER_MIN_DAYS, DEAD_LETTER_MAX_DAYS, DEAD_S) == (7, 30, 20.0)
    text = " ".join(OPERATIONS.read_text(encoding="utf-8").split())
    for words in ("64 MiB", "500 MB and 200 MB", "less than 500 MB free", "for 7 to 30 days", "within 20 s"):
        assert words in text


def test_the_policy_on_the_security_page_is_the_consoles() -> None:
    text = " ".join((ROOT / "deploy" / "security.md").read_text(encoding="utf-8").split())
    assert f"`{CONSOLE_CSP}`" in text
