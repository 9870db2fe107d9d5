"""From a folder of synsets to trained models: class lists, encoded pools, and the same results as from arrays."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.yaml_files import merge
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import Table
from robustprune.images.pool import open_pool
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.score_files import read_score
from tiny import stage_of

PAIRS = "n00 n10\nn00 n20\nn10 n11\nn10 n12\nn20 n21\nn20 n22\nn20 n12\nn22 n23\n"
SYNSETS = {"n11": 9, "n12": 8, "n21": 7, "n23": 5, "n99": 3}  # n99 is not in the hierarchy
TINY: dict[str, Any] = {
    "preset": "imagenet100",
    "data": {"classes": 4, "image_shape": [3, 8, 8], "hierarchy": {"test_images": 2}},
    "architecture": "small_cnn",
    "training": {"trades": {"epochs": 2, "epoch_images": 16, "batch_size": 8, "validation_images": 0}},
    "evaluation": {"attacks": ["cw"], "cw": {"steps": 4}},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_folder(folder: Path, images: Mapping[str, list[bytes]], pairs: str = PAIRS, *, archives: str = "") -> None:
    """Write the images of each synset into a folder, or into an archive if ``archives`` contains its id."""
    folder.mkdir(parents=True)
    (folder / "wordnet.is_a.txt").write_text(pairs)
    (folder / "words.txt").write_text("n11\tcat, true cat\nn12\tdog\n")
    for synset, contents in images.items():
        (folder / synset).mkdir()
        for number, content in enumerate(contents):
            (folder / synset / f"{synset}_{number}.JPEG").write_bytes(content)
    for synset in archives.split():
        with tarfile.open(folder / f"{synset}.tar", "w") as archive:
            for number in range(len(images[synset])):
                name = f"{synset}_{number}.JPEG"
                archive.add(folder / synset / name, name)
        shutil.rmtree(folder / synset)


@pytest.fixture
def folder() -> Path:
    """Write 29 images of four synsets in the hierarchy and 3 of another one."""
    path = Path("data", "imagenet21k")
    images = {name: [jpeg(100 * row + n) for n in range(count)] for row, (name, count) in enumerate(SYNSETS.items())}
    write_folder(path, images, archives="n12 n23")
    return path


def plan_of(overrides: dict[str, Any] | None = None, *rows: Row, results: str = "results") -> Plan:
    table = Table(title="t", target="t.csv", rows=rows or (Row(method="plain"),))
    plan = make_plan(load_config(merge(TINY, overrides or {})), {"t": table}, results=Path(results))
    plan.write_specs()
    return plan


def run(plan: Plan, kind: str, word: str = "") -> Path:
    stage_id = stage_of(plan, kind, word)
    for stage in plan.needed_for([stage_id]):
        run_stage(plan.directory(stage), Execution(device="cpu"))
    return plan.directory(stage_id)


def facts_of(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((directory / "record.json").read_text())["facts"]
    return facts


def listing_of(plan: Plan) -> pd.DataFrame:
    return pd.read_parquet(run(plan, "classes") / "listing.parquet")


# ---- the class list


def test_the_class_list_has_classes_synsets_and_images(folder: Path) -> None:
    """n00 (29) is divided into n10 (17) and n20 (12), then these into n11, n12 and n21, n22."""
    directory = run(plan_of(), "classes")
    assert (directory / "classes.csv").read_text().splitlines() == [
        "label,synset,name,synsets,images,train,test",
        '0,n11,"cat, true cat",1,9,7,2',
        "1,n12,dog,1,8,6,2",
        "2,n21,,1,7,5,2",
        "3,n22,,1,5,3,2",
    ]
    assert (directory / "synsets.csv").read_text().split() == [
        *("synset,label,images", "n11,0,9", "n12,1,8", "n21,2,7", "n23,3,5")
    ]
    facts = facts_of(directory)
    assert (facts["images"], facts["largest"], facts["smallest"], facts["ratio"]) == (29, 9, 5, 1.8)
    left_out = {"of_divided_synsets": 0, "too_large_to_fit": 0, "too_small": 0, "not_in_the_hierarchy": 3}
    assert facts["images_left_out"] == left_out
    assert (facts["synsets_divided"], facts["synsets_with_several_parents"]) == (3, 1)
    listing = listing_of(plan_of())
    assert listing.groupby("label")["test"].sum().tolist() == [2] * 4
    assert listing["label"].tolist()[:8] == [0, 1, 2, 3, 0, 1, 2, 0]  # each class is spread evenly
    assert listing["offset"].notna().tolist() == listing["synset"].isin(["n12", "n23"]).tolist()


def test_the_test_images_depend_on_names_only(folder: Path) -> None:
    first = listing_of(plan_of())
    again = {name: [jpeg(n) for n in range(SYNSETS[name])] for name in reversed(SYNSETS)}
    write_folder(Path("elsewhere"), again, archives="n11")
    second = listing_of(plan_of({"data": {"source": "imagenet21k:elsewhere"}}, results="others"))
    assert first[["name", "test"]].equals(second[["name", "test"]])
    assert not np.array_equal(first["size"], second["size"])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"classes": 5}, r"data\.classes = 5.* at most 4 classes"),
        ({"hierarchy": {"ratio": 1.5}}, r"at most 3 classes .*data\.hierarchy\.ratio = 1\.5"),
        ({"hierarchy": {"test_images": 5}}, r"data\.hierarchy\.test_images = 5.* n22 has 5 images"),
        ({"source": "imagenet21k:absent"}, r"data\.source = imagenet21k:absent: .* absent; .*image-net"),
        ({"hierarchy": {"file": "absent.txt"}}, r"data\.hierarchy\.file: .* absent\.txt"),
        ({"hierarchy": {"ratio": 0.5}}, r"data\.hierarchy\.ratio = 0\.5: .* 1"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("folder")
def test_impossible_class_lists_are_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        run(plan_of({"data": changed}), "classes")


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("n11/n11_0.JPEG", "something else", r"imagenet21k: .*changed"),
        ("wordnet.is_a.txt", "n00 n01\n", r"wordnet\.is_a\.txt .*changed"),
    ],
)
def test_a_folder_changed_after_the_plan_is_refused(folder: Path, file: str, content: str, problem: str) -> None:
    plan = plan_of()
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=problem):
        run(plan, "classes")


def test_a_changed_folder_changes_the_id(folder: Path) -> None:
    first = stage_of(plan_of(), "classes")
    assert stage_of(plan_of(), "classes") == first
    (folder / "n11" / "n11_9.JPEG").write_bytes(jpeg(9))
    assert stage_of(plan_of(), "classes") != first


def test_a_killed_count_is_resumed(folder: Path) -> None:
    plan = plan_of()
    directory = run(plan, "classes")
    whole = {path.name: path.read_bytes() for path in directory.glob("*.csv")}
    for path in directory.iterdir():
        if path.name != "spec.json":
            path.unlink()
    (directory / "partial").mkdir()
    (directory / "partial" / "counts.json").write_text('{"n11": 9, "n12": 8}')
    run(plan, "classes")
    assert {path.name: path.read_bytes() for path in directory.glob("*.csv")} == whole


# ---- the pools


def test_pools_have_the_listed_images_without_overlap(folder: Path) -> None:
    plan = plan_of()
    pools = {split: open_pool(run(plan, "pools", split)) for split in ("train", "test")}
    assert [pool.info.class_counts for pool in pools.values()] == [(7, 6, 5, 3), (2, 2, 2, 2)]
    known = {jpeg(100 * row + n) for row, count in enumerate(SYNSETS.values()) for n in range(count) if row < 4}
    encoded: set[bytes] = set()
    for split in pools:
        table = pq.read_table(run(plan, "pools", split) / "images.parquet").to_pydict()
        encoded |= {image["bytes"] for image in table["image"]}
        for image, label in zip(table["image"], table["label"], strict=True):
            assert image["path"].startswith(["n11", "n12", "n21", "n23"][label])
    assert encoded == known
    assert facts_of(run(plan, "pools", "train"))["count"] == 21


@pytest.mark.parametrize("overlap", ["refused", "allowed"])
def test_training_images_with_the_pixels_of_test_images_are_detected(folder: Path, overlap: str) -> None:
    for path in (folder / "n11").iterdir():
        path.write_bytes(jpeg(0))
    plan = plan_of({"data": {"overlap": overlap}})
    if overlap == "refused":
        with pytest.raises(UserError, match=r"imagenet21k: 7 images.* row \d+"):
            run(plan, "pools", "train")
    else:
        facts = facts_of(run(plan, "pools", "train"))
        assert facts["also_in"] == {"test": 7}
        assert facts["duplicates"] == {"images": 6, "with_other_label": 0}


def test_the_error_names_a_broken_image(folder: Path) -> None:
    broken = folder / "n21" / "n21_3.JPEG"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"n21/n21_3\.JPEG .*truncated"):
        for split in ("train", "test"):
            run(plan_of(), "pools", split)


def test_the_plan_splits_the_rows_of_an_existing_pool(folder: Path) -> None:
    row = Row(method="PUMA", strategy="puma", radius="margin")
    settings = {"execution": {"part_rows": 1, "batch_size": 1}}
    plan = plan_of(settings, row)
    score = stage_of(plan, "scores")
    assert plan.parts(score) == []
    run(plan, "pools", "train")
    assert plan_of(settings, row).parts(score) == [range(0, 8), range(8, 16), range(16, 21)]


# ---- training, scoring and evaluating from encoded images


def numbers_of(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    """Run a table's stages; return weights, margins, and the outcomes under attack."""
    run(plan, "tables")
    numbers: dict[str, npt.NDArray[Any]] = {}
    for stage, spec in plan.stages.items():
        directory = plan.directory(stage)
        if spec.kind == "models":
            manifest = "pruned" if spec.model_dump()["manifest"] else "all"
            weights = load_file(directory / "weights.safetensors")
            numbers |= {f"{manifest} {name}": values for name, values in weights.items()}
        elif spec.kind == "scores":
            pool = open_pool(plan.directory(spec.model_dump()["pool"]))
            numbers["margins"] = read_score(directory, pool_digest=pool.info.digest)[0]
        elif spec.kind == "evaluations":
            numbers[f"right {len(numbers)}"] = pd.read_parquet(directory / "outcome.parquet").to_numpy()
    return numbers


