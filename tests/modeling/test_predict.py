import numpy as np
import torch
from torch import nn

from stages.modeling.predict import predict


class _Model(nn.Module):
    """Means of the channels, seven times; says in which mode, layout and TF32 it was called."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(3, 7, bias=False)
        self.calls = []

    def forward(self, images):
        layout = images.is_contiguous(memory_format=torch.channels_last)
        tf32 = torch.backends.cudnn.allow_tf32
        self.calls.append((self.training, torch.is_grad_enabled(), layout, tf32))
        return self.linear(self.dropout(images.mean(dim=(2, 3))))


def _batches():
    torch.manual_seed(0)
    images = torch.randn(5, 3, 4, 4)
    return images, [
        {"image": part, "target": torch.zeros(len(part), dtype=torch.int64)}
        for part in images.split(2)
    ]


def _finish(batch):
    return {"image": batch["image"].contiguous(memory_format=torch.channels_last)}


def test_logits_come_in_loader_order_and_eval_mode_and_float32_is_no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    model, (images, batches) = _Model(), _batches()
    options = {"finish": _finish, "device": torch.device("cpu")}
    logits = predict(model, batches, dtype=torch.float32, **options)
    expected = images.mean(dim=(2, 3)) @ model.linear.weight.T
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert model.calls == [(False, False, True, False)] * 3
    assert model.training, "the model's mode is given back"
    assert torch.backends.cudnn.allow_tf32, "and so is TF32"
    rough = predict(model, batches, dtype=torch.bfloat16, **options)
    assert logits.dtype == rough.dtype == np.float32
    assert not np.array_equal(rough, logits)
    np.testing.assert_allclose(rough, logits, atol=0.02)
