"""Makes an installed environment small, inside the image's build stage: ``python slim.py SITE_PACKAGES``.

Takes away what a running bridge never opens: symbols for debuggers, tests, headers and sources of compiled modules, the
AWS services besides S3 and those that give out credentials, other databases' dialects, and the places that phone
numbers belong to. Half of the installed size, none of what runs. The build then imports the whole bridge
(``import_all.py``) and ends where something is missing.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

AWS_SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})
"""Buckets, and the ways to credentials for them."""

UNUSED_FOLDERS = (
    "phonenumbers/geodata",
    "phonenumbers/carrierdata",
    "phonenumbers/tzdata",
    "boto3/examples",
    "numpy/f2py",
    "numpy/_core/include",
    "numpy/random/lib",
    "google/api",
    "google/type",
    "sqlalchemy/testing",
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/mysql",
    "sqlalchemy/dialects/oracle",
    "pycparser",
    "watchfiles",
    "pip",
)
UNUSED_PATTERNS = ("**/tests", "**/test", "pip-*.dist-info", "**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.c", "**/*.a")

KEPT_LEXERS = frozenset({"__init__", "_mapping", "python", "special"})
"""Of Pygments, which colours tracebacks."""

ELF64_LITTLE = b"\x7fELF\x02\x01"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


def unused(packages: Path) -> Iterator[Path]:
    """What can go."""
    for name in UNUSED_FOLDERS:
        yield packages / name
    for pattern in UNUSED_PATTERNS:
        yield from packages.glob(pattern)
    yield from (each for each in packages.glob("pygments/lexers/*.py") if each.stem not in KEPT_LEXERS)
    services = packages / "botocore" / "data"
    if services.is_dir():
        yield from (each for each in services.iterdir() if each.is_dir() and each.name not in AWS_SERVICES)


def without_symbols(library: bytes) -> bytes:
    """A shared library with nothing but its segments, which is all that the loader reads (ELF-64, "Program Header").

    What is no such library, or lies in its file in an unusual order, comes back as it was.
    """
    if not library.startswith(ELF64_LITTLE) or len(library) < HEADER.size:
        return library
    fields = list(HEADER.unpack_from(library))
    table, size, count = fields[5], fields[9], fields[10]
    if size != PROGRAM_HEADER.size or table + size * count > len(library):
        return library
    headers = [PROGRAM_HEADER.unpack_from(library, table + number * size) for number in range(count)]
    end = max([table + size * count, *(offset + length for _, _, offset, _, _, length, _, _ in headers)])
    if end > len(library):
        return library
    fields[6] = fields[12] = fields[13] = 0  # the table of sections is gone: offset, count, names
    return HEADER.pack(*fields) + library[HEADER.size : end]


def remove(path: Path) -> None:
    """A file or a folder; it may be gone already, with the folder around it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def slim(packages: Path) -> None:
    """Do all of it."""
    for path in list(unused(packages)):
        remove(path)
    for path in packages.glob("**/*.so*"):
        if path.is_file():
            path.write_bytes(without_symbols(path.read_bytes()))


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
