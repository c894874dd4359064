"""The table of protocols, and what every row of the drift table of metrics.md changes in the
numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from fmri2clip.metrics.pictures import image_scores, protocols
from fmri2clip.metrics.pictures.evaluator import Evaluator
from fmri2clip.metrics.pictures.networks import Network
from fmri2clip.metrics.pictures.protocols import DIRECTIONS, PROTOCOLS, SLOTS, Protocol, Resize
from fmri2clip.metrics.pictures.resizing import PictureSet, prepare, to_uint8
from tests import frozen_pairs

MINDEYE, BRAINDIFFUSER, STRICT = PROTOCOLS.values()
N = 5
IDS = np.arange(N) * 3


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Larger than every size of the protocols, so that each step shrinks it."""
    return frozen_pairs.make_pairs(N, 448)


def measure(
    protocol: Protocol, pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> dict[str, float]:
    seen, made = (PictureSet(nsd_id_I=IDS[: len(x)], images_IHWC=x) for x in pairs)
    return Evaluator(protocol, seen, networks).score(made).values()


def with_resize(protocol: Protocol, slot: str, **changes: object) -> Protocol:
    """The protocol with another last step before one network."""
    rows = [
        replace(row, resize=(replace(row.resize[0], **changes),)) if row.slot == slot else row
        for row in protocol.networks
    ]
    return replace(protocol, networks=tuple(rows))


def correlate_features(
    network: Network, protocol: Protocol, slot: str, pairs: tuple[np.ndarray, ...]
) -> np.ndarray:
    """r_II of the first layer of a slot: finer than the few values that a two-way score of 5 images
    can take.
    """
    row = next(row for row in protocol.networks if row.slot == slot)
    layer = next(iter(row.layers.values()))
    seen, made = (
        network.maps(prepare(x, protocol, row.resize), [layer])[layer].reshape(N, -1) for x in pairs
    )
    return image_scores.correlate_all(seen, made)


def differs(a: np.ndarray, b: np.ndarray) -> bool:
    return float(np.abs(a - b).max()) > 1e-5


def test_table_says_what_the_specification_says() -> None:
    order = ["pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav"]
    sizes = {
        "mindeye-2023": {
            "alexnet": 256,
            "inception": 342,
            "clip": 224,
            "efficientnet": 255,
            "swav": 224,
        },
        "braindiffuser-2023": dict.fromkeys(SLOTS, 224),
    }
    sizes["strict-v1"] = sizes["mindeye-2023"]
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert {row.slot: row.resize[-1].size for row in protocol.networks} == sizes[name]
        assert protocol.metrics()[:8] == order
        assert protocol.pixels[-1].size == 425
    weights = {name: PROTOCOLS[name].networks[3].weights[-2:] for name in PROTOCOLS}
    assert weights == {"mindeye-2023": "V2", "braindiffuser-2023": "V1", "strict-v1": "V2"}
    assert [step.size for step in MINDEYE.common] == [256] and not BRAINDIFFUSER.common
    flags = [
        (p.eight_bit, p.ssim_columns, p.tie_credit, len(p.directions)) for p in PROTOCOLS.values()
    ]
    assert flags == [(False, False, 0.0, 1), (True, True, 0.0, 1), (False, False, 0.5, 2)]
    assert not any(
        step.antialias
        for step in (*MINDEYE.common, *MINDEYE.pixels, *(r.resize[0] for r in MINDEYE.networks))
    )


def test_strict_is_mindeye_save_for_what_it_names() -> None:
    changed = {f for f in STRICT.__dataclass_fields__ if getattr(STRICT, f) != getattr(MINDEYE, f)}
    named = {
        "common",
        "pixels",
        "networks",
        "directions",
        "tie_credit",
        "decimals",
        "undefined",
        "fp32",
        "brain",
    }
    assert changed == named | {"name"}
    steps = [*STRICT.common, *STRICT.pixels, *(row.resize[0] for row in STRICT.networks)]
    assert all(step.antialias and step.library == "tensor" for step in steps)
    assert STRICT.metrics()[-1] == "brain_correlation"


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("side", "size"), [(300, 256), (256, 425), (512, 100)])
def test_tensor_path_equals_oracle(side: int, size: int, antialias: bool) -> None:
    image = frozen_pairs.make_pairs(2, side)[0]
    found = prepare(image, replace(MINDEYE, common=()), (Resize(size=size, antialias=antialias),))
    np.testing.assert_allclose(
        found[0], frozen_pairs.resize_oracle(image[0], size, antialias), atol=3e-5
    )


