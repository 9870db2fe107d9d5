"""Pools of encoded images: read as arrays are, written so that a killed job goes on, closed to hostile files."""

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.files import digest
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job
from robustprune.images import encoded as encoded_pool
from robustprune.images import encoding
from robustprune.images.encoded import LARGEST_PIXELS, decode, decode_and_fit
from robustprune.images.encoding import fill_encoded_pool, publish_encoded_pool
from robustprune.images.formats.stream import EncodedImage
from robustprune.images.pool import image_digests, open_pool, read_digests
from stopping import StopAfterTwo

Make = Callable[..., Job]
SHAPE = (3, 8, 6)


def picture(height: int = 8, width: int = 6, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def some(count: int) -> list[EncodedImage]:
    return [
        EncodedImage(file_of(picture(seed=row), "PNG" if row % 2 else "JPEG"), row % 4, f"{row}.png")
        for row in range(count)
    ]


SOME = some(25)


def fill(job: Job, images: list[EncodedImage], count: int | None = None, *, publish: bool = False) -> None:
    fill_encoded_pool(
        job,
        lambda first: iter(images[first:]),
        count=len(images) if count is None else count,
        image_shape=SHAPE,
        classes=4,
        dataset="some",
        source="a test",
    )
    if publish:
        publish_encoded_pool(job)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images a file, three a group, so that a few images are several of each."""
    monkeypatch.setattr(encoding, "ROWS_OF_A_FILE", 10)
    monkeypatch.setattr(encoding, "ROWS_OF_A_GROUP", 3)


@pytest.fixture
def job(make_job: Make, small_files: None) -> Job:
    made = make_job("pools", "encoded-0123456789")
    fill(made, SOME, publish=True)
    return made


def pixels_of(images: list[EncodedImage]) -> npt.NDArray[np.uint8]:
    """Decoded by Pillow alone."""
    return np.stack([np.asarray(Image.open(io.BytesIO(image.encoded))).transpose(2, 0, 1) for image in images])


PIXELS = pixels_of(SOME)


# ---- reading


SLICES = [slice(5, 15), slice(None), slice(20, 2, -7), slice(None, None, -1)]


@pytest.mark.parametrize("index", [0, -1, 24, np.int64(13), *SLICES, [], [24, 0, 9, 9, -25, 10]])
def test_an_encoded_pool_is_as_an_array(job: Job, index: Any) -> None:
    images = open_pool(job.directory).images
    index = np.array(index, dtype=np.int64) if isinstance(index, list) else index
    assert np.array_equal(images[index], PIXELS[index])
    assert (images.shape, images.dtype, len(images)) == (PIXELS.shape, PIXELS.dtype, 25)


@pytest.mark.parametrize("index", [25, -26, np.array([0, 25]), np.array([0.5])])
def test_rows_beyond_the_end_are_refused(job: Job, index: Any) -> None:
    with pytest.raises(IndexError):
        open_pool(job.directory).images[index]


def test_slices_are_read_ahead(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = encoded_pool.EncodedImages.encoded

    def counting(self: Any, row: int) -> bytes:
        asked.append(row)
        return whole(self, row)

    monkeypatch.setattr(encoded_pool.EncodedImages, "encoded", counting)
    images, array = open_pool(job.directory).images, PIXELS
    for start in range(0, 25, 10):
        stop = min(start + 10, 25)
        assert np.array_equal(images[start:stop], array[start:stop])
    assert sorted(asked) == list(range(25))
    assert np.array_equal(images[3:9], array[3:9])  # another one than was read ahead
    assert np.array_equal(images[1:2], array[1:2])


def test_an_image_is_one_read_of_its_bytes(job: Job) -> None:
    images = open_pool(job.directory).images
    assert isinstance(images, encoded_pool.EncodedImages)
    assert [images.encoded(row) for row in range(25)] == [image.encoded for image in SOME]


def test_no_more_files_are_open_at_once_than_is_said(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a pool of some 8 million images takes more descriptors than a process may have."""
    monkeypatch.setattr(encoded_pool, "MAPPED_FILES", 1)
    images = open_pool(job.directory).images
    assert np.array_equal(images[[0, 12, 24, 1]], PIXELS[[0, 12, 24, 1]])
    opened = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
    assert sum(str(job.directory.resolve()) in path and path.endswith(".parquet") for path in opened) == 1


def test_any_reader_of_parquet_takes_it_for_one_table(job: Job) -> None:
    table = pq.read_table(job.directory / "images.parquet").to_pydict()
    assert table["image"] == [{"bytes": image.encoded, "path": image.path} for image in SOME]
    assert table["label"] == [row % 4 for row in range(25)]
    metadata = pq.read_schema(job.directory / "images.parquet" / "00000.parquet").metadata
    assert json.loads(metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}


OUTPUTS = ("images.parquet", "index.npy", "labels.npy", "image_digests.npy", "pool.json", "contact_sheet.png")


def test_the_other_files_of_an_encoded_pool(job: Job) -> None:
    info = json.loads((job.directory / "pool.json").read_text())
    assert (info["count"], info["class_counts"], info["storage"]) == (25, [7, 6, 6, 6], "encoded")
    assert np.array_equal(read_digests(job.directory), image_digests(PIXELS))
    assert job.digests["images.parquet"] == digest(job.directory / "images.parquet")
    assert {path.name for path in job.outputs} == set(OUTPUTS)


def test_damaged_files_are_refused(job: Job) -> None:
    file = job.directory / "images.parquet" / "00001.parquet"
    content = file.read_bytes()
    for damaged in (content[:4] + b"x" + content[4:], content[:60]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"00001\.parquet: .* row 12 of the pool is not where index\.npy says"):
            open_pool(job.directory).images[12]
    file.unlink()
    with pytest.raises(UserError, match=r"00001\.parquet cannot be read"):
        open_pool(job.directory).images[12]
    np.save(job.directory / "index.npy", np.arange(25))
    with pytest.raises(UserError, match=r"not a readable pool: index\.npy is int64 \(25,\)"):
        open_pool(job.directory)


# ---- writing


def test_a_killed_job_goes_on_from_the_first_file_that_is_not_whole(job: Job, make_job: Make) -> None:
    broken = make_job("pools", "broken-0123456789")
    with pytest.raises(UserError, match=r"17\.png cannot be decoded"):
        fill(broken, [*SOME[:17], EncodedImage(b"no image", 0, "17.png"), *SOME[18:]])
    assert [path.name for path in (broken.partial / "images.parquet").iterdir()] == ["00000.parquet"]
    for name in ("00001.parquet", ".00001.parquet.0a1b2c3d"):  # as a killed attempt leaves them
        (broken.partial / "images.parquet" / name).write_bytes(b"half")
    fill(broken, [EncodedImage(b"not looked at again", 0, "-")] * 10 + SOME[10:], publish=True)
    for name in OUTPUTS:
        assert digest(broken.directory / name) == digest(job.directory / name), name


def test_a_job_killed_while_publishing_goes_on(make_job: Make, small_files: None) -> None:
    job = make_job("pools", "broken-0123456789")
    fill(job, SOME)
    job.publish("images.parquet", "index.npy")
    job.outputs.clear()
    fill(job, [], 25, publish=True)
    assert np.array_equal(open_pool(job.directory).images[:], PIXELS)
    assert job.digests["images.parquet"] == digest(job.directory / "images.parquet")


def test_a_pool_of_which_only_its_outputs_are_left_is_written_again(job: Job) -> None:
    shutil.rmtree(job.partial)
    job.partial.mkdir()
    others = some(30)[5:]
    fill(job, others, publish=True)
    assert np.array_equal(open_pool(job.directory).images[:], pixels_of(others))
    assert job.digests["images.parquet"] == digest(job.directory / "images.parquet")


def test_a_signal_stops_it_between_two_groups(make_job: Make, small_files: None) -> None:
    job = make_job("pools", "stopped-0123456789")
    job.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        fill(job, SOME)
    job.checkpoints = Checkpoints(0)
    fill(job, SOME, publish=True)
    assert np.array_equal(open_pool(job.directory).images[:], PIXELS)


@pytest.mark.parametrize(("count", "problem"), [(24, "more images than the 24"), (27, "2 images fewer")])
def test_another_number_of_images_than_stated_is_refused(make_job: Make, count: int, problem: str) -> None:
    with pytest.raises(UserError, match=f"a test: .*{problem}"):
        fill(make_job("pools", "other-0123456789"), SOME, count)


def test_labels_out_of_range_and_huge_files_are_refused(make_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"0\.png has the label 4, but data\.classes allows 0 to 3"):
        fill(make_job("pools", "label-0123456789"), [some(1)[0]._replace(label=4)])
    monkeypatch.setattr(encoded_pool, "LARGEST_BYTES", 100)
    with pytest.raises(UserError, match=r"0\.png is [\d,]+ bytes; more than 100 are not taken"):
        fill(make_job("pools", "huge-0123456789"), some(1))


# ---- decoding


@pytest.mark.parametrize("function", [decode, decode_and_fit])
def test_an_image_of_the_wanted_size_is_left_as_it_is(function: Callable[..., npt.NDArray[np.uint8]]) -> None:
    expected = np.asarray(picture()).transpose(2, 0, 1)
    assert np.array_equal(function(file_of(picture()), "it", SHAPE), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_converted(mode: str, channels: int) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    image = picture(mode=mode)
    found = decode_and_fit(file_of(image, form), "it", (channels, 8, 6))
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(8, 6, channels)
    assert np.array_equal(found, expected.transpose(2, 0, 1))


def test_a_palette_is_looked_up() -> None:
    image = picture().convert("P")
    image.info["transparency"] = bytes(range(256))
    found = decode_and_fit(file_of(image, transparency=bytes(range(256))), "it", SHAPE)
    assert np.array_equal(found, np.asarray(image.convert("RGBA").convert("RGB")).transpose(2, 0, 1))


def test_the_middle_of_a_larger_image_is_scaled() -> None:
    """40 x 20 pixels, a red square of 20 x 20 in the middle of blue, are red at 10 x 10 but for the blurred edges."""
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (10, 0, 30, 20))
    found = decode_and_fit(file_of(image), "it", (3, 10, 10))
    assert (found[..., 1:-1] == np.array([255, 0, 0], np.uint8)[:, None, None]).all()
    assert (found[0][:, [0, -1]] > 200).all()
    column = Image.new("RGB", (20, 40), "blue")
    column.paste("red", (0, 10, 20, 30))
    assert np.array_equal(decode_and_fit(file_of(column), "it", (3, 10, 10)), found.transpose(0, 2, 1))


def test_scaling_averages_what_it_covers() -> None:
    """Halving 4 x 4 pixels by bilinear interpolation with antialiasing, against its weights by hand."""
    pixels = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)
    weights = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7  # a triangle of twice the width, cut off at the edge
    expected = weights @ pixels @ weights.T
    found = decode_and_fit(file_of(Image.fromarray(pixels)), "it", (1, 2, 2))[0]
    assert np.abs(found - expected).max() <= 1


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_to_nearly_the_same() -> None:
    angles = np.linspace(0, 6, 960)[:, None, None] + np.linspace(0, 4, 960)[:, None] + np.arange(3)
    smooth = Image.fromarray((127 + 120 * np.sin(angles)).astype(np.uint8))
    jpeg, png = (file_of(smooth, form) for form in ("JPEG", "PNG"))
    difference = decode_and_fit(jpeg, "it", (3, 60, 60)).astype(int) - decode_and_fit(png, "it", (3, 60, 60))
    assert np.abs(difference).max() <= 4


