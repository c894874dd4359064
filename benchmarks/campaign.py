"""What becomes of a run that is disturbed, and of input that is hostile: `make campaign`.

    python benchmarks/campaign.py                        # all parts; goes on where it was stopped
    python benchmarks/campaign.py kills --kills 250      # one part
    python benchmarks/campaign.py faults --only disk,cache
    ANOTHER/bin/python benchmarks/campaign.py repeat --here   # another Python, other versions
    python benchmarks/campaign.py --folder FOLDER        # clones and states there, not in build/

| part | what is done |
| --- | --- |
| kills | SIGKILL and SIGTERM at drawn moments over the whole DAG; the clock set back |
| faults | disk full, read-only, cut and corrupted files, two at once, MLflow gone |
| cases | numbers of params.yaml at their edges |
| network | an S3 service that stalls, lies, fails and resets |
| inputs | damaged files for every reader |
| repeat | clean runs at one thread and at two; `--here`: by this Python |

All but network and inputs took 2 hours and 10 minutes on two cores, three parts at a time; those
two take minutes. It was never timed as one command.

All work is done in clones at smoke size (presets/smoke.yaml), which need about 2 GB; nothing of the
project is touched but benchmarks/campaign.json, the table of all parts. Every draw comes from
--seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import campaign_cases  # noqa: E402
import campaign_faults  # noqa: E402
import campaign_inputs  # noqa: E402
import campaign_kills  # noqa: E402
import campaign_net  # noqa: E402
import campaign_repeat  # noqa: E402

PARTS = ("network", "inputs", "kills", "faults", "cases", "repeat")
KILLS = 250  # of which 200 are SIGKILL
INPUTS = 10_000


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--cases", type=int, default=campaign_cases.TIMES)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--only", default=",".join(campaign_faults.FAULTS), help="of the faults")
    parser.add_argument("--here", action="store_true", help="of repeat: by this Python")
    given = parser.parse_args()
    folder = given.folder.resolve()
    kills = campaign_kills.Campaign(folder / "kills", given.seed)
    bench = campaign_faults.Bench(kills.undisturbed, folder / "faults", given.seed)
    wanted = tuple(given.only.split(","))
    if unknown := set(wanted) - set(campaign_faults.FAULTS):
        parser.error(f"no fault {unknown.pop()!r}; there are {', '.join(campaign_faults.FAULTS)}")
    for part in [given.part] if given.part else PARTS:
        print(f"--- {part}", flush=True)
        match part:
            case "network":
                campaign_net.run(given.seed)
            case "inputs":
                campaign_inputs.run(given.inputs, given.seed)
            case "kills":
                campaign_kills.run(kills, given.kills)
            case "faults":
                kills.prepare()
                campaign_faults.run(bench, wanted)
            case "cases":
                kills.prepare()
                campaign_cases.run(bench, given.cases)
            case _:
                kills.prepare()
                campaign_repeat.run(folder / "repeat", kills.undisturbed, not given.here)


if __name__ == "__main__":
    main()
