"""Counters with labels that stay bounded whatever is counted, and cost an addition.

Some label values come from outside (an agent may call a tool of any name), and every new one would be a new series
for ever. Beyond ``MAX_SERIES`` a tally counts under ``OTHER``.
"""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily

from bridge.server.metric_catalogue import CATALOGUE

MAX_SERIES = 200
"""Of one tally: an operator's tools times their outcomes; more is somebody playing."""
MAX_LABEL_CHARS = 64

OTHER = "other"


class Series:
    """One counter of a tally."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count."""
        self.value += amount


class Tally:
    """A counter by labels, in the manner of prometheus-client's."""

    __slots__ = ("_label_names", "_name", "_series", "_text")

    def __init__(self, name: str, text: str, label_names: tuple[str, ...] = ()) -> None:
        """``name`` without ``_total``."""
        self._name, self._text, self._label_names = name, text, label_names
        self._series: dict[tuple[str, ...], Series] = {}
        if not label_names:
            self._series[()] = Series()  # there from the start, so that rates can be computed

    def labels(self, *values: str) -> Series:
        """The counter of these label values, in the order of the names."""
        if len(values) != len(self._label_names):
            raise ValueError(f"{self._name} has the labels {self._label_names}, not {len(values)} of them")
        series = self._series.get(values)
        if series is None:
            key = tuple(value[:MAX_LABEL_CHARS] for value in values)
            if len(self._series) >= MAX_SERIES:
                key = (OTHER,) * len(values)
            series = self._series.setdefault(key, Series())
        return series

    def inc(self, amount: float = 1.0) -> None:
        """Count, where there are no labels."""
        self.labels().inc(amount)

    def family(self) -> CounterMetricFamily:
        """The samples for ``/metrics``."""
        family = CounterMetricFamily(self._name, self._text, labels=self._label_names)
        for values, series in self._series.items():
            family.add_metric(values, series.value)
        return family


def tally(name: str) -> Tally:
    """The tally of this name in the catalogue."""
    spec = CATALOGUE[name]
    return Tally(name.removesuffix("_total"), spec.text, spec.labels)
