"""Image folders and WebDataset's tar files: read as they are, and each broken one refused in one sentence."""

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

from robustprune.config import load_config, read_config_file
from robustprune.errors import UserError
from robustprune.execution import Execution
from robustprune.experiments import load_experiments
from robustprune.job import Job, run_stage
from robustprune.plan import make_plan
from robustprune.pools import stage
from robustprune.pools.format import open_pool, read_digests
from robustprune.pools.ingest import imagefolder, webdataset
from robustprune.pools.ingest.listing import image_files
from robustprune.record import read_record
from robustprune.sources import planned_rows, real_source, synthetic_source
from robustprune.specs import IngestedPoolSpec
from robustprune.stagefile import write_spec
from test_pools import everything, planned, png, some_images, write_shard

DOCS = Path(__file__).parents[1] / "docs"

Make = Callable[..., Job]
NAMES = [f"class{number}" for number in range(10)]
IMAGES = some_images(40, 4, 5)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def write_folder(folder: Path, images: npt.NDArray[np.uint8] = IMAGES) -> None:
    """Image k is of class k modulo 10."""
    for number, image in enumerate(images):
        path = folder / NAMES[number % 10] / f"{number:03}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def test_an_image_folder_is_read_with_its_classes_mixed() -> None:
    write_folder(Path("mine/train"))
    Path("mine/train/class0/notes.txt").write_text("no picture")
    Path("mine/train/class0/.hidden.png").write_bytes(b"no picture")
    spec = planned("imagefolder:mine")
    images, labels = everything(imagefolder, spec)
    files = image_files(Path("mine/train"))
    numbers = [int(Path(file.path).stem) for file in files]
    assert np.array_equal(images, IMAGES[numbers, None])
    assert labels.tolist() == [number % 10 for number in numbers]
    assert sorted(numbers) == list(range(40))
    assert len(set(labels[:10].tolist())) > 3
    assert planned_rows(spec.source, "train") == 40
    assert imagefolder.open_stream(spec).facts == {"class_names": tuple(NAMES)}


def test_an_image_folders_id_follows_its_pictures_and_their_names() -> None:
    write_folder(Path("a"))
    write_folder(Path("b"))
    digests = [synthetic_source(f"imagefolder:{folder}").digest for folder in ("a", "b")]
    Path("b/class3/003.PNG").write_bytes(png(IMAGES[4]))
    digests.append(synthetic_source("imagefolder:b").digest)
    Path("a/class3/003.PNG").rename("a/class3/004.PNG")
    digests.append(synthetic_source("imagefolder:a").digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_an_image_folder_may_call_its_test_images_val() -> None:
    for split in ("train", "val"):
        write_folder(Path("mine") / split)
    source = real_source("imagefolder:mine", name="mine", split="test")
    assert Path(source.model_dump()["location"][0]).name == "val"


def test_a_class_that_only_one_split_has_is_refused_by_the_plan() -> None:
    write_folder(Path("mine/train"))
    write_folder(Path("mine/test"), IMAGES[:9])
    with pytest.raises(
        UserError, match=r"data\.source = imagefolder:mine: class9 should be a class of both .*train and"
    ):
        real_source("imagefolder:mine", name="mine", split="test")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "more").mkdir(),
            r"train should have a sub-folder for each class, but has 11 sub",
        ),
        (lambda folder: (folder / "class1/001.PNG").write_bytes(b"<html>"), r"class1/001\.PNG cannot be decoded: "),
        (
            lambda folder: (folder / "class1/001.PNG").write_bytes(png(np.zeros((5, 4), np.uint8))),
            r"class1/001\.PNG is 4 x 5 pixels, but data\.image_shape asks for 5 x 4",
        ),
    ],
    ids=["class_too_many", "web_page", "other_size"],
)
def test_a_broken_image_folder_is_refused(damage: Callable[[Path], Any], message: str, make_job: Make) -> None:
    write_folder(Path("mine/train"))
    damage(Path("mine/train"))
    spec = planned("imagefolder:mine")
    with pytest.raises(UserError, match=message) as refusal:
        stage.run(make_job("pools", spec.id), spec)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_lies_within_itself_is_refused() -> None:
    write_folder(Path("mine/train"))
    Path("mine/train/class3/all").symlink_to(Path("mine/train").absolute())
    with pytest.raises(UserError, match=r"mine/train/class3/all is a link to .*/mine/train, in which it lies itself"):
        planned("imagefolder:mine")


