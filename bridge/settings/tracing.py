"""Where traces go. The names are OpenTelemetry's own."""

from __future__ import annotations

from urllib.parse import unquote

from pydantic import SecretStr, field_validator

from bridge.settings.base import HttpUrl, Topic, setting


class TracingSettings(Topic):
    """Traces."""

    otel_exporter_otlp_endpoint: HttpUrl | None = setting(
        None,
        "Receiver of traces by OTLP over HTTP, such as `http://collector:4318`; a trace a call. Needs "
        "`telephony-bridge[otel]`, which the image has. Unset: no traces. OpenTelemetry's other variables "
        "(`OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, ...) are taken from the environment as they are.",
        restart=True,
    )
    otel_exporter_otlp_headers: SecretStr | None = setting(
        None, "Headers for that receiver, for its key: `api-key=...,other=...`.", restart=True
    )
    otel_service_name: str = setting(
        "telephony-bridge", "The name under which traces are found.", restart=True,
        pattern=r"^\S.{0,99}$", expected="up to 100 characters",
    )  # fmt: skip

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _pairs(cls, value: SecretStr | None) -> SecretStr | None:
        _parse(value)
        return value

    @property
    def otel_header_map(self) -> dict[str, str]:
        """The headers by their names in lower case; secret."""
        return _parse(self.otel_exporter_otlp_headers)


def _parse(value: SecretStr | None) -> dict[str, str]:
    """Pairs like W3C baggage: percent-encoded values, commas between them."""
    out: dict[str, str] = {}
    for number, piece in enumerate((value.get_secret_value() if value is not None else "").split(","), 1):
        name, equals, text = piece.strip().partition("=")
        if not piece.strip():
            continue
        if not equals or not name.strip():
            raise ValueError(f"has as part {number} what is no NAME=VALUE; give name=value,name=value")
        out[name.strip().lower()] = unquote(text.strip())
    return out
