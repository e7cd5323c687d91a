"""A teacher: images (N, 3, S, S) -> embedding -> logits of the seven classes; built, saved, loaded.

A published teacher is `best.safetensors` beside its card, all that a loader needs.
"""

from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from stages import config
from stages.modeling.arcface import ArcfaceHead
from stages.modeling.backbone import build_backbone, fitted, load_strictly, read_state
from stages.modeling.card import CARD_FILE, TeacherCard, read_card
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_bytes, write_json
from stages.runtime.foreign import describe_file

WEIGHTS_FILE = "best.safetensors"
_BACKBONE = "backbone."


class Teacher(nn.Module):
    """timm backbone, embedding and one ArcFace head that serves training and use alike.

    `mirror_averaged` changes what is evaluated and exported, and not what is trained.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int,
        embedding_size: int,
        dropout: float,
        scale: float,
        mirror_averaged: bool = False,
    ) -> None:
        super().__init__()
        self.mirror_averaged = mirror_averaged
        self.backbone = backbone
        # No batch norm behind it: over features that hardly differ yet, as those of a fresh
        # EfficientNet, it blows noise up to full size and nothing is learnt for epochs.
        self.embedding = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, embedding_size))
        self.head = ArcfaceHead(embedding_size, num_classes=config.NUM_CLASSES, scale=scale)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, 7) without margin, for evaluation and export.

        With `mirror_averaged` they are the mean of those of the images and of their mirror images.
        """
        logits: Tensor = self.head(self.embed(images))
        if self.mirror_averaged:
            logits = (logits + self.head(self.embed(images.flip(-1)))) / 2
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Compute embeddings (N, E), not normalised."""
        embedding: Tensor = self.embedding(self.backbone(images))
        return embedding


def build_teacher(
    teacher_params: config.TeacherParams,
    *,
    image_size: int,
    scale: float,
    key: str,
    mirror_averaged: bool = False,
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
        mirror_averaged=mirror_averaged,
    )


def save_teacher(folder: Path, model: Teacher, card: TeacherCard) -> TeacherCard:
    """Write weights, then the card with their hash, which it returns."""
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state))
    card = card.model_copy(update={"weights_sha256": sha256_file(folder / WEIGHTS_FILE)})
    write_json(folder / CARD_FILE, card.model_dump(mode="json"))
    return card


def load_teacher(folder: Path) -> tuple[Teacher, TeacherCard]:
    """Load the teacher of a published folder, in evaluation mode, and its card.

    Raises:
        UserError: if a file is missing, was changed since, or does not hold what it should.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{_shown(path)}: missing; run the training stage that publishes it")
    if (sha256 := sha256_file(path)) != card.weights_sha256:
        raise UserError(
            f"{_shown(path)}: changed since it was published: expected SHA-256 "
            f"{card.weights_sha256}, got {sha256} of {describe_file(path)}"
        )
    teacher_params = config.TeacherParams(
        backbone=card.backbone,
        backbone_options=card.backbone_options,
        embedding_size=card.embedding_size,
        dropout=card.dropout,
        # The published weights are loaded below, and nothing is trained.
        pretrained=False,
        weights=None,
        optimizer="adamw",
        learning_rate_scale=1.0,
        head_learning_rate_scale=1.0,
        layer_decay=1.0,
        stageA=config.StageOverrides(),
        stageB=config.StageOverrides(),
    )
    key = f"teachers.{card.teacher}"
    teacher = build_teacher(
        teacher_params,
        image_size=card.image_size,
        scale=card.scale,
        mirror_averaged=card.mirror_averaged,
        key=key,
    )
    load_state(teacher, path)
    return teacher.eval(), card


def load_state(teacher: Teacher, path: Path) -> None:
    """Load a teacher's weights; a backbone whose shapes follow the image size is fitted to its own.

    Raises:
        UserError: if the file is missing, unreadable or of another architecture.
    """
    if not path.is_file():
        raise UserError(f"{_shown(path)}: missing; run the training stage that publishes it")
    state = read_state(path, source=_shown(path))
    backbone = {n.removeprefix(_BACKBONE): t for n, t in state.items() if n.startswith(_BACKBONE)}
    fitting = {_BACKBONE + n: t for n, t in fitted(teacher.backbone, backbone).items()}
    rest = {n: t for n, t in state.items() if not n.startswith(_BACKBONE)}
    load_strictly(teacher, rest | fitting, source=_shown(path))


def _shown(path: Path) -> str:
    """Show the end of a path: it names the teacher and no place on a machine."""
    return "/".join(path.parts[-3:])
