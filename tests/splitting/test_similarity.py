import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.splitting import similarity
from stages.splitting.similarity import Thumbnails, similar_pairs

SIDE = 24


def brute(thumbnails: Thumbnails, *, at_least: float) -> dict[tuple[int, int], tuple[float, bool]]:
    """The oracle: numpy's own correlation matrix, of the pictures and of their mirror images."""
    flat = thumbnails.astype(np.float64)
    mirrored = flat.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(flat), -1)
    both = np.corrcoef(np.concatenate([flat, mirrored]))
    straight, turned = both[: len(flat), : len(flat)], both[: len(flat), len(flat) :]
    return {
        (i, j): (max(straight[i, j], turned[i, j]), bool(turned[i, j] > straight[i, j]))
        for i in range(len(flat))
        for j in range(i + 1, len(flat))
        if max(straight[i, j], turned[i, j]) >= at_least
    }


def smooth(rng: np.random.Generator, count: int) -> Thumbnails:
    """Pictures with the falling spectrum of faces; some are noisy or mirrored ones of others."""
    fields = rng.normal(size=(count, SIDE, SIDE))
    falls = 1 / (1 + np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)) * SIDE) ** 1.5
    fields = np.fft.ifft2(np.fft.fft2(fields) * falls).real
    for copy in range(count // 2, count):
        noise = rng.normal(size=(SIDE, SIDE)) * fields.std() * rng.uniform(0, 0.8)
        fields[copy] = fields[copy - count // 2] + noise
        if rng.random() < 0.4:
            fields[copy] = fields[copy][:, ::-1]
    scaled = 128 + 40 * fields / fields.std()
    return np.clip(scaled, 0, 255).astype(np.uint8).reshape(count, -1)


@given(seed=st.integers(0, 10**6), at_least=st.sampled_from([0.7, 0.9, 0.93, 0.99]))
@settings(max_examples=40)
def test_the_search_equals_brute_force(seed: int, at_least: float) -> None:
    thumbnails = smooth(np.random.default_rng(seed), 60)
    similar = similar_pairs(thumbnails, at_least=at_least)
    expected = brute(thumbnails, at_least=at_least)
    pairs = list(zip(similar.first.tolist(), similar.second.tolist(), strict=True))
    assert pairs == sorted(expected)
    correlations = [expected[pair][0] for pair in pairs]
    np.testing.assert_allclose(similar.correlation, correlations, rtol=0, atol=1e-12)
    assert similar.mirrored.tolist() == [expected[pair][1] for pair in pairs]


def test_neither_blocks_nor_cores_change_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = smooth(np.random.default_rng(3), 1500)
    whole = similar_pairs(thumbnails, at_least=0.93)
    assert len(whole.first) > 50
    monkeypatch.setattr(similarity, "num_cores", lambda: 1)
    for name, size in [("_ROWS", 137), ("_COLUMNS", 261), ("_CHUNK", 107)]:
        monkeypatch.setattr(similarity, name, size)
    blocks = similar_pairs(thumbnails, at_least=0.93)
    assert all(map(np.array_equal, whole, blocks))


def test_flat_pictures_are_like_nothing_and_one_without_end_is_an_error(monkeypatch) -> None:
    flat = np.full((3, SIDE**2), 120, np.uint8)
    flat[1:, ::2] += 1  # what a JPEG of a flat picture may show
    assert not len(similar_pairs(flat, at_least=0.5).first)
    assert not len(similar_pairs(flat[:0], at_least=0.5).first)
    monkeypatch.setattr(similarity, "MOST_PAIRS", 100)
    same = np.repeat(smooth(np.random.default_rng(6), 2)[:1], 20, axis=0)
    with pytest.raises(UserError, match="expected at most 100 pairs of pictures that look alike"):
        similar_pairs(same, at_least=0.9)


def test_reported_no_block_is_searched_after_the_error(monkeypatch) -> None:
    searched, candidates = [], similarity._candidates

    def slowly(*args, start: int, bound: float):
        searched.append(start)
        time.sleep(0.02)
        return candidates(*args, start=start, bound=bound)

    for name, value in {"MOST_PAIRS": 1, "_ROWS": 1, "_candidates": slowly}.items():
        monkeypatch.setattr(similarity, name, value)
    same = np.repeat(smooth(np.random.default_rng(6), 2)[:1], 100, axis=0)
    with pytest.raises(UserError, match="expected at most 1 pairs"):
        similar_pairs(same, at_least=0.9)
    assert 0 < len(searched) < 50
