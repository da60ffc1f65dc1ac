"""Draw the README's picture of the dashboard, and look whether it is still what is drawn.

    uv run --all-packages --group dev tools/picture.py          whether it is
    uv run --all-packages --group dev tools/picture.py --draw   draw it again

The bundled recording, up to the guard's first steps in the crash. What a machine measures of
itself is as one machine measured it once, so that it is the same picture wherever it is drawn. Exit
code 1 if the one in the repository is another, else 0.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bot.live.runs import until
from bot.run.budget import Foreseen
from bot.run.composition import Bot, Options
from bot.screen.snapshot import snapshot_of
from bot.screen.travel import Travel, remade
from check import ROOT
from dydx_conn import Inbox, find_recording
from dydx_panels import HealthPart, Snapshot, SpeedPart, export_svg
from msgspec.structs import replace

PICTURE = ROOT / "apps" / "bot" / "dashboard.svg"
RECORDING, SECONDS, SPEED, SIZE = "quickstart", 560.0, 20.0, (150, 45)
# On two cores of a busy server: `bot replay quickstart`, read off its first row.
MEASURED = {"lag_p99_ms": 0.9, "frames_per_s": 303.0, "memory_mb": 76.0, "cpu_percent": 10.0}


def main(arguments: Sequence[str], path: Path = PICTURE) -> int:
    """Compare or draw; return the exit code."""
    drawn = picture()
    if "--draw" in arguments:
        path.write_text(drawn, encoding="utf-8")
        print(f"drawn: {path}")
        return 0
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    if stored != drawn:
        print(f"expected {path} to be what is drawn, got another picture: tools/picture.py --draw")
        return 1
    print("the picture is what is drawn")
    return 0


def picture() -> str:
    """Return the picture as SVG."""
    return export_svg(on_one_machine(played()), width=SIZE[0], height=SIZE[1])


def played() -> Snapshot:
    """Play the recording to where the picture is taken; return what a screen shows there."""
    recording, bot = Foreseen(find_recording(RECORDING)), Bot(Options())
    bot.follow()
    travel = Travel(bot, recording, Inbox(), remade(bot))
    bot.run(travel.frames(until(SECONDS, lambda _: True)))
    return snapshot_of(bot, mode="REPLAY", name=RECORDING, speed=SPEED, timeline=travel.timeline)


def on_one_machine(shown: Snapshot) -> Snapshot:
    """Put in what one machine measured, in place of what this one does."""
    header = replace(shown.header, **MEASURED)
    return replace(shown, header=header, speed=SpeedPart(), health=HealthPart())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
