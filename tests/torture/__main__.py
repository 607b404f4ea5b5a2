"""Kills and faults a run of the digits at random moments, and looks whether anything is lost.

    python -m tests.torture --minutes=5

from the root of the clone. Exit status 1 where something was lost, or a start ended otherwise than
docs/reliability.md says.
"""

import argparse
import json
import pathlib
import signal
import sys
import tempfile

from tests.torture.campaign import Campaign
from tests.torture.faults import KINDS


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="torture") as temporary:
        folder = pathlib.Path(options.workdir or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(folder, options.faults, options.seed, options.minutes, options.most)
        tally = campaign.run()
    print(f"\n{tally.table()}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(tally.as_json(), indent=2) + "\n")
    return 0 if tally.is_good else 1


def _end(number: int, frame: object) -> None:
    """Ends as an exception does, so that nothing stays mounted; another signal waits for that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all choices (%(default)s)")
    parser.add_argument("--workdir", help="keeps what was lost, and compiled programs")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--most", type=int, help="ends after so many faults, if before the time")
    kinds = "; ".join(f"{kind.name}: {kind.what}" for kind in KINDS.values())
    parser.add_argument(
        "--faults",
        type=lambda text: text.split(","),
        default=list(KINDS),
        help=f"some of them, with commas between (all); {kinds}",
    )
    options = parser.parse_args(arguments)
    for name in options.faults:
        if name not in KINDS:
            parser.error(f"--faults: got {name!r}, expected some of {', '.join(KINDS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