# A pruning ratio would break ties, which are frequent here, by the pool's id; a threshold does not.
PUMA = Row(method="PUMA", strategy="puma", radius="margin", threshold=0.2)


def test_results_equal_those_of_a_pool_of_arrays(folder: Path) -> None:
    plan = plan_of(None, PUMA)
    Path("arrays").mkdir()
    for split in ("train", "test"):
        pool = open_pool(run(plan, "pools", split))
        np.savez(f"arrays/{split}.npz", image=pool.images[:].transpose(0, 2, 3, 1), label=pool.labels)
    arrays = plan_of({"data": {"source": "npz:arrays"}}, PUMA, results="others")
    encoded, decoded = numbers_of(plan), numbers_of(arrays)
    assert len(encoded) == len(decoded)
    assert {"margins", "all 0.weight", "pruned 0.weight"} <= set(encoded)
    for name, values in encoded.items():
        assert np.array_equal(values, decoded[name]), name


@pytest.mark.slow
def test_cifar10_in_an_invented_hierarchy(shared: Path) -> None:
    """Group six classes of animals and four of vehicles, with 20 images each, into four classes of similar size."""
    table = pq.read_table(next((shared / "data" / "cifar10").glob("test*.parquet"))).slice(0, 400).to_pydict()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    images: dict[str, list[bytes]] = {name: [] for name in names}
    for image, label in zip(table["img"], table["label"], strict=True):
        if len(images[names[label]]) < 20:
            images[names[label]].append(image["bytes"])
    pairs = [("entity", "animal"), ("entity", "vehicle"), ("animal", "bird"), ("animal", "frog"), ("animal", "mammal")]
    pairs += [("mammal", name) for name in ("cat", "deer", "dog", "horse")]
    pairs += [("vehicle", name) for name in ("airplane", "automobile", "ship", "truck")]
    text = "".join(f"{above} {below}\n" for above, below in pairs)
    write_folder(Path("cifar"), images, text, archives="ship truck dog")
    settings = {
        "data": {"source": "imagenet21k:cifar", "image_shape": [3, 32, 32], "hierarchy": {"test_images": 5}},
        "margins": {"boundary_search": {"max_steps": 10}},
        "training": {"trades": {"epochs": 1, "epoch_images": 64, "batch_size": 32}},
    }
    plan = plan_of(settings, Row(method="PUMA", strategy="puma", radius="margin", ratio=0.2))
    # 120 animals become birds, frogs (20 each) and mammals (80); with 80 vehicles, the ratio is 4
    classes = pd.read_csv(run(plan, "classes") / "classes.csv", index_col="synset")
    assert classes["images"].to_dict() == {"bird": 20, "frog": 20, "mammal": 80, "vehicle": 80}
    pool = open_pool(run(plan, "pools", "train"))
    assert pool.info.class_counts == (15, 15, 75, 75)
    decoded = {np.asarray(Image.open(io.BytesIO(data))).tobytes() for some in images.values() for data in some}
    assert all(image.transpose(1, 2, 0).tobytes() in decoded for image in pool.images[:])
    assert facts_of(run(plan, "manifests"))["kept"] == 144
    assert (run(plan, "models", "puma") / "weights.safetensors").is_file()
