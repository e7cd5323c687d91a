"""On a CPU one thing follows the other, in order; nothing is lost or read too early."""

from collections.abc import Iterator

import pytest
import torch

from stages.computing.transfer import RUN_AHEAD, prepared, read_behind, sent_back

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [0, RUN_AHEAD, RUN_AHEAD + 1, 7])
def test_batches_are_prepared_when_wanted_and_everything_is_read_in_order_and_behind(count) -> None:
    asked: list[int] = []

    def numbered() -> Iterator[dict[str, torch.Tensor]]:
        for number in range(count):
            asked.append(number)
            yield {"image": torch.tensor(number)}

    batches = prepared(numbered(), prepare=lambda batch: {"image": batch["image"] * 2}, device=CPU)
    for number, tensor in enumerate(read_behind(sent_back(batch["image"]) for batch in batches)):
        assert int(tensor) == 2 * number
        assert len(asked) == min(count, number + 1 + RUN_AHEAD)
    assert len(asked) == count


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_batches_and_sends_results_back() -> None:
    gpu = torch.device("cuda")
    images = torch.arange(60.0).reshape(10, 6)
    batches = ({"image": row.pin_memory(), "index": row} for row in images)

    def finish(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"image": batch["image"].to(gpu, non_blocking=True) + 1, "index": batch["index"]}

    ready = prepared(batches, prepare=finish, device=gpu)
    found = list(read_behind(sent_back(batch["image"] * 2) for batch in ready))
    assert torch.equal(torch.stack(found), (images + 1) * 2)
