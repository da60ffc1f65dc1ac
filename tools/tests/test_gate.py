"""A member's gate, reached from the root: tried in a workspace of two small members.

The miniature borrows this environment (nothing is installed, nothing is downloaded), this
workspace's tools/conftest.py (and leaks.py, which it has), and the real uv.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import check
import conftest
import leaks
import pytest

ROOT_CONFIG = """
[tool.uv.workspace]
members = ["packages/*"]

[tool.pytest.ini_options]
testpaths = ["tools"]
pythonpath = ["tools"]
addopts = "--import-mode=importlib"
"""

MEMBER_CONFIG = """
[project]
name = "{name}"
version = "1"

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["src"]
addopts = "--import-mode=importlib --cov={name} --cov-branch --cov-fail-under=95"
"""

SOURCE = '''
def sign(number):
    """Return -1 below nought, else 1."""
    if number < 0:
        return -1
    return 1
'''


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Make a workspace whose member `whole` is covered and whose member `half` is not."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for module in (conftest, leaks):
        shutil.copy(str(module.__file__), tools)
    (tmp_path / "pyproject.toml").write_text(ROOT_CONFIG)
    (tools / "test_tools.py").write_text("def test_of_the_tools(): pass\n")
    for name, inputs in {"whole": (-1, 1), "half": (1,)}.items():
        member = tmp_path / "packages" / name
        (member / "src" / name).mkdir(parents=True)
        (member / "tests").mkdir()
        (member / "pyproject.toml").write_text(MEMBER_CONFIG.format(name=name))
        (member / "src" / name / "__init__.py").write_text(SOURCE)
        (member / "tests" / f"test_{name}.py").write_text(
            f"from {name} import sign\n\ndef test_of_{name}():\n    assert {inputs} == "
            f"tuple(sign(number) for number in {inputs})\n"
        )
    return tmp_path


def run(workspace: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Type a uv command at the root of the miniature, in the environment at hand."""
    env = {
        name: text for name, text in os.environ.items() if not name.startswith(("PYTEST", "COV"))
    }
    env |= {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1", "UV_OFFLINE": "1"}
    env["PYTEST_ADDOPTS"] = (
        "-p no:schemathesis"  # half a second of each run, and there are fourteen
    )
    return subprocess.run(
        [check.find_uv(), "run", *command],
        cwd=workspace,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_member_that_is_not_covered_fails_its_gate_at_the_root(workspace: Path) -> None:
    """All of `half`'s tests pass, and still the command fails: its own gate was in force."""
    done = run(workspace, "--package", "half", "pytest", "-v")

    assert "test_of_half PASSED" in done.stdout
    assert "Required test coverage of 95% not reached" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    "command",
    [
        ("--package", "whole", "pytest", "-v"),
        ("--package=whole", "--", "python", "-m", "pytest", "-v", "-k", "whole"),
        ("--package", "whole", "sh", "-c", "pytest -v; exit $?"),
    ],
    ids=["plain", "as-a-module", "through-a-shell"],
)
def test_a_member_runs_its_own_tests_and_nothing_else(
    workspace: Path, command: tuple[str, ...]
) -> None:
    """However it is typed, `whole`'s tests run, no other's do, and they meet `whole`'s gate."""
    done = run(workspace, *command)

    assert "test_of_whole PASSED" in done.stdout
    assert "1 passed" in done.stdout
    assert "Required test coverage of 95% reached" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_package_the_root_runs_the_tools_tests(workspace: Path) -> None:
    """A plain `uv run pytest` at the root keeps to the root's configuration."""
    done = run(workspace, "pytest", "-v")

    assert "test_of_the_tools PASSED" in done.stdout
    assert "1 passed" in done.stdout
    assert done.returncode == 0


def test_a_path_given_by_hand_is_left_to_pytest(workspace: Path) -> None:
    """A path names what to run; `--package` then names only what to install."""
    done = run(workspace, "--package", "half", "pytest", "-v", "tools")

    assert "test_of_the_tools PASSED" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run --package dydx-risk pytest", "dydx-risk"),
        ("run --package=dydx-risk pytest", "dydx-risk"),
        ("-q run -p python3 --package dydx-risk -- pytest", "dydx-risk"),
        ("run --group dev pytest", None),
        ("run pytest --package dydx-risk", None),
        ("run -- other --package dydx-risk", None),
        ("run --all-packages --group dev tools/check.py", None),
        ("", None),
    ],
)
def test_the_package_is_read_from_uvs_own_options_alone(typed: str, expected: str | None) -> None:
    """`--package` counts before the command and not after it."""
    found = conftest.requested_package(typed.split())

    assert expected == found


def test_an_unknown_member_is_refused_with_the_names_there_are() -> None:
    """The message names what could have been requested."""
    with pytest.raises(pytest.UsageError, match=r"expected one of bot, dydx-conn, .*'dydx-rsik'"):
        conftest.member("dydx-rsik")


def test_a_process_names_its_parent_and_its_arguments() -> None:
    """The hook reads the process table as it is: here, of this very process."""
    parent, arguments = conftest.process(os.getpid())

    assert os.getppid() == parent
    assert "python" in Path(arguments[0]).name


def test_where_there_is_no_proc_ps_reports_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems without /proc answer through ps."""
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    if shutil.which("ps") is None:
        pytest.skip("there is no ps here")

    parent, arguments = conftest.process(os.getpid())

    assert os.getppid() == parent
    assert "python" in Path(arguments[0]).name


def test_a_process_that_cannot_be_read_is_an_error_with_a_way_out() -> None:
    """Rather than run the wrong tests, the hook prints what to type instead."""
    no_such_process = 2**22 + 1

    with pytest.raises(pytest.UsageError, match="run pytest in the package's own directory"):
        conftest.process(no_such_process)
