from hypothesis import given
from hypothesis import strategies as st

from stages.runtime.tables import FairDraw


@given(keys=st.lists(st.text(max_size=3), unique=True, max_size=30), data=st.data())
def test_the_smallest_keys_are_drawn_in_whatever_order_they_come(keys, data):
    draw: FairDraw[str] = FairDraw(5)
    for key in data.draw(st.permutations(keys)):
        draw.add("title", key=key, item=f"item {key}")
    assert draw.drawn("title") == [f"item {key}" for key in sorted(keys)[:5]]
    assert draw.counts["title"] == len(keys)


def test_titles_are_drawn_apart():
    draw: FairDraw[int] = FairDraw(1)
    draw.add("a", key="1", item=1)
    draw.add("b", key="2", item=2)
    draw.add("b", key="0", item=3)
    assert (draw.drawn("a"), draw.drawn("b"), draw.drawn("c")) == ([1], [3], [])
    assert draw.counts == {"a": 1, "b": 2}
