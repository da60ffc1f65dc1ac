"""The executable's build: what belongs in it; that it works is tried by `tools/executable.py`."""

import re
from pathlib import Path

import empty_root
import executable
import pytest


def test_what_is_no_part_of_the_bot_stays_out() -> None:
    """Tools and tests that are installed here as well; never what it requires."""
    left = set(executable.excluded())

    assert {"pytest", "hypothesis", "mypy", "mitmproxy", *executable.LEFT_OUT} <= left
    assert left.isdisjoint({"bot", "dydx_conn", "dydx_v4_client", "fastapi", "plotly", "apprise"})


def test_its_own_packages_are_found_though_nobody_lists_their_files() -> None:
    """They are installed to be edited."""
    found = executable.packages(["bot", "dydx-conn", "pyyaml"])

    assert {"bot", "dydx_conn", "yaml"} <= found


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("plotly/labextension/static/1.js", True),
        ("plotly/package_data/plotly.min.js", False),
        ("v4_proto/a/b_pb2.pyi", True),
        ("rich/py.typed", True),
        ("recordings/quickstart.jsonl.zst", False),
        ("bot/database/migrations/__pycache__/env.cpython-311.pyc", True),
        ("bot/database/migrations/env.py", False),
    ],
)
def test_files_that_nothing_reads_stay_out(name: str, left: bool) -> None:
    """They would be unpacked at each start."""
    assert bool(executable.FILES_LEFT_OUT.fullmatch(name)) == left


def test_the_newest_c_library_that_is_named_is_the_one_that_is_wanted(tmp_path: Path) -> None:
    """Versions are numbers: 2.10 is newer than 2.9."""
    (tmp_path / "a.so").write_bytes(b"\0GLIBC_2.9\0GLIBC_2.10\0")
    (tmp_path / "b.so").write_bytes(b"\0GLIBC_2.2.5\0")

    assert executable.wanted_glibc(tmp_path.iterdir()) == "2.10"


def test_the_commit_is_one() -> None:
    """And says whether there is more than it."""
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", executable.commit())


def test_what_is_imported_within_functions_is_tried_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own modules all are, of others those that any of them imports somewhere and that are here."""
    package = tmp_path / "packages" / "some" / "src" / "some"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").write_text("def late():\n    from xml.dom import minidom\n")
    (package / "part.py").write_text("import nowhere, json.decoder\nfrom . import late\n")
    (package / "migrations" / "env.py").write_text("import csv\n")
    monkeypatch.setattr(empty_root, "ROOT", tmp_path)

    assert set(empty_root.imported()) == {"some", "some.part", "xml.dom", "json.decoder"}
