"""A small project for tests: raw pictures of seven classes and a params.yaml."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from stages.config import CLASSES, read_yaml

ROOT = Path(__file__).parents[1]
IMAGES = {"train": 10, "val": 5, "test": 5}
# A hundredth of a real one's weights: what a test waits for is the start of its processes.
BACKBONES = {"RN18": "test_resnet", "B3": "test_efficientnet"}
# Two trainings at once, of two threads each, wait for each other on two cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def draw(folder: Path, *, images: dict[str, int]) -> None:
    """Draw noise with a bright bar whose place says the class, as `<split>/<class>/<n>.png`.

    One bar in five says another class, so that no temperature makes the predictions perfect.
    """
    rng = np.random.default_rng(0)
    for split, number in images.items():
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for k in range(number):
                image = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8)
                shown = label if k % 5 else int(rng.integers(len(CLASSES)))
                image[5 * shown + 2 : 5 * shown + 8] += 180
                cv2.imwrite(str(folder / split / name / f"{split}{k}.png"), image)


def small_params(**changes: Any) -> dict[str, Any]:
    """Return the sample recipe for one source `toy`, small and quick; `a__b=1` sets a key of it."""
    small: dict[str, Any] = {
        "raw": "raw",
        "standardize__sources": {"toy": {"format": "folder7", "path": "toy"}},
        "manifest__source_groups": {},
        "manifest__views": {"toy_train": {"splits": ["train"]}},
        # Bars at seven places are near copies of each other by design.
        "manifest__duplicates__near_correlation": 1.0,
        "manifest__duplicates__review_correlation": 1.0,
        "export__soft_labels_view": "toy_train",
        "calibrate__bootstrap_samples": 50,
    }
    params = change(read_yaml(ROOT / "params.yaml"), **small)
    for name, backbone in BACKBONES.items():
        kept = {"embedding_size": 16, "learning_rate_scale": 5.0}
        params["teachers"][name] |= {"backbone": backbone} | kept
    for stage in ("stageA", "stageB"):
        params[stage]["filter"] |= {"include_sources": ["toy"], "min_native_px": 0}
        params[stage] |= {"image_size": 32, "epochs": 4, "batch_size": 8, "warmup_epochs": 0.5}
        params[stage]["targets"] = "majority"
    return change(params, **changes)


def change(params: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Set keys of params by their path, `stageA__epochs=4`."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = params
        for part in parents:
            section = section[part]
        section[last] = value
    return params


def listed_params(stage: dict[str, Any]) -> list[str]:
    """List all keys of params.yaml that a stage of dvc.yaml names."""
    lists = [p["params.yaml"] if isinstance(p, dict) else [p] for p in stage["params"]]
    return [key for keys in lists for key in keys]


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """Write params.yaml in block style, as `dvc exp run -S` does."""
    text = yaml.safe_dump(params, default_flow_style=False, sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def fill_small(folder: Path, **changes: Any) -> None:
    """Write the small project's raw pictures and its params."""
    draw(folder / "raw" / "toy", images=IMAGES)
    write_params(folder, small_params(**changes))
