"""Replay bundled recordings on every Python that the bot runs on, and compare the run hashes.

    uv run --all-packages --group dev tools/versions.py     a line for each Python and recording

The same frames give the same bytes, on whichever Python. This one plays them where it is; each
other that is installed gets an environment, as the lock pins it, for as long as this runs; nothing
is installed for it that is not there. Exit code 1 if two hashes differ, 77 if there is nothing to
compare, else 0.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from check import ROOT, SKIPPED, find_uv

VERSIONS = ("3.11", "3.12")
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
RECORDINGS = ("quickstart", "sixty")

Hashes = Mapping[str, Mapping[str, str]]


def main() -> int:
    """Replay on each Python, print what came out and return the exit code."""
    uv = find_uv()
    found = {version: interpreter(uv, version) for version in VERSIONS if version != OURS}
    pythons = {version: path for version, path in found.items() if path is not None}
    if lacking := [version for version in found if version not in pythons]:
        print(f"Python {' and '.join(lacking)} is not installed: nothing to compare with")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        hashes = {OURS: replays(Path(sys.executable))} | {
            version: replays(environment(uv, python, Path(folder, version)))
            for version, python in pythons.items()
        }
    print("\n".join(f"{v}  {name:<12} {hashes[v][name]}" for v in hashes for name in hashes[v]))
    differing = differences(hashes)
    print(f"differ: {', '.join(differing)}" if differing else "the same on each")
    return 1 if differing else 0


def interpreter(uv: str, version: str) -> str | None:
    """Find an installed Python of a version, where uv or pyenv would; None if there is none."""
    command = [uv, "python", "find", "--quiet", "--no-project", "--no-python-downloads", version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    # pyenv hides from the path what nobody has chosen.
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    others = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    return str(others[-1]) if others else None


def environment(uv: str, python: str, folder: Path) -> Path:
    """Install the bot for a Python into a folder, as the lock pins it; return its interpreter."""
    command = [uv, "sync", "--quiet", "--frozen", "--package", "bot", "--python", python]
    place = {"UV_PROJECT_ENVIRONMENT": str(folder)}
    subprocess.run(command, cwd=ROOT, env=os.environ | place, check=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def replays(python: Path) -> dict[str, str]:
    """Map each recording to its run hash under an interpreter."""
    return {name: run_hash(python, name) for name in RECORDINGS}


def run_hash(python: Path, recording: str) -> str:
    """Replay a recording and return the hash over all that the bot did."""
    command = [str(python), "-m", "bot", "replay", recording, "--json", "--config", "none"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return str(json.loads(done.stdout)["run_hash"])


def differences(hashes: Hashes) -> list[str]:
    """Name the recordings whose hash is not the same on each Python."""
    names = {name for of_one in hashes.values() for name in of_one}
    return sorted(
        name for name in names if len({of_one.get(name) for of_one in hashes.values()}) > 1
    )


if __name__ == "__main__":
    sys.exit(main())
