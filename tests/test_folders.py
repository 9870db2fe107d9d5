"""Image folders and WebDataset tar files: contents, ids, and a one-line error for each kind of damage."""

import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.record import read_record
from robustprune.core.stage_file import write_spec
from robustprune.experiments.papers import load_experiments
from robustprune.images.formats import webdataset
from robustprune.images.formats.data_format import FORMATS
from robustprune.images.formats.listing import image_files
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.pool import open_pool, read_digests
from robustprune.images.sources import planned_rows, real_source, synthetic_source
from robustprune.planning.config import load_config, read_config_file
from robustprune.planning.plan import make_plan
from test_pools import everything, planned, png, some_images, write_shard

DOCS = Path(__file__).parents[1] / "docs"

Make = Callable[..., Job]
NAMES = [f"class{number}" for number in range(10)]
IMAGES = some_images(40, 4, 5)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_folder(folder: Path = Path("mine/train"), images: npt.NDArray[np.uint8] = IMAGES) -> None:
    """Write image k into class k modulo 10."""
    for number, image in enumerate(images):
        path = folder / NAMES[number % 10] / f"{number:03}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def encoded(text: str) -> IngestedPoolStage:
    """The spec of a pool that keeps the files as they are."""
    return planned(text).model_copy(update={"storage": "encoded"})


def test_an_image_folder_is_read_with_mixed_classes() -> None:
    write_folder()
    Path("mine/train/class0/notes.txt").write_text("no image")
    Path("mine/train/class0/.hidden.png").write_bytes(b"no image")
    spec = planned("imagefolder:mine")
    images, labels = everything(spec)
    files = image_files(Path("mine/train"))
    numbers = [int(Path(file.path).stem) for file in files]
    assert np.array_equal(images, IMAGES[numbers, None])
    assert labels.tolist() == [number % 10 for number in numbers]
    assert sorted(numbers) == list(range(40))
    assert len(set(labels[:10].tolist())) > 3
    assert planned_rows(spec.source, "train") == 40
    assert FORMATS["imagefolder"].open_stream(spec).facts == {"class_names": tuple(NAMES)}


def test_the_digest_of_an_image_folder_depends_on_images_and_names() -> None:
    write_folder(Path("a"))
    write_folder(Path("b"))
    first, equal = (synthetic_source(f"imagefolder:{folder}").digest for folder in ("a", "b"))
    Path("b/class3/003.PNG").write_bytes(png(IMAGES[4]))
    Path("a/class3/003.PNG").rename("a/class3/004.PNG")
    renamed, changed = (synthetic_source(f"imagefolder:{folder}").digest for folder in ("a", "b"))
    assert first == equal
    assert len({first, renamed, changed}) == 3


def test_the_test_images_may_be_in_val() -> None:
    for split in ("train", "val"):
        write_folder(Path("mine") / split)
    source = real_source("imagefolder:mine", name="mine", split="test")
    assert Path(source.model_dump()["location"][0]).name == "val"


def test_the_plan_refuses_a_class_in_one_split_only() -> None:
    write_folder()
    write_folder(Path("mine/test"), IMAGES[:9])
    with pytest.raises(UserError, match=r"data\.source = imagefolder:mine: class9 .*mine/train.*mine/test"):
        real_source("imagefolder:mine", name="mine", split="test")


def refuse(spec: IngestedPoolStage, message: str, make_job: Make) -> None:
    """Ingest, and expect an error of one line."""
    with pytest.raises(UserError, match=message) as refusal:
        spec.run(make_job("pools", spec.id))
    assert "\n" not in str(refusal.value)


