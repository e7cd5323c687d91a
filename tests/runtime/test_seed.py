"""Seeds are functions of names."""

from stages.runtime.seed import derive_seed, generator


def test_same_names_same_numbers() -> None:
    assert (
        generator(7, "augmentation", 3, 14).random() == generator(7, "augmentation", 3, 14).random()
    )


def test_names_do_not_run_together() -> None:
    seeds = {
        derive_seed(7, 1, 23),
        derive_seed(7, 12, 3),
        derive_seed(71, 2, 3),
        derive_seed(7, "1", "2", 3),
    }
    assert len(seeds) == 4


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(7, "step", 0) == 1343422643543227078
