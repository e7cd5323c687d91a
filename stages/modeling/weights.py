"""Published teachers: `best.safetensors` beside its card, all that a loader needs."""

from pathlib import Path

from safetensors.torch import save

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
    teacher_params = config.Teacher(
        backbone=card.backbone, embedding_size=card.embedding_size, dropout=card.dropout
    )
    key = f"teachers.{card.teacher}"
    teacher = build_teacher(teacher_params, image_size=card.image_size, scale=card.scale, key=key)
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