OTHER_SIZE = png(np.zeros((5, 4), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more/0.PNG", OTHER_SIZE, r"mine/train .*11 .*data\.classes is 10"),
        ("class1/001.PNG", b"<html>", r"class1/001\.PNG .*decoded"),
        ("class1/001.PNG", OTHER_SIZE, r"class1/001\.PNG .*4 x 5.*data\.image_shape.*5 x 4"),
    ],
    ids=["class_too_many", "web_page", "other_size"],
)
def test_a_broken_image_folder_is_refused(name: str, content: bytes, message: str, make_job: Make) -> None:
    write_folder()
    path = Path("mine/train", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    refuse(planned("imagefolder:mine"), message, make_job)


def write_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**26 + 1)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("all", lambda path: path.symlink_to(path.parents[1].absolute()), r"class3/all .*/mine/train"),
        (os.fsdecode(b"ros\xe9.png"), Path.touch, r"class3 .*b'ros\\xe9\.png'.*UTF-8"),
        (os.fsdecode(b"../ros\xe9"), Path.mkdir, r"mine/train .*b'ros\\xe9'.*UTF-8"),
        ("round", lambda path: path.symlink_to("round"), r"class3/round .*Too many levels of symbolic links"),
        ("gone.png", lambda path: path.symlink_to("../gone.png"), r"class3/gone\.png .*No such file or directory"),
        ("pipe.png", os.mkfifo, r"class3/pipe\.png .*regular file"),
        ("zero.png", lambda path: path.symlink_to("/dev/zero"), r"class3/zero\.png .*regular file"),
        ("large.png", write_large, r"class3/large\.png .*67,108,865 bytes.*67,108,864"),
    ],
    ids=["in_itself", "name_of_image", "name_of_class", "round", "gone", "pipe", "device", "large"],
)
def test_the_plan_refuses_files_that_cannot_be_images(name: str, damage: Callable[[Path], Any], message: str) -> None:
    write_folder()
    Path("mine/train/class3/notes").symlink_to("gone.txt")  # not an image, so it is ignored
    damage(Path("mine/train/class3", name))
    with pytest.raises(UserError, match=message):
        planned("imagefolder:mine")


def test_the_plan_refuses_generated_images_in_several_folders() -> None:
    for number in range(2):
        write_folder(Path(f"gen{number}"))
    with pytest.raises(UserError, match=r"synthetic\.source = imagefolder:gen\* .*2 folders \(gen0, gen1\)"):
        synthetic_source("imagefolder:gen*")


def test_generated_images_of_other_classes_are_refused(make_job: Make) -> None:
    """The number of folders is equal, but one has another name, so the labels from class3 on differ."""
    write_folder()
    real = planned("imagefolder:mine")
    directory = make_job("pools", real.id).directory
    write_spec(directory / "spec.json", real)
    run_stage(directory, Execution(device="cpu"))
    write_folder(Path("generated"), IMAGES[::-1])
    Path("generated/class3").rename("generated/zebra")
    source = synthetic_source("imagefolder:generated")
    spec = real.model_copy(update={"split": "synthetic", "source": source, "train": real.id})
    refuse(spec, rf"generated: class3, zebra .*{real.id}", make_job)


def test_an_image_changed_after_the_plan_is_refused(make_job: Make) -> None:
    write_folder()
    spec = planned("imagefolder:mine")
    Path("mine/train/class1/001.PNG").write_bytes(png(IMAGES[2]))
    refuse(spec, r"mine/train: .*changed", make_job)


