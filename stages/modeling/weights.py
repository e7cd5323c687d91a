"""Published teachers: `best.safetensors` and `teacher.json`, all that a loader needs."""

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from stages import config
from stages.modeling.backbone import fitted, load_strictly
from stages.modeling.card import CARD_FILE, TeacherCard, read_card
from stages.modeling.teacher import Teacher, build_teacher
from stages.modeling.weights_file import read_state
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file, write_bytes, write_json
from stages.runtime.foreign import describe_file

WEIGHTS_FILE = "best.safetensors"
_BACKBONE = "backbone."


def save_teacher(folder: Path, model: Teacher, card: TeacherCard) -> TeacherCard:
    """Write weights, then the card with their hash, which it returns."""
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state))
    card = card.model_copy(update={"weights_sha256": sha256_file(folder / WEIGHTS_FILE)})
    write_json(folder / CARD_FILE, card.model_dump(mode="json"))
    return card


def load_teacher(folder: Path) -> tuple[Teacher, TeacherCard]:
    """The teacher of a published folder, in evaluation mode, and its card.

    Raises:
        UserError: if a file is missing, was changed since, or does not hold what it should.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    _check_hash(path, card)
    section = config.Teacher(
        backbone=card.backbone, embedding_size=card.embedding_size, dropout=card.dropout
    )
    key = f"teachers.{card.teacher}"
    teacher = build_teacher(section, image_size=card.image_size, scale=card.scale, key=key)
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
    load_strictly(teacher, _fitted(teacher, state), source=_shown(path))


def _fitted(teacher: Teacher, state: dict[str, Tensor]) -> dict[str, Tensor]:
    backbone = {n.removeprefix(_BACKBONE): t for n, t in state.items() if n.startswith(_BACKBONE)}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE)}
    fitting = fitted(teacher.backbone, backbone)
    return rest | {_BACKBONE + name: tensor for name, tensor in fitting.items()}


def _check_hash(path: Path, card: TeacherCard) -> None:
    if not path.is_file():
        raise UserError(f"{_shown(path)}: missing; run the training stage that publishes it")
    if (found := sha256_file(path)) != card.weights_sha256:
        raise UserError(
            f"{_shown(path)}: changed since it was published: expected SHA-256 "
            f"{card.weights_sha256}, got {found} of {describe_file(path)}"
        )


def _shown(path: Path) -> str:
    """The end of a path: which teacher, no place on a machine."""
    return "/".join(path.parts[-3:])