def png_of(header: bytes, pixels: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    chunks = {b"IHDR": header, b"IDAT": zlib.compress(pixels), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks.items())


def bomb(width: int, height: int) -> bytes:
    return png_of(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), bytes(10**6))


@pytest.mark.parametrize("side", [8193, 12_000, 60_000, 2_000_000_000])
def test_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(UserError, match=r"^it (states|cannot be decoded)"):
        decode_and_fit(bomb(side, side), "it", SHAPE)
    assert LARGEST_PIXELS == 8192**2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_refused(form: str) -> None:
    whole = file_of(picture(64, 64), form)
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(UserError, match=r"^it cannot be decoded"):
            decode_and_fit(whole[: int(part * len(whole))], "it", SHAPE)


NO_IMAGES = {
    "empty": b"",
    "html": b"<html>not found</html>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run",
    "start of a JPEG": b"\xff\xd8\xff\xe0",
    "zeros": b"GIF89a" + bytes(20),
}


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^it cannot be decoded"):
        decode_and_fit(content, "it", SHAPE)


def deep_png(colour_type: int, channels: int) -> bytes:
    """A PNG of 8 x 6 pixels with 16 bits a channel, each row after the number of its filter, 0."""
    return png_of(struct.pack(">IIBBBBB", 6, 8, 16, colour_type, 0, 0, 0), bytes(8 * (1 + 6 * 2 * channels)))


