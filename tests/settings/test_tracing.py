"""Settings of traces."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bridge.settings.tracing import TracingSettings


def test_it_is_off_by_default() -> None:
    settings = TracingSettings()
    assert settings.otel_exporter_otlp_endpoint is None
    assert settings.otel_header_map == {}
    assert settings.otel_service_name == "telephony-bridge"


def test_headers_are_pairs_and_secret() -> None:
    settings = TracingSettings.model_validate({"otel_exporter_otlp_headers": "Api-Key=a%3Db, other = 2,"})
    assert settings.otel_header_map == {"api-key": "a=b", "other": "2"}
    assert "a%3Db" not in repr(settings)


@pytest.mark.parametrize("value", ["hunter2", "=hunter2", "a=1,hunter2"])
def test_what_is_no_pair_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(ValidationError, match="no NAME=VALUE") as caught:
        TracingSettings.model_validate({"otel_exporter_otlp_headers": value})
    assert "hunter2" not in str(caught.value.errors(include_input=False))