@pytest.mark.parametrize("name", [b"class3/ros\xe9.png", b"ros\xe9/1.png"], ids=["picture", "class"])
def test_a_name_that_is_not_utf8_is_refused(name: bytes) -> None:
    write_folder(Path("mine/train"))
    path = Path("mine/train", os.fsdecode(name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png(IMAGES[0]))
    with pytest.raises(UserError, match=r"mine/train.* has the name b'ros\\xe9.*', which is not UTF-8; rename it"):
        planned("imagefolder:mine")


@pytest.mark.parametrize(
    ("name", "to", "problem"),
    [
        ("round", "round", "Too many levels of symbolic links"),
        ("gone.png", "../moved/gone.png", "No such file or directory"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(name: str, to: str, problem: str) -> None:
    write_folder(Path("mine/train"))
    Path("mine/train/class3/notes").symlink_to("gone.txt")  # which is no picture, and does not matter
    Path("mine/train/class3", name).symlink_to(to)
    with pytest.raises(UserError, match=rf"mine/train/class3/{name} cannot be read: {problem}"):
        planned("imagefolder:mine")


def test_what_is_no_picture_is_refused_by_the_plan_and_not_read() -> None:
    write_folder(Path("mine/train"))
    pipe = Path("mine/train/class3/pipe.png")
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"class3/pipe\.png should be a picture, but is no plain file"):
        planned("imagefolder:mine")
    pipe.unlink()
    pipe.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"class3/pipe\.png should be a picture, but is no plain file"):
        planned("imagefolder:mine")
    pipe.unlink()
    with pipe.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(UserError, match=r"class3/pipe\.png has 67,108,865 bytes; 67,108,864 are allowed"):
        planned("imagefolder:mine")


def test_generated_images_in_several_folders_are_refused_by_the_plan() -> None:
    for number in range(2):
        write_folder(Path(f"gen{number}"))
    with pytest.raises(
        UserError, match=r"synthetic\.source = imagefolder:gen\* is 2 folders \(gen0, gen1\), but should be"
    ):
        synthetic_source("imagefolder:gen*")


def test_generated_images_of_other_classes_are_refused(make_job: Make) -> None:
    """As many folders, but another name, so that all labels from class3 on are of another class."""
    write_folder(Path("mine/train"))
    real = planned("imagefolder:mine")
    directory = make_job("pools", real.id).directory
    write_spec(directory / "spec.json", real)
    run_stage(directory, Execution(device="cpu"))
    write_folder(Path("generated"), IMAGES[::-1])
    Path("generated/class3").rename("generated/zebra")
    made = {**real.model_dump(), "split": "synthetic", "source": synthetic_source("imagefolder:generated").model_dump()}
    spec = IngestedPoolSpec.model_validate({**made, "train": real.id})
    message = rf"generated: class3, zebra should be a class both of it and of the pool {real.id}"
    with pytest.raises(UserError, match=message):
        stage.run(make_job("pools", spec.id), spec)


def test_a_picture_changed_after_the_plan_is_refused(make_job: Make) -> None:
    write_folder(Path("mine/train"))
    spec = planned("imagefolder:mine")
    Path("mine/train/class1/001.PNG").write_bytes(png(IMAGES[2]))
    with pytest.raises(UserError, match=r"mine/train: the content changed since the plan was made"):
        stage.run(make_job("pools", spec.id), spec)


def write_tar(path: Path, members: dict[str, bytes], **info: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in info.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))


def samples(numbers: range, form: str = "cls") -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for number in numbers:
        label = str(number % 10).encode() if form == "cls" else json.dumps({"label": number % 10}).encode()
        members |= {f"./a/{number:04}.png": png(IMAGES[number]), f"./a/{number:04}.{form}": label}
    return members


@pytest.mark.parametrize("form", ["cls", "json"])
def test_webdataset_shards_are_read_in_order(form: str) -> None:
    write_tar(Path("shards/train-000000.tar"), samples(range(25), form))
    write_tar(Path("shards/train-000001.tar"), samples(range(25, 40), form))
    images, labels = everything(webdataset, planned("webdataset:shards"))
    assert np.array_equal(images, IMAGES[:, None])
    assert labels.tolist() == [number % 10 for number in range(40)]


def test_a_packed_shard_is_read() -> None:
    write_tar(Path("plain.tar"), samples(range(40)))
    Path("shards").mkdir()
    Path("shards/train-0.tar.gz").write_bytes(gzip.compress(Path("plain.tar").read_bytes()))
    assert np.array_equal(everything(webdataset, planned("webdataset:shards"))[0], IMAGES[:, None])


def test_a_packed_shard_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To go back, gzip begins anew; only the file's end is looked at again."""
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
    pictures = webdataset.open_stream(planned("webdataset:.")).pictures
    assert pictures is not None
    assert len(list(pictures.images(0))) == 20
    assert len(backwards) == 2  # counting and reading


GOOD = samples(range(3))
SPARSE_1_0 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
BOMB = {"0.png": bytes(2**26 + 1), "0.cls": b"1"}


@pytest.mark.parametrize(
    ("members", "info", "message"),
    [
        ({"../../0.png": png(IMAGES[0])}, {}, r"the member '\.\./\.\./0\.png' lies outside the tar file"),
        ({"/etc/0.png": png(IMAGES[0])}, {}, r"the member '/etc/0\.png' lies outside the tar file"),
        ({"0.png": b""}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, r"'0\.png' is a link or a device"),
        (BOMB, {}, r"the member '0\.png' has 67,108,865 bytes; 67,108,864 are allowed"),
        ({"0.png": png(IMAGES[0])}, {}, r"the sample 0 should have one picture, and \.cls .*, but has \.png$"),
        ({"0.cls": b"1"}, {}, r"the sample 0 should have one picture, .* but has \.cls"),
        ({"0.png": png(IMAGES[0]), "0.cls": b"cat"}, {}, r"the sample 0 has no whole number as its label in \.cls"),
        ({"0.png": png(IMAGES[0]), "0.json": b"[]"}, {}, r"the sample 0 has no whole number as its label in \.json"),
        ({"0.png": b"<html>", "0.cls": b"1"}, {}, r"the sample 0 cannot be decoded"),
        ({"0.png": png(IMAGES[0]), "0.cls": b"10"}, {}, r"labels go from 10 to 10, but data\.classes"),
        ({"0.png": png(IMAGES[0]), "0.json": b"[" * 200_000}, {}, r"as its label in \.json, but b'\[\["),
        ({".0.png": b""}, {"pax_headers": {"size": "-1536"}}, r"the member '\.0\.png' is not of the size that"),
        ({"0.png": b""}, {"pax_headers": {"GNU.sparse.size": "abc"}}, r"is not a whole tar file: a member is a sparse"),
        ({"0.png": b""}, {"pax_headers": {"GNU.sparse.map": "0,1"}}, r"is not a whole tar file: a member is a sparse"),
        ({"0.png": b""}, {"pax_headers": SPARSE_1_0}, r"is not a whole tar file: a member is a sparse file"),
        ({"0.png": b""}, {"type": tarfile.GNUTYPE_SPARSE}, r"is not a whole tar file: a member is a sparse file"),
        ({"0.png": b""}, {"pax_headers": {"size": "x" * 9}}, r"the sample 0 should have one picture, and \.cls"),
        ({"0.png": png(IMAGES[0]), "0.PNG": b"", "0.cls": b"1"}, {}, r"the sample 0 has \.png twice"),
        ({"0.png": png(IMAGES[0]), "0.cls": b"1", "./0.cls": b"2"}, {}, r"the sample 0 has \.cls twice"),
        ({"0.png": png(IMAGES[0]), "0.json": b'{"label": true}'}, {}, r"no whole number as its label in \.json, but"),
        ({"ros\udce9.png": b""}, {}, r"the member b'ros\\xe9\.png' has a name that is not UTF-8"),
    ],
    ids=[
        "traversal", "absolute", "link", "bomb", "no_label", "no_picture", "text_label", "no_json_label", "web_page",
        "label_too_high", "deep_json", "endless", "sparse_0_0", "sparse_0_1", "sparse_1_0", "sparse_gnu", "no_number",
        "two_pictures_of_a_name", "two_labels_of_a_name", "label_true", "not_utf8",
    ],
)  # fmt: skip
def test_a_bad_member_is_refused(members: dict[str, bytes], info: Any, message: str, make_job: Make) -> None:
    write_tar(Path("shards/train-0.tar"), members, **info)
    spec = planned("webdataset:shards")
    with pytest.raises(UserError, match=rf"train-0\.tar.*{message}") as refusal:
        stage.run(make_job("pools", spec.id), spec)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_name_that_fills_the_memory_is_refused(form: int) -> None:
    with tarfile.open("train-0.tar", "w", format=form) as archive:
        archive.addfile(tarfile.TarInfo(f"{'x' * 2**17}.png"))
    with pytest.raises(UserError, match=r"train-0\.tar is not a whole tar file: a member states 131,\d+ bytes; a long"):
        webdataset.open_stream(planned("webdataset:."))


def test_a_size_below_nought_is_refused() -> None:
    member = tarfile.TarInfo("0.png")
    member.size = -512
    Path("train-0.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UserError, match=r"train-0\.tar is not a whole tar file: a member states -512 bytes"):
        webdataset.open_stream(planned("webdataset:."))


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-10240], lambda raw: raw[:700], lambda raw: raw[: 4 * 512], lambda raw: b"<html>" * 200],
    ids=["no_end", "in_a_picture", "between_members", "web_page"],
)
def test_a_tar_file_that_is_not_whole_is_refused(damage: Callable[[bytes], bytes]) -> None:
    path = Path("shards/train-0.tar")
    write_tar(path, GOOD)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"shards/train-0\.tar is not a whole tar file: "):
        everything(webdataset, planned("webdataset:shards"))


