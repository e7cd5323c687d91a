"""A small project for tests: raw pictures of seven classes and a params.yaml."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from stages.config import CLASSES

ROOT = Path(__file__).parents[1]
IMAGES = {"train": 10, "val": 5, "test": 5}


def draw(folder: Path, *, images: dict[str, int]) -> None:
    """Noise with a bright bar whose place says the class, as `<split>/<class>/<n>.png`.

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
    """The sample recipe on one source `toy`, small and quick; dotted keys (`a__b`) are replaced."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    params["raw"] = "raw"
    params["standardize"]["sources"] = {"toy": {"format": "folder7", "path": "toy"}}
    params["manifest"] |= {
        "source_groups": {},
        "views": {"toy_train": {"splits": ["train"]}},
        # Bars at seven places are near copies of each other by design.
        "duplicates": {
            "policy": "drop_from_train",
            "near_correlation": 1.0,
            "review_correlation": 1.0,
        },
    }
    params["export"]["soft_labels_view"] = "toy_train"
    for teacher in params["teachers"].values():
        teacher |= {"backbone": "resnet10t", "embedding_size": 16}
    for stage in ("stageA", "stageB"):
        params[stage]["filter"] |= {"include_sources": ["toy"], "min_native_px": 0}
        params[stage] |= {"image_size": 32, "epochs": 4, "batch_size": 8, "warmup_epochs": 0.5}
        params[stage]["learning_rate"], params[stage]["min_lr"] = 1e-3, 1e-5
    params["export"]["parity_tolerance"] = 1e-4
    params["calibrate"]["bootstrap_samples"] = 50
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        section = params
        for part in parents:
            section = section[part]
        section[last] = value
    return params


def write_params(folder: Path, params: dict[str, Any]) -> None:
    text = yaml.safe_dump(params, default_flow_style=False, sort_keys=False)
    # PyYAML writes 1e-05, which YAML 1.1 readers (itself) take for text; ours reads both.
    (folder / "params.yaml").write_text(text, encoding="utf-8")
