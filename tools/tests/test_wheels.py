"""The distributions as a stranger gets them: built, published, installed, imported."""

import contextlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import check
import pytest
from packaging.requirements import Requirement

MEMBERS = check.members()

# What this machine may have set that would lead uv to another environment, or to publish elsewhere.
SILENCED = ("UV_PROJECT", "UV_PUBLISH", "VIRTUAL_ENV")

# In a process of its own: the index's web framework puts an import hook into whoever loads it.
# Port 0 is any free one, printed on the first line. Without fallback, what the shelf lacks is not
# found there, so that uv queries its default index.
SERVE = """
import sys
from wsgiref.simple_server import make_server

import pypiserver

index = pypiserver.app(
    roots=[sys.argv[1]], authenticate=[], password_file=".", disable_fallback=True
)
server = make_server("127.0.0.1", 0, index)
print(server.server_port, flush=True)
server.serve_forever()
"""


def uv(*arguments: str, **extra: str) -> str:
    """Run uv at the root and return what it wrote; fail the test with it if uv failed."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(SILENCED)}
    done = subprocess.run(
        [check.find_uv(), *arguments],
        cwd=check.ROOT,
        env=environment | extra,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"uv {' '.join(arguments)}\n{done.stdout}", pytrace=False)
    return done.stdout


def new_environment(directory: Path) -> Path:
    """Make an empty environment and return its interpreter."""
    uv("venv", "--quiet", "--python", sys.executable, str(directory))
    return directory / ("Scripts" if os.name == "nt" else "bin") / "python"


def installed(python: Path) -> dict[str, str]:
    """Map what an environment holds to its versions."""
    lines = uv("pip", "freeze", "--python", str(python)).splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build all eight distributions as their publisher would."""
    directory = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--out-dir", str(directory))
    return directory


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the runtime lock as constraints, so that a new release elsewhere fails no test here."""
    file = tmp_path_factory.mktemp("lock") / "constraints.txt"
    options = ["--no-dev", "--no-emit-workspace", "--no-hashes", "--no-header", "--no-annotate"]
    uv("export", "--quiet", "--frozen", "--all-packages", *options, "--output-file", str(file))
    return file


def test_a_plain_run_needs_no_compiler_and_no_tools(tmp_path: Path) -> None:
    """What `uv run bot` installs is all wheels; neither mitmproxy nor pytest is among it."""
    environment = tmp_path / "environment"
    options = ["--frozen", "--no-install-workspace", "--no-build", "--python", sys.executable]

    uv("sync", "--quiet", *options, UV_PROJECT_ENVIRONMENT=str(environment))

    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    names = set(installed(python))
    assert {"dydx-v4-client", "reactivex", "rich"} <= names
    assert not names & {"mitmproxy", "pytest", "ruff", "mypy", "pypiserver"}
    # The wallet's arithmetic is what used to want a compiler.
    subprocess.run([python, "-c", "import dydx_v4_client.wallet"], check=True, cwd=tmp_path)


def test_all_eight_distributions_build(wheels: Path) -> None:
    """One wheel and one source distribution each."""
    names = {name.replace("-", "_") for name in MEMBERS}

    assert names == {file.name.split("-")[0] for file in wheels.glob("*.whl")}
    assert names == {file.name.split("-")[0] for file in wheels.glob("*.tar.gz")}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wheel_installs_one_import_package(name: str, wheels: Path) -> None:
    """Beside its metadata a wheel holds the package of its name and nothing else."""
    package = name.replace("-", "_")
    [wheel] = wheels.glob(f"{package}-*.whl")

    files = [Path(file) for file in zipfile.ZipFile(wheel).namelist()]

    assert {package} == {file.parts[0] for file in files if ".dist-info" not in file.parts[0]}
    if name != "bot":
        assert [Path(package, "__init__.py")] == [file for file in files if file.suffix == ".py"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one environment for all layers: what two of them need is compiled once."""
    return new_environment(tmp_path_factory.mktemp("alone") / "environment")


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wheel_alone_imports_with_what_it_declares(
    name: str, wheels: Path, locked: Path, environment: Path, tmp_path: Path
) -> None:
    """In an environment that holds its declared dependencies and no others, a layer imports."""
    options = ["--no-build", "--find-links", str(wheels), "--constraint", str(locked)]

    # Exactly: what another layer brought goes.
    uv("pip", "install", "--quiet", "--exact", "--python", str(environment), *options, name)

    module = name.replace("-", "_")
    subprocess.run([environment, "-I", "-c", f"import {module}"], check=True, cwd=tmp_path)
    found = installed(environment)
    assert "pytest" not in found
    assert declared(name) == set(found).intersection(MEMBERS)


def declared(name: str) -> set[str]:
    """Name a layer and those it stands on, as they declare it."""
    needs = {Requirement(text).name for text in check.read_project(MEMBERS[name])["dependencies"]}
    return {name}.union(*(declared(need) for need in needs.intersection(MEMBERS)))


def test_a_published_layer_installs_by_its_bounds(
    wheels: Path, locked: Path, tmp_path: Path
) -> None:
    """Published to an index with `uv publish`, dydx-risk brings the layers it stands on."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    python = new_environment(tmp_path / "environment")
    files = [str(file) for file in sorted(wheels.iterdir()) if file.suffix in (".whl", ".gz")]

    with package_index(shelf) as address:
        who = ["--username", "anyone", "--password", "anything", "--trusted-publishing", "never"]
        uv("publish", "--quiet", "--publish-url", address, *who, *files)
        options = ["--no-build", "--constraint", str(locked), "--index", f"{address}/simple/"]
        uv("pip", "install", "--quiet", "--python", str(python), *options, "dydx-risk")

    assert {Path(file).name for file in files} == {file.name for file in shelf.iterdir()}
    found = installed(python)
    assert_bounds_hold(found)
    # What stands above risk stays out.
    assert {"dydx-paper", "dydx-panels", "bot"}.isdisjoint(found)
    subprocess.run([python, "-I", "-c", "import dydx_risk"], check=True, cwd=tmp_path)


def assert_bounds_hold(found: dict[str, str]) -> None:
    """Hold each installed layer's declared bounds against the versions beside it."""
    layers = [name for name in found if name in MEMBERS]
    assert "dydx-risk" in layers
    for name in layers:
        project = check.read_project(MEMBERS[name])
        for need in map(Requirement, project["dependencies"]):
            assert need.specifier.contains(found[need.name]), f"{name} wants {need}"


@contextlib.contextmanager
def package_index(shelf: Path) -> Iterator[str]:
    """Serve a package index on loopback that knows what is on the shelf and nothing more."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(shelf)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()
