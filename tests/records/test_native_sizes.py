from stages.records.native_sizes import BUCKETS, EDGES, size_table


def test_a_bucket_begins_at_its_name(rows) -> None:
    named = [int(name.removeprefix("ge").split("_")[0]) for name in BUCKETS[1:]]
    assert (BUCKETS[0], named) == ("lt32", list(EDGES[1:]))
    table = size_table(rows([{"id": f"a/{px}", "native_px": px} for px in named]))
    assert table.loc["a"].to_list() == [0, *[1] * len(named)]
    below = size_table(rows([{"id": f"a/{px}", "native_px": px - 1} for px in named]))
    assert below.loc["a"].to_list() == [*[1] * len(named), 0]


def test_sources_are_sorted_and_all_buckets_there(rows) -> None:
    table = size_table(rows([{"id": "b/1"}, {"id": "a/1"}, {"id": "b/2", "native_px": 5000}]))
    assert list(table.index) == ["a", "b"]
    assert tuple(table.columns) == BUCKETS
    assert table.loc["b", ["48_63", "ge384"]].to_list() == [1, 1]
    assert table.to_numpy().sum() == 3