def test_antialias_matters_for_shrinking_only() -> None:
    """torchvision 0.17 changed the default; 256 -> 425 and 256 -> 342 do not depend on it, the
    other steps do.
    """
    small, plain = frozen_pairs.make_pairs(2, 256)[0], replace(MINDEYE, common=())
    for size, same in ((425, True), (342, True), (224, False), (255, False)):
        a, b = (
            prepare(small, plain, (Resize(size=size, antialias=antialias),))
            for antialias in (False, True)
        )
        assert (np.abs(a - b).max() < 1e-5) == same, size


def test_row_mindeye_needs_antialias_off(
    pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> None:
    current = replace(MINDEYE, common=(Resize(size=256),))
    old, new = (measure(protocol, pairs, {}) for protocol in (MINDEYE, current))
    assert abs(old["pixcorr"] - new["pixcorr"]) > 1e-5 and abs(old["ssim"] - new["ssim"]) > 1e-3
    for slot in ("clip", "efficientnet", "swav"):
        a = correlate_features(networks[slot], MINDEYE, slot, pairs)
        assert differs(
            a,
            correlate_features(
                networks[slot], with_resize(MINDEYE, slot, antialias=True), slot, pairs
            ),
        )


def test_row_mindeye2_neither_clamps_nor_measures_what_was_decoded(
    pairs: tuple[np.ndarray, np.ndarray],
) -> None:
    seen, made = pairs
    overshoot = (1.6 * made - 0.3).astype(np.float32)
    clamped, loose = (
        measure(p, (seen, overshoot), {})["pixcorr"]
        for p in (MINDEYE, replace(MINDEYE, clamp=False))
    )
    assert abs(clamped - loose) > 1e-3
    blurry = gaussian_filter(seen, (0, 8, 8, 0))
    blended = (0.75 * made + 0.25 * blurry).astype(np.float32)
    assert (
        measure(MINDEYE, (seen, blended), {})["pixcorr"]
        > measure(MINDEYE, pairs, {})["pixcorr"] + 0.05
    )


def test_row_mindbridge_skips_the_common_size(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    native = measure(replace(MINDEYE, common=()), pairs, {})
    assert abs(native["ssim"] - measure(MINDEYE, pairs, {})["ssim"]) > 1e-3


def test_row_braindiffuser_columns(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    """SSIM of columns is another quantity."""
    means, two = [], (pairs[0][1:3], pairs[1][1:3])  # shifted and blurred
    seen, made = (prepare(x, BRAINDIFFUSER, BRAINDIFFUSER.pixels) for x in two)
    for columns in (False, True):
        expected = np.mean(
            [frozen_pairs.ssim_oracle(a, b, columns) for a, b in zip(made, seen, strict=True)]
        )
        found = measure(replace(BRAINDIFFUSER, ssim_columns=columns), two, {})["ssim"]
        assert found == pytest.approx(expected, abs=1e-6)
        means.append(found)
    assert abs(means[0] - means[1]) > 1e-3


def test_row_braindiffuser_pillow(
    pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> None:
    """8-bit files, Pillow's antialiased bilinear at 224 for networks and bicubic at 425 for
    pixels.
    """
    seen, _ = pairs
    twin = frozen_pairs.to_8bit(seen)
    np.testing.assert_array_equal(to_uint8(seen), twin)
    for steps, size, mode in (
        (BRAINDIFFUSER.networks[0].resize, 224, Image.Resampling.BILINEAR),
        (BRAINDIFFUSER.pixels, 425, Image.Resampling.BICUBIC),
    ):
        expected = (
            np.asarray(Image.fromarray(twin[0]).resize((size, size), mode), dtype=np.float32) / 255
        )
        np.testing.assert_array_equal(prepare(seen, BRAINDIFFUSER, steps)[0], expected)
    one = [
        correlate_features(networks["alexnet"], p, "alexnet", pairs)
        for p in (BRAINDIFFUSER, MINDEYE)
    ]
    assert differs(*one)


def test_row_neuropictor_clip_is_bicubic(
    pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> None:
    other = with_resize(MINDEYE, "clip", filter="bicubic")
    assert differs(
        *(correlate_features(networks["clip"], p, "clip", pairs) for p in (MINDEYE, other))
    )


@pytest.mark.parametrize(
    ("slot", "size"), [("inception", 425), ("efficientnet", 432), ("swav", 240)]
)
def test_row_zebra_sizes(
    slot: str, size: int, pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> None:
    other = with_resize(MINDEYE, slot, size=size)
    assert differs(*(correlate_features(networks[slot], p, slot, pairs) for p in (MINDEYE, other)))


def test_row_zebra_black_pictures_skipped_but_counted(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    """Skipped but divided by N counts a black picture as 0; MindEye's mean is undefined, a nan-mean
    would reward it.
    """
    seen, made = pairs[0], pairs[1].copy()
    made[0] = 0.0
    measured = PictureSet(nsd_id_I=IDS, images_IHWC=made)
    strict, published = (
        Evaluator(p, PictureSet(nsd_id_I=IDS, images_IHWC=seen), {}).score(measured)
        for p in (STRICT, MINDEYE)
    )
    r_I = published.score["pixcorr"]
    assert np.isnan(r_I).tolist() == [True] + [False] * (N - 1)
    assert "pixcorr" not in published.values() and "first NSD id 0" in published.missing["pixcorr"]
    assert strict.score["pixcorr"][0] == 0.0
    assert strict.values()["pixcorr"] < strict.score["pixcorr"][1:].mean()


def test_row_imagery_size_and_bias(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    """At 512 pixels SSIM is another; subtracting 1 from a strict count costs 1 / (N - 1), .091 at N
    = 12.
    """
    larger = measure(
        replace(MINDEYE, common=(), pixels=(Resize(size=512, antialias=False),)), pairs, {}
    )
    assert abs(larger["ssim"] - measure(MINDEYE, pairs, {})["ssim"]) > 1e-3
    seen, made = (x[:12] for x in frozen_pairs.make_features())
    counts = image_scores.count_two_way(image_scores.correlate_all(seen, made), DIRECTIONS[0], 9)
    biased = (counts.won_I - 1) / 11
    assert biased.mean() - counts.score(0.0).mean() == pytest.approx(-0.0909, abs=1e-4)
    assert (
        counts.won_I <= 11
    ).all() and counts.won_I.max() == 11  # a perfect query reaches 1 without subtraction


def test_row_takagi_varies_the_reconstruction() -> None:
    seen, made = frozen_pairs.make_features()
    r_II = image_scores.correlate_all(seen, made)
    a, b = (
        image_scores.count_two_way(r_II, direction, 9).score(0.0).mean() for direction in DIRECTIONS
    )
    assert abs(a - b) > 0.02


def test_row_neuroai_defaults(
    pairs: tuple[np.ndarray, np.ndarray], networks: dict[str, Network]
) -> None:
    """AlexNet and Inception at 224 with the antialiasing that torchvision has on by default now."""
    for slot in ("alexnet", "inception"):
        other = with_resize(replace(MINDEYE, common=()), slot, size=224, antialias=True)
        assert differs(
            *(correlate_features(networks[slot], p, slot, pairs) for p in (MINDEYE, other))
        )


def test_eight_bit_is_another_number(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    protocol = replace(MINDEYE, eight_bit=True)
    a, b = (measure(p, pairs, {})["ssim"] for p in (MINDEYE, protocol))
    assert 1e-7 < abs(a - b) < 1e-2


def test_wrong_protocols_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"did you mean strict-v1\?.*choose from mindeye-2023, braindiffuser-2023"
    ):
        protocols.find_protocol("strict-v2")
    with pytest.raises(ValueError, match="Pillow always antialiases"):
        Resize(size=2, library="pillow", antialias=False)
    with pytest.raises(ValueError, match="choose bilinear or bicubic"):
        Resize(size=2, filter="lanczos")
    with pytest.raises(ValueError, match="needs eight_bit"):
        replace(BRAINDIFFUSER, eight_bit=False)
    with pytest.raises(ValueError, match="choose from"):
        replace(MINDEYE, directions=("forward",))
