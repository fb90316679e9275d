"""What makes the image small: symbols go, what runs stays."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slim", ROOT / "deploy" / "image" / "slim.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_library_without_symbols_is_smaller_and_still_loads(tmp_path: Path) -> None:
    found = importlib.util.find_spec("msgspec._core")
    assert found is not None and found.origin is not None
    library = Path(found.origin).read_bytes()
    slimmed = tool().without_symbols(library)
    if slimmed == library:
        pytest.skip("shared libraries of this machine are not ELF-64")
    assert len(slimmed) < len(library)
    assert tool().without_symbols(slimmed) == slimmed
    copy = tmp_path / "copy.so"
    copy.write_bytes(slimmed)
    assert hasattr(ctypes.CDLL(str(copy)), "PyInit__core")


@pytest.mark.parametrize(
    "content",
    [b"", b"no library", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x01" + b"\xff" * 99],
)
def test_what_is_no_such_library_stays_as_it_is(content: bytes) -> None:
    assert tool().without_symbols(content) == content


def test_what_never_runs_goes(tmp_path: Path) -> None:
    goes = (
        "numpy/core/tests/test_x.py",
        "botocore/data/ec2/service.json",
        "pygments/lexers/ada.py",
        "phonenumbers/geodata/data0.py",
        "uvloop/loop.pyx",
        "pip/__init__.py",
    )
    stays = (
        "numpy/__init__.py",
        "botocore/data/s3/service.json",
        "botocore/data/endpoints.json",
        "pygments/lexers/python.py",
        "phonenumbers/data/region_DE.py",
        "bridge/server/console/page.js",
    )
    for name in (*goes, *stays):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    tool().slim(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(stays)
