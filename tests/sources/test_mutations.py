"""Raw trees broken at random: every row is a face or a reject, or there is one message."""

import random
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.config import CLASSES
from stages.runtime.errors import UserError
from stages.sources.formats import read_source
from stages.sources.members import UnreadableMemberError
from stages.sources.rows import Candidate, Fault, Reject, Rule
from stages.sources.tree import open_tree
from tests.sources.conftest import write_zip
from tests.sources.layouts import LAYOUTS
from tests.sources.mutations import mutated

NUM_TREES = 150
REASONS = {*get_args(Rule), *get_args(Fault)}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated") / "it.zip"


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=NUM_TREES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_faces_and_rejects_are_the_rows_of_any_tree(scratch: Path, layout: str, number, seed):
    case = LAYOUTS[layout]
    files = mutated(case.files, number=number, seed=seed)
    with open_tree(write_zip(scratch, files), key="standardize.sources.it.path") as tree:
        try:
            rows = list(read_source(tree, name="it", source=case.source))
        except UserError as error:
            message = str(error)
            assert (
                "source it" in message
                or ".it." in message
                or any(PurePosixPath(name).name.lower() in message.lower() for name in files)
            )
            return
        assert len(rows) == len({row.row for row in rows}) == case.count_rows(files)
        faces = [row for row in rows if isinstance(row, Candidate)]
        assert len({face.id for face in faces}) == len(faces)
        assert len({(face.member, face.box) for face in faces}) == len(faces)
        assert {face.label for face in faces} <= set(CLASSES)
        assert {row.reason for row in rows if isinstance(row, Reject)} <= REASONS
        for row in rows:
            if row.member is not None and getattr(row, "image", None) is None:
                tree.read(row.member)


@settings(max_examples=NUM_TREES)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 4))
def test_a_zip_with_broken_bytes_is_refused_or_gives_its_rows(scratch: Path, seed, number):
    rng = random.Random(seed)
    method = rng.choice(
        [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED]
    )
    with zipfile.ZipFile(scratch, "w", method) as archive:
        for name, content in LAYOUTS["rafdb"].files.items():
            archive.writestr(name, content * 3)
    content = bytearray(scratch.read_bytes())
    for _ in range(number):
        content[rng.randrange(len(content))] = rng.randrange(256)
    scratch.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
    with suppress(UserError), open_tree(scratch, key="k") as tree:
        assert len(tree.content_sha256()) == 64
        for row in read_source(tree, name="it", source=LAYOUTS["rafdb"].source):
            with suppress(UnreadableMemberError):
                tree.read(row.member or row.row.rpartition(":")[0])
