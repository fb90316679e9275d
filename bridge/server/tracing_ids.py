"""An id generator for OpenTelemetry's SDK whose ids are given: the bridge derives them from calls' ids.

A module of its own because its base class is there only with the extra ``otel``.
"""

from __future__ import annotations

from opentelemetry.sdk.trace.id_generator import IdGenerator


class GivenIds(IdGenerator):
    """Gives each span the ids that were named just before; one thread only."""

    def __init__(self) -> None:
        self._trace_id, self._span_id = 1, 1

    def give(self, trace_id: int, span_id: int) -> None:
        """The next span has these ids."""
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """See ``IdGenerator``; asked for spans without a parent."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """See ``IdGenerator``."""
        return self._span_id
