"""What the pipeline will fetch, need and take, from params.yaml alone: `make plan`.

python -m pipeline.plan nsd --device gpu24     as after `make preset NAME=nsd`, on such a GPU
python -m pipeline.plan --memory 64 --disk 500 for a machine with so many GB
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from fmri2clip.core.params import Params, parse
from fmri2clip.core.stage import ends_in_one_line
from fmri2clip.core.strict import check_known
from fmri2clip.stages.check_params import plan, table, validate
from fmri2clip.stages.check_params.machine import DEVICES, GB
from pipeline.preset import patch


def read_params(presets: list[str], root: Path = Path()) -> Params:
    """params.yaml with these presets in this order; no file changes. Raises ValueError."""
    known = sorted(path.stem for path in (root / "presets").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "params.yaml"
        copy.write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        for name in presets:
            check_known(name, known, str(root / "presets"), "preset")
            copy.write_text(patch(copy, root / "presets" / f"{name}.yaml"), encoding="utf-8")
        params = parse(copy.read_text(encoding="utf-8"))
    # A plan comes before the terms are accepted.
    accepted = dataclasses.replace(params.dataset, accept_terms=True)
    validate.validate(dataclasses.replace(params, dataset=accepted))
    return params


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.plan", description=__doc__)
    parser.add_argument("presets", nargs="*", help="files of presets/, in this order")
    parser.add_argument("--device", choices=DEVICES, default="", help="whose speed; else detected")
    parser.add_argument("--memory", type=float, help="GB of RAM, if not of this machine")
    parser.add_argument("--disk", type=float, help="GB of free disk, if not of this machine")
    parser.add_argument("--json", action="store_true", help="numbers in place of the table")
    given = parser.parse_args()
    with ends_in_one_line("plan"):
        found = plan.make_plan(read_params(given.presets), Path(), given.device)
        changes = {"memory": given.memory, "disk": given.disk}
        machine = dataclasses.replace(
            found.machine, **{name: value * GB for name, value in changes.items() if value}
        )
        found = dataclasses.replace(found, machine=machine)
        title = " + ".join(["Plan of params.yaml", *given.presets])
        print(json.dumps(plan.as_json(found)) if given.json else table.describe(found, title))


if __name__ == "__main__":
    main()