def deep_tiff(planar: int) -> bytes:
    """A TIFF of 8 x 6 pixels in 3 x 16 bits, side by side (1) or a colour after another (2)."""
    strips = 1 if planar == 1 else 3
    size, after = 8 * 6 * 3 * 2 // strips, 8 + 2 + 10 * 12 + 4
    pixels = after + 3 * 2 + 2 * 4 * strips
    lists = {258: after, 273: after + 6, 279: after + 6 + 4 * strips}  # where values of more than 4 bytes are
    whole = {273: pixels, 279: size} if strips == 1 else {}
    entries = [(256, 3, 1, 6), (257, 3, 1, 8), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, strips, 0)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 8), (279, 4, strips, 0), (284, 3, 1, planar)]
    directory = b"".join(struct.pack("<HHII", *e[:3], e[3] or {**lists, **whole}[e[0]]) for e in entries)
    places = struct.pack(
        f"<3H{2 * strips}I", 16, 16, 16, *range(pixels, pixels + strips * size, size), *[size] * strips
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + places + bytes(size * strips)


DEEP = {
    "grey": file_of(Image.fromarray(np.zeros((8, 6), np.uint16))),
    "rgb": deep_png(2, 3),
    "grey_alpha": deep_png(4, 2),
    "rgb_alpha": deep_png(6, 4),
    "tiff": deep_tiff(1),
    "tiff_planes": deep_tiff(2),
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_more_than_8_bits_are_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^it has more than 8 bits a channel"):
        decode_and_fit(content, "it", SHAPE)


def test_a_bmp_of_5_bits_a_colour_is_read() -> None:
    """Red, green and blue have 5 bits each in the 16 of a pixel."""
    header = struct.pack("<IiiHHIIiiII", 40, 6, 8, 1, 16, 0, 6 * 8 * 2, 0, 0, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 54 + 96, 0, 0, 54) + header + b"\x1f\x00" * 48
    assert np.array_equal(decode_and_fit(content, "it", SHAPE)[:, 0, 0], [0, 0, 255])


def test_another_size_is_refused_where_nothing_is_to_be_scaled() -> None:
    with pytest.raises(UserError, match=r"^it is 7 x 8 pixels, but data\.image_shape asks for 6 x 8"):
        decode(file_of(picture(8, 7)), "it", SHAPE)


def test_the_index_leads_to_images_of_any_size(make_job: Make) -> None:
    sizes = np.random.default_rng(0).integers(6, 90, (600, 2))
    images = [EncodedImage(file_of(picture(*size, seed=row)), row % 4, f"{row}") for row, size in enumerate(sizes)]
    job = make_job("pools", "sizes-0123456789")
    fill(job, images, publish=True)
    opened = open_pool(job.directory).images
    assert isinstance(opened, encoded_pool.EncodedImages)
    assert [opened.encoded(row) for row in range(600)] == [image.encoded for image in images]
    assert Path(job.directory / "images.parquet" / "00000.parquet").stat().st_size < 2**27
