"""A teacher: images (N, 3, S, S) -> embedding -> logits of the seven classes."""

from torch import Tensor, nn

from stages import config
from stages.modeling.arcface import ArcfaceHead
from stages.modeling.backbone import build_backbone


class Teacher(nn.Module):
    """timm backbone, embedding and one ArcFace head that serves training and use alike."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int,
        embedding_size: int,
        dropout: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # No batch norm behind it: over features that hardly differ yet, as those of a fresh
        # EfficientNet, it blows noise up to full size and nothing is learnt for epochs.
        self.embedding = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, embedding_size))
        self.head = ArcfaceHead(embedding_size, num_classes=config.NUM_CLASSES, scale=scale)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, 7) without margin, for evaluation and export."""
        logits: Tensor = self.head(self.embed(images))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Compute embeddings (N, E), not normalised."""
        embedding: Tensor = self.embedding(self.backbone(images))
        return embedding


def build_teacher(
    teacher_params: config.Teacher, *, image_size: int, scale: float, key: str
) -> Teacher:
    """Build a new teacher; `key` names its section in messages, such as `teachers.RN18`.

    Raises:
        UserError: for an unknown backbone, or weights that are missing or do not fit.
    """
    backbone, num_features = build_backbone(teacher_params, image_size=image_size, key=key)
    return Teacher(
        backbone,
        num_features=num_features,
        embedding_size=teacher_params.embedding_size,
        dropout=teacher_params.dropout,
        scale=scale,
    )
