from __future__ import annotations

import pytest

from fmri2clip.decoders.batches import TrainingData
from tests.tiny_subject import make_tiny


@pytest.fixture
def tiny() -> TrainingData:
    """One subject; see make_tiny."""
    return make_tiny()