def member_of(name: str, **attributes: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


def tar_of(*members: tarfile.TarInfo, **options: Any) -> bytes:
    """Return a tar file of empty members, whatever size their headers state."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for member in members:
            archive.addfile(member)
    return file.getvalue()


def write_tar(path: Path, contents: dict[str, bytes], **attributes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            archive.addfile(member_of(name, size=len(content), **attributes), io.BytesIO(content))
    return path


def samples(numbers: range, form: str = "cls", images: npt.NDArray[np.uint8] = IMAGES) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for number in numbers:
        label = str(number % 10).encode() if form == "cls" else json.dumps({"label": number % 10}).encode()
        members |= {f"./a/{number:04}.png": png(images[number]), f"./a/{number:04}.{form}": label}
    return members


@pytest.mark.parametrize("form", ["cls", "json"])
def test_webdataset_shards_are_read_in_order(form: str) -> None:
    write_tar(Path("shards/train-000000.tar"), samples(range(25), form))
    write_tar(Path("shards/train-000001.tar"), samples(range(25, 40), form))
    images, labels = everything(planned("webdataset:shards"))
    assert np.array_equal(images, IMAGES[:, None])
    assert labels.tolist() == [number % 10 for number in range(40)]


def test_a_compressed_shard_is_read() -> None:
    write_tar(Path("plain.tar"), samples(range(40)))
    Path("shards").mkdir()
    Path("shards/train-0.tar.gz").write_bytes(gzip.compress(Path("plain.tar").read_bytes()))
    assert np.array_equal(everything(planned("webdataset:shards"))[0], IMAGES[:, None])


def test_a_compressed_shard_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeking back in gzip restarts at the beginning."""
    large = {f"{number}.{suffix}": bytes(2**15) for number in range(20) for suffix in ("png", "cls")}
    write_tar(Path("plain.tar"), large)
    Path("train-0.tar.gz").write_bytes(gzip.compress(Path("plain.tar").read_bytes()))
    backwards: list[int] = []

    def seek(self: gzip.GzipFile, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset < plainly(self, 0, io.SEEK_CUR):
            backwards.append(offset)
        return plainly(self, offset, whence)

    plainly = gzip.GzipFile.seek
    monkeypatch.setattr(gzip.GzipFile, "seek", seek)
    monkeypatch.setattr(webdataset, "_label", lambda *_: 0)
    pictures = FORMATS["webdataset"].open_stream(planned("webdataset:.")).pictures
    assert pictures is not None
    assert len(list(pictures.images(0))) == 20
    assert len(backwards) == 2  # counting and reading


WITHOUT_LABEL = {"0.png": png(IMAGES[0])}
SPARSE_1_0 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
BOMB = {"0.png": bytes(2**26 + 1), "0.cls": b"1"}


@pytest.mark.parametrize(
    ("members", "info", "message"),
    [
        ({"../../0.png": png(IMAGES[0])}, {}, r"'\.\./\.\./0\.png'"),
        ({"/etc/0.png": png(IMAGES[0])}, {}, r"'/etc/0\.png'"),
        ({"0.png": b""}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, r"'0\.png' is not a regular file"),
        (BOMB, {}, r"'0\.png' has 67,108,865 bytes.*67,108,864"),
        (WITHOUT_LABEL, {}, r"sample 0 .*\.cls .*has \.png$"),
        ({"0.cls": b"1"}, {}, r"sample 0 .*one image .*has \.cls$"),
        ({**WITHOUT_LABEL, "0.cls": b"cat"}, {}, r"sample 0: .*\.cls .*b'cat'"),
        ({**WITHOUT_LABEL, "0.json": b"[]"}, {}, r"sample 0: .*\.json .*b'\[\]'"),
        ({"0.png": b"<html>", "0.cls": b"1"}, {}, r"sample 0 .*decoded"),
        ({**WITHOUT_LABEL, "0.cls": b"10"}, {}, r"10.*data\.classes"),
        ({**WITHOUT_LABEL, "0.json": b"[" * 200_000}, {}, r"\.json .*b'\[\["),
        ({".0.png": b""}, {"pax_headers": {"size": "-1536"}}, r"'\.0\.png' .*size"),
        ({"0.png": b""}, {"pax_headers": {"GNU.sparse.size": "abc"}}, r"sparse"),
        ({"0.png": b""}, {"pax_headers": {"GNU.sparse.map": "0,1"}}, r"sparse"),
        ({"0.png": b""}, {"pax_headers": SPARSE_1_0}, r"sparse"),
        ({"0.png": b""}, {"type": tarfile.GNUTYPE_SPARSE}, r"sparse"),
        ({"0.png": b""}, {"pax_headers": {"size": "x" * 9}}, r"sample 0 .*\.cls"),
        ({**WITHOUT_LABEL, "0.PNG": b"", "0.cls": b"1"}, {}, r"sample 0 .*\.png"),
        ({**WITHOUT_LABEL, "0.cls": b"1", "./0.cls": b"2"}, {}, r"sample 0 .*\.cls"),
        ({**WITHOUT_LABEL, "0.json": b'{"label": true}'}, {}, r"sample 0: .*\.json .*true"),
        ({"ros\udce9.png": b""}, {}, r"b'ros\\xe9\.png'.*UTF-8"),
    ],
    ids=[
        "traversal", "absolute", "link", "bomb", "no_label", "no_picture", "text_label", "no_json_label", "web_page",
        "label_too_high", "deep_json", "endless", "sparse_0_0", "sparse_0_1", "sparse_1_0", "sparse_gnu", "no_number",
        "two_pictures_of_a_name", "two_labels_of_a_name", "label_true", "not_utf8",
    ],
)  # fmt: skip
def test_a_bad_member_is_refused(members: dict[str, bytes], info: Any, message: str, make_job: Make) -> None:
    write_tar(Path("shards/train-0.tar"), members, **info)
    refuse(planned("webdataset:shards"), rf"train-0\.tar.*{message}", make_job)


LONG = member_of(f"{'x' * 2**17}.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-10240], ""),
        (lambda whole: whole[:700], ""),
        (lambda whole: whole[: 4 * 512], ""),
        (lambda whole: b"<html>" * 200, ""),
        (lambda whole: 2 * whole, "after the end"),
        # gzip's checksum follows the last block of zeros, while the members end at the first
        (lambda whole: (packed := gzip.compress(whole))[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:], "CRC"),
        (lambda _: tar_of(LONG, format=tarfile.GNU_FORMAT), r"131,\d+ bytes"),
        (lambda _: tar_of(LONG, format=tarfile.PAX_FORMAT), r"131,\d+ bytes"),
        (lambda _: tar_of(member_of("0.png", size=-512), format=tarfile.GNU_FORMAT), "-512 bytes"),
        (lambda _: tar_of(member_of("0.png"), pax_headers={"size": str(2**20)}), r"'0\.png' .*size"),
    ],
    ids=[
        "no_end", "in_an_image", "between_members", "web_page", "two_archives", "checksum", "long_name_gnu",
        "long_name_pax", "negative_size", "size_of_all_members",
    ],
)  # fmt: skip
def test_a_broken_tar_file_is_refused(damage: Callable[[bytes], bytes], message: str) -> None:
    path = Path("train-0.tar")
    write_tar(path, samples(range(3)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"train-0\.tar.*{message}"):
        everything(planned("webdataset:."))


def test_a_gap_in_the_shards_is_refused() -> None:
    for number in (0, 2):
        write_tar(Path(f"shards/train-{number}.tar"), samples(range(3)))
    with pytest.raises(UserError, match=r"shards .*train-0\.tar, train-2\.tar"):
        planned("webdataset:shards")


def test_an_image_folder_becomes_a_pool(make_job: Make) -> None:
    write_folder()
    spec = planned("imagefolder:mine")
    job = make_job("pools", spec.id)
    facts = spec.run(job)
    pool = open_pool(job.directory)
    assert facts["class_names"] == tuple(NAMES)
    assert facts["sorted_by_class"] is False
    assert np.array_equal(pool.images[:], everything(spec)[0])


def put_pictures(form: str, images: npt.NDArray[np.uint8]) -> str:
    """Write image k, of class k modulo 10, in a source's format, and return ``data.source``."""
    if form == "imagefolder":
        write_folder(Path("mine/train"), images)
    elif form == "webdataset":
        write_tar(Path("mine/train-000000.tar"), samples(range(len(images)), images=images))
    else:
        write_shard("train-00000-of-00001", [png(image) for image in images], [n % 10 for n in range(len(images))])
        Path("shards").rename("mine")
    return f"{form}:mine"


@pytest.mark.parametrize("spec_of", [planned, encoded])
@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_source_without_images_is_refused(
    form: str, spec_of: Callable[[str], IngestedPoolStage], make_job: Make
) -> None:
    put_pictures(form, IMAGES[:1])
    if form == "webdataset":
        write_tar(Path("mine/train-000000.tar"), {})
    else:
        shard = Path("mine/train-00000-of-00001.parquet")
        pq.write_table(pq.read_table(shard)[:0], shard)
    refuse(spec_of(f"{form}:mine"), r"no images.*/mine|/mine.*no images", make_job)


@pytest.mark.parametrize("form", ["imagefolder", "webdataset", "parquet"])
def test_encoded_and_decoded_pools_are_equal(form: str, make_job: Make) -> None:
    source = put_pictures(form, IMAGES[[*range(30), 3]])  # one image is there twice
    specs = planned(source), encoded(source)
    jobs = [make_job("pools", name) for name in ("decoded", "encoded")]
    decoded_facts, encoded_facts = (spec.run(job) for spec, job in zip(specs, jobs, strict=True))
    pixels, pictures = (open_pool(job.directory) for job in jobs)
    assert np.array_equal(pictures.images[:], pixels.images[:])
    assert np.array_equal(pictures.labels, pixels.labels)
    assert np.array_equal(read_digests(jobs[0].directory), read_digests(jobs[1].directory))
    assert pictures.info.storage == "encoded"
    assert pictures.info.source == pixels.info.source
    assert encoded_facts["duplicates"]["images"] == 1
    assert {**encoded_facts, "digest": None} == {**decoded_facts, "digest": None}
    assert specs[0].id != specs[1].id
    assert "pools.writing" not in specs[1].definitions


def test_encoded_images_of_several_sizes_are_scaled_when_read(make_job: Make) -> None:
    write_folder()
    image = Path("mine/train/class3/003.PNG")
    image.write_bytes(png(some_images(1, 12, 15)[0]))
    refuse(planned("imagefolder:mine"), r"class3/003\.PNG .*15 x 12.*data\.image_shape", make_job)
    job = make_job("pools", "encoded")
    encoded("imagefolder:mine").run(job)
    assert open_pool(job.directory).images[:].shape == (40, 1, 4, 5)
    image.write_bytes(image.read_bytes()[:60])
    refuse(encoded("imagefolder:mine"), r"mine/train/class3/003\.PNG .*decoded", make_job)


def test_a_source_of_pixels_cannot_be_stored_encoded() -> None:
    with pytest.raises(UserError, match=r"data: .*storage = encoded.*source = npz:mine"):
        load_config({"preset": "cifar10", "data": {"source": "npz:mine", "storage": "encoded"}})


def test_the_example_of_the_data_guide_works_on_cifar10(shared: Path, make_job: Make) -> None:
    for split, count in (("train", 200), ("test", 50)):
        table = pq.read_table(shared / "data" / "cifar10" / f"{split}-00000-of-00001.parquet").slice(0, count)
        for number, row in enumerate(table.to_pylist()):
            path = Path("pictures", split, f"class{row['label']}", f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["img"]["bytes"])
    (example,) = re.findall(r"```yaml\n(preset: .*?)```", (DOCS / "data.md").read_text(), re.DOTALL)
    Path("config.yaml").write_text(example)
    plan = make_plan(read_config_file(Path("config.yaml"), {}), load_experiments(), results=Path("results"))
    plan.write_specs()
    train = next(stage for stage, spec in plan.stages.items() if spec.slug == "mine-train")
    for stage_id in plan.needed_for([train]):
        run_stage(plan.directory(stage_id) / "spec.json", Execution(device="cpu"))
    record = read_record(plan.directory(train))
    assert record.facts["count"] == 200
    assert record.facts["also_in"] == {"test": 0}
    assert open_pool(plan.directory(train)).images[:8].shape == (8, 3, 32, 32)
