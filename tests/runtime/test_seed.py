"""Seeds are functions of names, and a draw is fair."""

from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.seed import FairDraw, derive_seed, generator


def test_seeds_are_the_same_on_every_machine_and_names_do_not_run_together() -> None:
    assert derive_seed(7, "step", 0) == 1343422643543227078
    names = [(7, 1, 23), (7, 12, 3), (71, 2, 3), (7, "1", "2", 3)]
    assert len({derive_seed(*parts) for parts in names}) == 4
    assert generator(7, "a", 3).random() == generator(7, "a", 3).random()


@given(keys=st.lists(st.text(max_size=3), unique=True, max_size=30), data=st.data())
def test_the_smallest_keys_of_a_title_are_drawn_in_whatever_order_they_come(keys, data) -> None:
    draw: FairDraw[str] = FairDraw(5)
    draw.add("other", key="", item="apart")
    for key in data.draw(st.permutations(keys)):
        draw.add("title", key=key, item=f"item {key}")
    assert draw.drawn("title") == [f"item {key}" for key in sorted(keys)[:5]]
    assert (draw.drawn("other"), draw.drawn("unknown")) == (["apart"], [])
    assert (draw.counts["title"], draw.counts["other"]) == (len(keys), 1)