def test_the_checksum_of_a_packed_shard_is_compared() -> None:
    """It comes after the last block of zeros, at the first of which the members end."""
    write_tar(Path("plain.tar"), GOOD)
    packed = gzip.compress(Path("plain.tar").read_bytes())
    Path("train-0.tar.gz").write_bytes(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    with pytest.raises(UserError, match=r"train-0\.tar\.gz is not a whole tar file: CRC check failed"):
        webdataset.open_stream(planned("webdataset:."))


def test_two_tar_files_in_one_are_refused() -> None:
    write_tar(Path("train-0.tar"), GOOD)
    Path("train-0.tar").write_bytes(2 * Path("train-0.tar").read_bytes())
    with pytest.raises(UserError, match=r"train-0\.tar has more after the end of its tar file; unpack"):
        webdataset.open_stream(planned("webdataset:."))


def test_a_size_for_all_members_is_refused_where_it_is_not_theirs() -> None:
    with tarfile.open("train-0.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"size": str(2**20)}) as archive:
        archive.addfile(tarfile.TarInfo("0.png"))
    with pytest.raises(UserError, match=r"train-0\.tar: the member '0\.png' is not of the size that its header states"):
        webdataset.open_stream(planned("webdataset:."))


def test_a_gap_in_the_shards_is_refused() -> None:
    for number in (0, 2):
        write_tar(Path(f"shards/train-{number}.tar"), GOOD)
    with pytest.raises(UserError, match=r"shards should hold all parts of one set, numbered from 0 or 1, but holds"):
        planned("webdataset:shards")


def test_a_whole_image_folder_becomes_a_pool(make_job: Make) -> None:
    write_folder(Path("mine/train"))
    spec = planned("imagefolder:mine")
    job = make_job("pools", spec.id)
    facts = stage.run(job, spec)
    pool = open_pool(job.directory)
    assert facts["class_names"] == tuple(NAMES)
    assert facts["sorted_by_class"] is False
    assert np.array_equal(pool.images[:], everything(imagefolder, spec)[0])


def put_pictures(form: str, images: npt.NDArray[np.uint8]) -> str:
    """Image k, of class k modulo 10, in files of a source's format; the text that names the source."""
    if form == "imagefolder":
        write_folder(Path("mine/train"), images)
    elif form == "webdataset":
        members = {f"{number:03}.png": png(image) for number, image in enumerate(images)}
        labels = {f"{number:03}.cls": str(number % 10).encode() for number in range(len(images))}
        write_tar(Path("mine/train-000000.tar"), dict(sorted({**members, **labels}.items())))
    else:
        write_shard("train-00000-of-00001", [png(image) for image in images], [n % 10 for n in range(len(images))])
        Path("shards").rename("mine")
    return f"{form}:mine"


@pytest.mark.parametrize("storage", ["decoded", "encoded"])
@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_source_without_images_is_refused(form: str, storage: str, make_job: Make) -> None:
    put_pictures(form, IMAGES[:1])
    if form == "webdataset":
        write_tar(Path("mine/train-000000.tar"), {})
    else:
        shard = Path("mine/train-00000-of-00001.parquet")
        pq.write_table(pq.read_table(shard)[:0], shard)
    spec = planned(f"{form}:mine")
    kept = IngestedPoolSpec.model_validate({**spec.model_dump(), "storage": storage})
    with pytest.raises(UserError, match=r"/mine.*: there are no images|: there are no images in .*/mine"):
        stage.run(make_job("pools", kept.id), kept)


@pytest.mark.parametrize("form", ["imagefolder", "webdataset", "parquet"])
def test_a_pool_of_pictures_is_as_one_of_pixels(form: str, make_job: Make) -> None:
    spec = planned(put_pictures(form, IMAGES[[*range(30), 3]]))  # one image is there twice
    kept = IngestedPoolSpec.model_validate({**spec.model_dump(), "storage": "encoded"})
    jobs = {name: make_job("pools", name) for name in ("decoded", "encoded")}
    facts = {"decoded": stage.run(jobs["decoded"], spec), "encoded": stage.run(jobs["encoded"], kept)}
    pixels, pictures = (open_pool(job.directory) for job in jobs.values())
    assert np.array_equal(pictures.images[:], pixels.images[:])
    assert np.array_equal(pictures.labels, pixels.labels)
    assert np.array_equal(read_digests(jobs["encoded"].directory), read_digests(jobs["decoded"].directory))
    assert pictures.info.storage == "encoded"
    assert pictures.info.source == pixels.info.source
    assert facts["encoded"]["duplicates"]["images"] == 1
    assert {**facts["encoded"], "digest": None} == {**facts["decoded"], "digest": None}
    assert kept.id != spec.id
    assert "pools.writing" not in kept.decisive_modules


def test_pictures_of_several_sizes_are_scaled_when_they_are_read(make_job: Make) -> None:
    put_pictures("imagefolder", IMAGES)
    Path("mine/train/class3/003.PNG").write_bytes(png(some_images(1, 12, 15)[0]))
    spec = planned("imagefolder:mine")
    with pytest.raises(
        UserError, match=r"mine/train/class3/003\.PNG is 15 x 12 pixels, but data\.image_shape asks for"
    ):
        stage.run(make_job("pools", "decoded"), spec)
    job = make_job("pools", "encoded")
    stage.run(job, spec.model_copy(update={"storage": "encoded"}))
    assert open_pool(job.directory).images[:].shape == (40, 1, 4, 5)


def test_a_broken_picture_that_is_kept_is_named_with_its_folder(make_job: Make) -> None:
    put_pictures("imagefolder", IMAGES)
    broken = Path("mine/train/class3/003.PNG")
    broken.write_bytes(broken.read_bytes()[:60])
    spec = planned("imagefolder:mine").model_copy(update={"storage": "encoded"})
    with pytest.raises(UserError, match=r"mine/train/class3/003\.PNG cannot be decoded"):
        stage.run(make_job("pools", spec.id), spec)


def test_pixels_are_not_kept_as_pictures() -> None:
    with pytest.raises(UserError, match=r"data: .*storage = encoded, but source = npz:mine has pixels; only parquet, "):
        load_config({"preset": "cifar10", "data": {"source": "npz:mine", "storage": "encoded"}})


def test_the_guide_to_ones_own_data_set_works_on_pictures_of_cifar10(shared: Path, make_job: Make) -> None:
    """The configuration of docs/data.md, word for word, on JPEGs of CIFAR-10."""
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
