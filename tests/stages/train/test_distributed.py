"""Two processes that train together take the steps of one: same losses, same weights, one
checkpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fmri2clip.decoders.parts import distributed
from fmri2clip.decoders.parts.distributed import Shares
from tests.stages.train.distributed_losses import SETTINGS, train

SCRIPT = Path(__file__).with_name("distributed_losses.py")


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """torchrun with gloo on this machine; about 12 s of computing, most of it imports."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = [sys.executable, *torchrun, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    both = [json.loads((tmp_path / f"out.{rank}").read_text()) for rank in (0, 1)]
    for name in SETTINGS:
        losses, rows, state = train(name, tmp_path / f"{name}_alone")
        assert (
            len(losses) >= 6 and max(losses) - min(losses) > 0.01
        )  # steps differ by more than the tolerance
        for process in both:
            assert process[name][0] == pytest.approx(losses, abs=1e-4)
            assert process[name][1][-1] == pytest.approx(rows[-1], abs=1e-3)
            assert process[name][2] == pytest.approx(state, abs=2e-3)
        assert [file.name for file in (tmp_path / name).iterdir()] == ["last.ckpt"]


def test_one_process_decodes_everything() -> None:
    x = torch.arange(5)
    shares = Shares([3, 2])
    assert torch.equal(shares.take(0, x[:3]), x[:3]) and shares.gather(x) is x


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
def test_gathered_rows_come_in_their_own_order(
    n_ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of two parts of 5 and 2 rows."""
    parts = [torch.arange(5), torch.arange(10, 12)]
    monkeypatch.setattr(distributed, "world_size", lambda: n_ranks)
    shares, sent = Shares([5, 2]), []
    for rank in range(n_ranks):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        sent.append(torch.cat([shares.take(p, part) for p, part in enumerate(parts)]))
    assert len({len(x) for x in sent}) == 1
    monkeypatch.setattr(distributed, "all_gather", lambda x: torch.cat(sent))
    assert torch.equal(shares.gather(sent[0]), torch.cat(parts))
