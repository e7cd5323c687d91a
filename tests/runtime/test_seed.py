"""Seeds are functions of names."""

from stages.runtime.seed import derive_seed, generator


def test_seeds_are_the_same_on_every_machine_and_names_do_not_run_together() -> None:
    assert derive_seed(7, "step", 0) == 1343422643543227078
    names = [(7, 1, 23), (7, 12, 3), (71, 2, 3), (7, "1", "2", 3)]
    assert len({derive_seed(*parts) for parts in names}) == 4
    assert generator(7, "a", 3).random() == generator(7, "a", 3).random()
