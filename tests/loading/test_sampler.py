import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.computing.team import Team
from stages.loading.sampler import BatchOrder, EpochSampler, RowOrder
from stages.runtime.errors import UserError

any_targets = st.lists(st.integers(0, 6), min_size=1, max_size=300).map(np.array)


@st.composite
def plans(draw) -> tuple[np.ndarray, int, int]:
    """Targets in which every class occurs, a batch size and a `min_per_class` that it can hold."""
    counts = draw(st.lists(st.integers(1, 60), min_size=7, max_size=7))
    targets = np.random.default_rng(draw(st.integers(0, 9))).permutation(
        np.repeat(np.arange(7), counts)
    )
    min_per_class = draw(st.integers(1, 5))
    return targets, draw(st.integers(7 * min_per_class, 80)), min_per_class


@given(any_targets, st.integers(1, 40), st.integers(0, 5))
def test_incident_T1_without_filling_an_epoch_is_a_permutation_unlike_the_next(
    targets, batch_size, epoch
) -> None:
    sampler, fresh, other = (
        EpochSampler(targets, batch_size=batch_size, seed=seed) for seed in (3, 3, 4)
    )
    rows = _flat(sampler, epoch)
    assert sorted(rows) == list(range(len(targets)))
    assert len(sampler.sizes) == sampler.num_batches == -(-len(targets) // batch_size)
    if len(targets) > 20:
        assert rows != _flat(sampler, epoch + 1)
        assert rows != _flat(other, epoch)
    assert rows == _flat(fresh, epoch), "whatever was drawn before"


@given(plans())
def test_incident_T1_filling_leaves_no_row_out(plan) -> None:
    """Every batch holds enough of each class, by the fewest batches and by few, even repeats."""
    targets, batch_size, min_per_class = plan
    counts = np.bincount(targets, minlength=7)
    sampler = EpochSampler(targets, batch_size=batch_size, min_per_class=min_per_class, seed=3)
    batches = sampler.batches(0)
    rows = _flat(sampler, 0)
    assert set(rows) == set(_flat(sampler, 1)) == set(range(len(targets)))
    assert rows != _flat(sampler, 1)
    assert all(np.bincount(targets[b], minlength=7).min() >= min_per_class for b in batches)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= min(batch_size, min(sizes) + 1)
    tried = range(1, len(targets) + 1)
    needed = [np.maximum(counts, n * min_per_class).sum() for n in tried]
    assert len(batches) == next(n for n in tried if needed[n - 1] <= n * batch_size)
    draws = np.bincount(rows, minlength=len(targets))
    for number in range(7):
        of_class = draws[targets == number]
        assert np.ptp(of_class) <= 1
        if len(of_class) >= len(batches) * min_per_class:
            assert of_class.max() == 1
        assert of_class.sum() == sampler.effective_counts[number]


def test_incident_T1_rows_that_an_epoch_leaves_out_are_counted(monkeypatch) -> None:
    sampler = EpochSampler(np.arange(40) % 7, batch_size=8, seed=3)
    assert sampler.share_seen(0) == 1.0
    half = sampler.batches(0)[:3]
    monkeypatch.setattr(sampler, "batches", lambda _epoch: [*half, *half])
    assert sampler.share_seen(0) == len(np.concatenate(half)) / 40


def test_classes_are_mixed_within_a_batch() -> None:
    targets = np.repeat(np.arange(7), 40)
    batch = EpochSampler(targets, batch_size=70, min_per_class=10, seed=3).batches(0)[0]
    assert (np.diff(targets[batch]) < 0).any()


@pytest.mark.parametrize(
    ("targets", "batch_size", "expected"),
    [
        ([0, 2, 3, 4, 5], 64, r"none of \['Disgust', 'Neutral'\]"),
        (range(7), 27, "expected at least 28 .*, got 27"),
        ([], 64, "expected at least one, got none"),
    ],
)
def test_rows_that_cannot_fill_a_batch_are_an_error(targets, batch_size, expected) -> None:
    with pytest.raises(UserError, match=expected):
        EpochSampler(np.array(targets, np.int64), batch_size=batch_size, min_per_class=4, seed=3)


@given(st.integers(0, 6))
def test_an_epoch_begun_later_goes_on_with_the_same_draws(start_batch) -> None:
    order = BatchOrder(EpochSampler(np.arange(50) % 7, batch_size=8, seed=3))
    order.epoch = 2
    whole = list(order)
    begun = iter(order)
    order.start_batch = start_batch
    assert list(order) == whole[start_batch:]
    assert len(order) == len(whole) - start_batch
    # An iterator keeps the epoch that it was made for.
    order.epoch = 3
    draws = [draw for batch in begun for draw in batch]
    assert [(draw.epoch, draw.position) for draw in draws] == [(2, n) for n in range(50)]


@given(plans(), st.integers(1, 9), st.integers(0, 3))
def test_processes_share_each_batch_without_repeats(plan, size, start_batch) -> None:
    targets, batch_size, min_per_class = plan
    sampler = EpochSampler(targets, batch_size=batch_size, min_per_class=min_per_class, seed=3)
    start_batch = min(start_batch, sampler.num_batches)

    def batches(team: Team) -> list[list]:
        order = BatchOrder(sampler, team=team)
        order.epoch, order.start_batch = 1, start_batch
        assert max(map(len, order), default=0) <= order.largest
        return list(order)

    shares = [batches(Team(rank, size)) for rank in range(size)]
    for whole, *parts in zip(batches(Team()), *shares, strict=True):
        assert sorted(draw for part in parts for draw in part) == sorted(whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 7))
def test_processes_share_the_rows_of_an_evaluation_each_once(rows, batch_size, size) -> None:
    orders = [RowOrder(rows, batch_size=batch_size, team=Team(rank, size)) for rank in range(size)]
    taken = [[draw.row for batch in order for draw in batch] for order in orders]
    assert sorted(row for part in taken for row in part) == list(range(rows))
    assert size > 1 or taken[0] == list(range(rows))
    for rank, order in enumerate(orders):
        assert len(order) == len(list(order))
        assert all(other.rows_of(rank).tolist() == taken[rank] for other in orders)


def _flat(sampler: EpochSampler, epoch: int) -> list[int]:
    return [int(row) for batch in sampler.batches(epoch) for row in batch]
