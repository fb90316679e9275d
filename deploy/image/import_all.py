"""Ends the image's build unless all that was installed can be imported: ``python -B import_all.py``.

And compiles what ``bridge serve`` needs of the packages that take longest: the running container cannot keep bytecode,
and with these it starts in a third of the time. The rest is compiled at every start, which is cheaper than to carry it.
"""

from __future__ import annotations

import importlib
import pkgutil
import py_compile
import sys

import bridge

COMPILED = frozenset({"bridge", "fastapi", "sqlalchemy"})
EXTRAS = ("boto3", "botocore.session", "lameenc", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
"""What the bridge imports only when it is asked for, of the extras that the image has."""
ELSEWHERE = ("bridge.__main__", "bridge.server.store.migrations.")
"""Run by Python and by Alembic, not imported."""


def main() -> None:
    """Compile, then import everything."""
    importlib.import_module("bridge.cli")
    importlib.import_module("bridge.server.serve")
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if name.partition(".")[0] in COMPILED and path.endswith(".py"):
            py_compile.compile(path, doraise=True)
    for found in pkgutil.walk_packages(bridge.__path__, "bridge."):
        if not f"{found.name}.".startswith(ELSEWHERE):
            importlib.import_module(found.name)
    for name in EXTRAS:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
