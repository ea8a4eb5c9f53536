"""What a bad wire does to a frame."""

from __future__ import annotations

import pytest

from harness.nodes.impairment import BadWire, Impairment

FRAME = bytes(range(64))


def fates(impairment: Impairment, frames: int = 1, seed: int = 1) -> list[tuple[float, bytes]]:
    wire = BadWire(impairment, seed)
    return [fate for _ in range(frames) for fate in wire.fate(FRAME)]


@pytest.mark.parametrize(
    ("impairment", "comes"),
    [
        (Impairment(), [(0.0, FRAME)]),
        (Impairment(loss=1), []),
        (Impairment(duplicate=1), [(0.0, FRAME)] * 2),
        (Impairment(delay=0.5), [(0.5, FRAME)]),
        (Impairment(loss=1, duplicate=1, delay=1), []),
    ],
)
def test_what_comes_of_a_frame(impairment: Impairment, comes: list[tuple[float, bytes]]) -> None:
    assert fates(impairment) == comes


def test_a_corrupted_frame_has_one_bit_turned_over() -> None:
    for _delay, frame in fates(Impairment(corrupt=1), frames=50):
        differs = int.from_bytes(frame, "big") ^ int.from_bytes(FRAME, "big")
        assert differs.bit_count() == 1


def test_each_frame_has_its_own_jitter() -> None:
    delays = [delay for delay, _frame in fates(Impairment(delay=1, jitter=0.5), frames=50)]
    assert len(set(delays)) == 50
    assert 1 <= min(delays) < 1.1
    assert 1.4 < max(delays) <= 1.5


@pytest.mark.parametrize("name", ["loss", "duplicate", "corrupt"])
def test_a_probability_is_one(name: str) -> None:
    bad = Impairment(**{name: 0.25})
    wire = BadWire(bad, 1)
    changed = sum(list(wire.fate(FRAME)) != [(0.0, FRAME)] for _ in range(4000))
    # Six standard deviations, and with this seed always the same.
    assert 1000 - 165 < changed < 1000 + 165


def test_a_seed_repeats_what_it_did() -> None:
    bad = Impairment(loss=0.3, duplicate=0.3, corrupt=0.3, jitter=1)
    assert fates(bad, 100) == fates(bad, 100)
    assert fates(bad, 100) != fates(bad, 100, seed=2)


@pytest.mark.parametrize(
    ("impairment", "said"),
    [
        (Impairment(loss=1.5), "loss is a probability, from 0 to 1, not 1.5"),
        (Impairment(corrupt=-0.1), "corrupt is a probability"),
        (Impairment(delay=-1), "delay is in seconds, and not -1"),
    ],
)
def test_what_makes_no_sense_is_refused(impairment: Impairment, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        impairment.check()
