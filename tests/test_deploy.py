"""What is in ``deploy/``: dashboards and alerts speak of metrics that exist, and each file is good to its own tool.

A test whose tool is not installed is skipped, and says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError  # type: ignore[import-untyped]

from bridge.config import CONFIG_FILE_VARIABLE, Settings
from bridge.server.metric_catalogue import CATALOGUE
from bridge.settings.sip import SipSettings
from bridge.settings.tracing import TracingSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "bridge.yml"
CHART = DEPLOY / "helm" / "telephony-bridge"
FIELDS = {
    name: field for topic in (Settings, SipSettings, TracingSettings) for name, field in topic.model_fields.items()
}
SETTINGS = {name.upper() for name in FIELDS} | {CONFIG_FILE_VARIABLE}
SECRETS = {name.upper() for name, field in FIELDS.items() if "SecretStr" in repr(field.annotation)}
SERIES = {series for spec in CATALOGUE.values() for series in spec.series} | set(CATALOGUE)


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **variables}
    )


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# --- alerts and the dashboard -----------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    return [rule for group in loaded(RULES)["groups"] for rule in group["rules"]]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bbridge_[a-z0-9_]+", text))


def test_alerts_speak_of_metrics_and_labels_that_exist() -> None:
    labels = {label for spec in CATALOGUE.values() for label in spec.labels} | {"job", "instance", "le"}
    for rule in rules():
        named = metrics_in(" ".join((rule["expr"], *rule["annotations"].values())))
        assert named <= SERIES, f"{rule['alert']} names {named - SERIES}"
        matched = set(re.findall(r"([a-z_]+)=~?\"|([a-z_]+)!=\"", rule["expr"]))
        assert {name for pair in matched for name in pair if name} <= labels


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"] and rule["annotations"]["action"].endswith(".")


@pytest.mark.parametrize(
    "subject",
    ["NoCapacity", "UpstreamErrors", "PlayoutGaps", "HopLatency", "WebhookBacklog", "LeaseLost", "CertificateExpiry"],
)
def test_what_an_operator_must_hear_of_has_an_alert_and_each_alert_a_test(subject: str) -> None:
    tests = (DEPLOY / "prometheus" / "tests.yml").read_text(encoding="utf-8")
    assert f"Bridge{subject}" in {rule["alert"] for rule in rules()}
    assert all(rule["alert"] in tests for rule in rules())


@needs("promtool")
def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    for command in (("check", "rules", RULES), ("test", "rules", DEPLOY / "prometheus" / "tests.yml")):
        done = run("promtool", *command)
        assert done.returncode == 0, done.stdout + done.stderr


@needs("promtool")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    key = tmp_path / "key"
    key.touch()
    here = tmp_path / "prometheus.yml"
    here.write_text(config.replace("/tmp/bridge.key", str(key)).replace("/etc/prometheus/rules", str(RULES.parent)))
    done = run("promtool", "check", "config", here)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_metrics_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "bridge.json").read_text(encoding="utf-8"))
    shown = {name for text in strings(dashboard) for name in metrics_in(text)}
    assert shown <= SERIES, shown - SERIES
    assert len(shown) >= 50
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or (panel["description"] and panel["targets"]), panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "bridge.json").read_text(encoding="utf-8"))
    (source,) = loaded(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    asked = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert asked == {source["uid"]}


# --- the proxy and the service manager ----------------------------------------------------------------------


@needs("caddy")
@pytest.mark.parametrize("site", ["localhost", "https://bridge.example.com", "bridge.example.com"])
def test_caddy_takes_its_configuration(site: str, tmp_path: Path) -> None:
    done = run("caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile",
               SITE_ADDRESS=site, BRIDGE_UPSTREAMS="one:8080 two:8080", HOME=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr


@needs("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_exposed() -> None:
    unit = DEPLOY / "systemd" / "telephony-bridge.service"
    done = run("systemd-analyze", "verify", unit)
    complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert [line for line in complaints if "telephony-bridge" in line] == []
    rated = run("systemd-analyze", "security", "--offline=true", unit)
    if rated.returncode == 0:  # older ones cannot judge a file
        found = re.search(r"exposure level for \S+: ([0-9.]+)", rated.stdout)
        assert found is not None and float(found[1]) < 2


def test_systemd_waits_longer_than_the_bridge_drains() -> None:
    unit = (DEPLOY / "systemd" / "telephony-bridge.service").read_text(encoding="utf-8")
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None and float(found[1]) > Settings().drain_timeout_s


# --- the chart ------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return found


def problem(**values: Any) -> str:
    """What the schema says of the default values with these in their place."""
    given = {**loaded(CHART / "values.yaml"), **values}
    try:
        Draft7Validator(schema()).validate(given)
    except ValidationError as error:
        return str(error.message)
    return ""


def test_the_values_are_those_of_the_schema() -> None:
    Draft7Validator.check_schema(schema())
    assert problem() == ""
    assert set(loaded(CHART / "values.yaml")) == set(schema()["properties"]) - {"global"}
    assert "unexpected" in problem(replica=3)
    assert "-1" in problem(replicas=-1)
    assert problem(settings={"BRIDGE_MAX_CALLS": 50, "BURST": True}) == ""


def test_secrets_cannot_be_values() -> None:
    refused = schema()["properties"]["settings"]["propertyNames"]["allOf"][1]["not"]["enum"]
    assert set(refused) == SECRETS
    assert problem(settings={"TWILIO_AUTH_TOKEN": "hunter2"}) != ""


def test_the_chart_names_only_settings_that_exist() -> None:
    deployment = (CHART / "templates" / "deployment.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"\bname: ([A-Z][A-Z0-9_]+)\b", deployment))
    assert {"DRAIN_TIMEOUT_S", "INSTANCE_ID", "SIP_UDP_PORT"} <= named <= SETTINGS
    text = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    assert set(re.findall(r"settings\.([A-Z][A-Z0-9_]+)|Settings \"([A-Z_]+)", text)) and "password" not in text
    assert set(re.findall(r"\.Values\.settings\.([A-Z][A-Z0-9_]+)", text)) <= SETTINGS


def test_every_value_that_a_template_reads_is_there() -> None:
    values = loaded(CHART / "values.yaml")
    for path in (CHART / "templates").iterdir():
        for found in re.findall(r"\$?\.Values\.([A-Za-z.]+)", path.read_text(encoding="utf-8")):
            top, _, rest = found.partition(".")
            assert top in values, f"{path.name}: {found}"
            if rest and top != "settings":
                assert rest.split(".")[0] in values[top], f"{path.name}: {found}"


def test_the_charts_alerts_are_those_of_prometheus() -> None:
    assert (CHART / "alerts.yml").read_bytes() == RULES.read_bytes(), "copy deploy/prometheus/rules/bridge.yml there"


def test_the_chart_has_the_bridges_version() -> None:
    from bridge import __version__

    assert loaded(CHART / "Chart.yaml")["appVersion"] == __version__


def rendered(*settings: str) -> list[dict[str, Any]]:
    """What Helm makes of the chart with these values."""
    done = run("helm", "template", "r", CHART, *(part for each in settings for part in ("--set", each)))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


@needs("helm")
def test_helm_takes_the_chart() -> None:
    done = run("helm", "lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {document["kind"] for document in rendered()} == {
        "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"
    }  # fmt: skip


@needs("helm")
def test_pods_have_time_to_drain_and_no_rights() -> None:
    pod = of_kind(rendered("drainSeconds=600"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["DRAIN_TIMEOUT_S"] == "600"
    assert pod["terminationGracePeriodSeconds"] == 640
    assert "preStop" in container["lifecycle"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@needs("helm")
def test_everything_that_can_be_switched_on_is_rendered() -> None:
    documents = rendered(
        "ingress.enabled=true,ingress.host=b.example,ingress.tlsSecret=t,ingress.className=nginx",
        "autoscaling.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true",
        "serviceMonitor.keySecret.name=k,serviceMonitor.keySecret.key=read",
        "sip.enabled=true,sip.trunkCidrs={192.0.2.0/24}",
        "settings.BRIDGE_MAX_CALLS=1000000,settings.BURST=true,secretRefs={bridge}",
        "config=[[routes]]",
    )
    metric = of_kind(documents, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
    assert metric["metric"]["name"] in CATALOGUE
    assert "replicas" not in of_kind(documents, "Deployment")["spec"]
    assert of_kind(documents, "PrometheusRule")["spec"]["groups"] == loaded(RULES)["groups"]
    (endpoint,) = of_kind(documents, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "k", "key": "read"}}
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert (variables["BRIDGE_MAX_CALLS"], variables["BURST"]) == ("1000000", "true")
    assert container["envFrom"] == [{"secretRef": {"name": "bridge"}}]
    sources = [rule.get("from") for rule in of_kind(documents, "NetworkPolicy")["spec"]["ingress"]]
    assert sources == [None, [{"ipBlock": {"cidr": "192.0.2.0/24"}}], None]


@needs("helm")
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("settings.TWILIO_AUTH_TOKEN=hunter2", "TWILIO_AUTH_TOKEN"),
        ("ingress.enabled=true", "ingress.host is the name that carriers are told"),
        ("persistence.enabled=true,replicas=2", "a volume belongs to one pod"),
        ("persistence.enabled=true,autoscaling.enabled=true", "turn persistence off"),
    ],
)
def test_helm_refuses_what_cannot_work(values: str, words: str) -> None:
    done = run("helm", "template", "r", CHART, "--set", values)
    assert done.returncode != 0
    assert words in done.stderr
