"""Make bundles here, and let them come out the same on what is as good as another machine.

    uv run --all-packages --group dev tools/elsewhere.py              every Python that is installed
    uv run --all-packages --group dev tools/elsewhere.py --python 3.12

    this workspace ─► bot bundle ─► files ──────────────────────────┐
                   └► wheels ─► an environment of its own, in which ┴► bot bundle check

The other machine has the wheels and what they declare, none of this workspace, another directory,
home, time zone, language and seed of hashes, and settings of its own that must not count. What is
bundled: the last fill of the crash, one under `--profile reckless --no-guard` with its liquidation,
one of a strategy of a user's, and a run of several strategies. A bundle that somebody has changed
must be found out there too. Exit code 1 if anything is not so, 77 where nothing can be installed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import check

SKIPPED: Final = 77
PYTHONS: Final = ("3.11", "3.12")
STRATEGY: Final = """from dydx_strategy import Decision


class Contrarian:
    name = "contrarian"

    def step(self, scored, held):
        momentum, long = scored.value("momentum"), held.usdc(scored.ticker) > 0
        if momentum is None:
            return
        if momentum < 20 and not long:
            yield Decision.of(scored, 2_000.0, f"momentum {momentum:.0f}, below 20")
        elif momentum > 50 and long:
            yield Decision.of(scored, 0.0, f"momentum {momentum:.0f}, above 50")


strategy = Contrarian
"""
MIX: Final = """[[strategies]]
use = "rank"
weight = 2

[[strategies]]
use = "reversion"
"""
# What is bundled, by name: the id, then how the run was chosen.
BUNDLES: Final[dict[str, list[str]]] = {
    "crash": ["F39", "quickstart"],
    "liquidated": ["F22", "quickstart", "--profile", "reckless", "--no-guard"],
    "own": ["F1", "quickstart", "--strategy", "contrarian.py"],
    "several": ["V9", "sixty", "--strategy", "mix.toml"],
}


def main(arguments: Sequence[str]) -> int:
    """Make the bundles, and check them in each environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", help="version of Python (default: all found)")
    pythons = parser.parse_args(arguments).python or [*found_pythons()]
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as folder:
        place = Path(folder)
        (place / "contrarian.py").write_text(STRATEGY)
        (place / "mix.toml").write_text(MIX)
        bundles = [made(place, name, words) for name, words in BUNDLES.items()]
        uv("build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(place / "wheels"))
        worst = 0
        for python in pythons:
            environment = installed(place, python)
            if environment is None:
                print(f"expected Python {python} and what the bot needs, got no way to install it")
                return SKIPPED
            worst = max(worst, *(checked(place, environment, python, file) for file in bundles))
            worst = max(worst, found_out(place, environment, python, bundles[0]))
    return worst


def found_pythons() -> Iterator[str]:
    """Yield the versions that are installed on this machine."""
    return filter(found_python, PYTHONS)


def found_python(version: str) -> str | None:
    """Return an interpreter of a version: of those uv finds, or else of those pyenv has."""
    done = run([check.find_uv(), "python", "find", "--no-python-downloads", version])
    if done.returncode == 0:
        return done.stdout.splitlines()[-1]
    # A version that pyenv has and did not choose is on the path as a shim that refuses.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[-1]) if found else None


def made(place: Path, name: str, words: Sequence[str]) -> Path:
    """Bundle one run here."""
    out = place / f"{name}.tar.zst"
    recording = str(check.ROOT / "recordings" / f"{words[1]}.jsonl.zst")
    typed = ["bundle", words[0], recording, *words[2:], "--out", str(out), "--config", "none"]
    done = run([sys.executable, "-m", "bot", *typed], cwd=place)
    if done.returncode:
        raise SystemExit(f"{name}: expected a bundle, got:\n{done.stdout}")
    print(f"{name:<12} {out.stat().st_size / 1024:,.0f} KB  {done.stdout.splitlines()[1]}")
    return out


def installed(place: Path, python: str) -> Path | None:
    """Install the wheels and what they declare; return the interpreter, None if it cannot be."""
    environment = place / f"python-{python}"
    lock = place / "lock.txt"
    options = ["--no-dev", "--no-emit-workspace", "--no-hashes", "--no-header", "--no-annotate"]
    uv("export", "--quiet", "--frozen", "--all-packages", *options, "--output-file", str(lock))
    chosen = ["--no-python-downloads", "--python", found_python(python) or python]
    if run([check.find_uv(), "venv", "--quiet", *chosen, str(environment)]).returncode:
        return None
    interpreter = environment / "bin" / "python"
    wanted = ["--no-build", "--find-links", str(place / "wheels"), "--constraint", str(lock)]
    install = [check.find_uv(), "pip", "install", "--quiet", "--python", str(interpreter), *wanted]
    done = run([*install, "bot"])
    if done.returncode:
        print(done.stdout)
    return None if done.returncode else interpreter


def checked(place: Path, python: Path, version: str, bundle: Path) -> int:
    """Check a bundle on the other machine; return 1 if it does not come out the same."""
    done = there(place, python, bundle)
    word = "FAILED" if done.returncode else "the same"
    print(f"Python {version}  {bundle.name:<22} {word}")
    if done.returncode:
        print(done.stdout)
    return int(done.returncode != 0)


def found_out(place: Path, python: Path, version: str, bundle: Path) -> int:
    """Flip a bit of a bundle, and see that it is refused; return 1 if it is not."""
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    changed = place / "changed.tar.zst"
    changed.write_bytes(content)
    done = there(place, python, changed)
    refused = done.returncode == 2
    print(f"Python {version}  {changed.name:<22} {'refused' if refused else 'NOT REFUSED'}")
    return int(not refused)


def there(place: Path, python: Path, bundle: Path) -> "subprocess.CompletedProcess[str]":
    """Run `bot bundle check` as on another machine."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    (home / "bot.yaml").write_text("profile: reckless\ndeposit: 77\n")
    elsewhere = {
        "HOME": str(home), "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7",
        "DYDX__POLICY__MAX_LEVERAGE": "0.5", "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    typed = [str(python), "-I", "-m", "bot", "bundle", "check", str(bundle), "--run-code"]
    return run(typed, cwd=home, env=elsewhere)


def uv(*arguments: str) -> None:
    """Run uv at the root; end with what it wrote if it failed."""
    done = run([check.find_uv(), *arguments], cwd=check.ROOT)
    if done.returncode:
        raise SystemExit(f"uv {' '.join(arguments)}\n{done.stdout}")


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command; its errors stand among what it printed."""
    return subprocess.run(
        command, cwd=cwd or check.ROOT, env=env or {**os.environ}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
