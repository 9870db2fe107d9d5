"""Manifests: what they hold, and that one which belongs to other pools is refused."""

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.cli.main import main
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.core.paths import STORE_NAME
from robustprune.images.pool import Pool, PoolInfo
from robustprune.pruning.candidates import Candidates
from robustprune.pruning.facts import Facts, Rows, count_kept
from robustprune.pruning.manifest import MANIFEST_FILE, read_manifest, read_metadata, read_rows, write_manifest
from robustprune.pruning.overlap import agreement, compare_manifests
from robustprune.pruning.prune import ManifestStage
from robustprune.pruning.radius import RadiusSettings
from robustprune.pruning.settings import DropShare, Per, Strategy
from robustprune.scores.distribution import Histogram
from robustprune.scores.store.writer import StoreWriter


def pool(count: int, digest: str) -> Pool:
    info = PoolInfo(
        dataset="toy",
        source="test",
        classes=3,
        image_shape=(1, 4, 4),
        count=count,
        class_counts=(count, 0, 0),
        digest=digest,
    )
    return Pool(np.zeros((count, 1, 4, 4), np.uint8), np.arange(count, dtype=np.int16) % 3, info)


POOLS = {"toy-train-0000000000": pool(10, "a" * 64), "toy-generated-1111111111": pool(20, "b" * 64)}


OTHER_POOLS = {**POOLS, "toy-train-0000000000": pool(10, "c" * 64)}


def rows(**columns: Any) -> Rows:
    content = {
        "pool": ([0, 0, 1, 1], np.int32),
        "index": ([2, 7, 3, 19], np.int64),
        "label": ([2, 1, 0, 1], np.int16),
        "score": ([-0.1, 0.3, 0.2, 0.1], np.float32),
        "epsilon": ([-0.1, 0.1, 0.1, 0.1], np.float32),
    }
    arrays: dict[str, Any] = {}
    for name, (values, dtype) in content.items():
        chosen = columns.get(name, values)
        arrays[name] = None if chosen is None else np.array(chosen, dtype)
    return Rows(**arrays)


def facts(content: Rows) -> Facts:
    labels = np.concatenate([pool.labels for pool in POOLS.values()])
    candidates = Candidates(pools=tuple(POOLS), first=(0, 0), counts=(10, 20), labels=labels)
    return count_kept(candidates, [content], 0.1)


def write(folder: Path, content: Rows | None = None, pools: dict[str, Pool] = POOLS, **spec: str) -> Path:
    content = content or rows()
    folder.mkdir(exist_ok=True)
    write_manifest(folder / MANIFEST_FILE, [content], pools=pools, spec=spec, facts=facts(content))
    return folder


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    kept = read_manifest(write(tmp_path), POOLS)
    rows, radii = kept["toy-train-0000000000"]
    assert rows.tolist() == [2, 7]
    np.testing.assert_allclose(radii, [-0.1, 0.1])
    assert kept["toy-generated-1111111111"][0].tolist() == [3, 19]


def test_a_manifest_is_readable_without_our_code(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path) / MANIFEST_FILE)
    assert table.column_names == ["pool", "index", "label", "score", "epsilon"]
    assert table.to_pandas()["pool"].tolist() == ["toy-train-0000000000"] * 2 + ["toy-generated-1111111111"] * 2
    metadata = json.loads(table.schema.metadata[b"robustprune"])
    assert metadata["facts"]["kept_by_class"] == {"0": 1, "1": 2, "2": 1}
    assert metadata["pools"] == {"toy-train-0000000000": "a" * 64, "toy-generated-1111111111": "b" * 64}


def test_a_manifest_is_a_data_set_of_hugging_face(tmp_path: Path) -> None:
    from datasets import Dataset

    path = write(tmp_path) / MANIFEST_FILE
    loaded = Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    expected = pd.read_parquet(path)
    pd.testing.assert_frame_equal(loaded.to_pandas(), expected.astype({"pool": "str"}), check_dtype=False)
    assert {name: feature.dtype for name, feature in loaded.features.items()} == {
        "pool": "string",
        "index": "int64",
        "label": "int16",
        "score": "float32",
        "epsilon": "float32",
    }


def test_what_is_kept_is_counted_by_pool_class_and_radius() -> None:
    found = facts(rows())
    assert (found.images, found.kept, found.dropped, found.share_kept) == (30, 4, 26, 4 / 30)
    assert found.kept_by_pool == {"toy-train-0000000000": 2, "toy-generated-1111111111": 2}
    assert found.dropped_by_pool == {"toy-train-0000000000": 8, "toy-generated-1111111111": 18}
    assert found.dropped_by_class == {"0": 10, "1": 8, "2": 8}
    assert found.kept_with_negative_radius == 1
    assert found.epsilon_histogram == Histogram(width=0.0125, first=-8, counts=(1, *[0] * 14, 3))


def test_a_manifest_for_other_pools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was made for the pools"):
        read_manifest(write(tmp_path), OTHER_POOLS)


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("index", [2, 10, 3, 19], "at most 9"),
        ("index", [2, 2, 3, 19], "each once"),
        ("index", [7, 2, 3, 19], "rise from 0"),
        ("label", [2, 1, 1, 1], "1 labels differ"),
        ("epsilon", [0.1, np.nan, 0.1, np.inf], "2 values of epsilon are not finite"),
    ],
)
def test_rows_that_no_pool_has_are_refused(tmp_path: Path, column: str, values: list[float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_manifest(write(tmp_path, rows(**{column: values})), POOLS)


def test_a_row_may_come_twice_where_images_are_drawn_with_replacement(tmp_path: Path) -> None:
    content = rows(index=[2, 2, 3, 19], label=[2, 2, 0, 1])
    kept = read_manifest(write(tmp_path, content, strategy="random_with_replacement"), POOLS)
    assert kept["toy-train-0000000000"].rows.tolist() == [2, 2]


def test_a_manifest_edited_with_pandas_is_read_and_one_with_a_strange_pool_is_not(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path) / MANIFEST_FILE)
    frame = table.to_pandas().iloc[[0, 2, 3]]

    def save() -> None:
        edited = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(edited.replace_schema_metadata(table.schema.metadata), tmp_path / MANIFEST_FILE)

    save()
    kept = read_manifest(tmp_path, POOLS)
    assert kept["toy-train-0000000000"].rows.tolist() == [2]
    assert kept["toy-generated-1111111111"].rows.tolist() == [3, 19]
    frame["pool"] = "toy-other-2222222222"
    save()
    for read in (lambda: read_manifest(tmp_path, POOLS), lambda: compare_manifests(tmp_path, tmp_path)):
        with pytest.raises(UserError, match="has rows of toy-other-2222222222"):
            read()


def test_damage_is_not_read_as_other_radii(tmp_path: Path) -> None:
    """A bit flipped in the last byte of each column; and elsewhere, where nothing may come of it but a UserError."""
    path = write(tmp_path) / MANIFEST_FILE
    content, group = path.read_bytes(), pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    first = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    ends = [start + column.total_compressed_size for start, column in zip(first, columns, strict=True)]

    def flip(place: int) -> None:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])

    for end in ends:
        flip(end - 1)
        with pytest.raises(UserError, match=r"is damaged .*CRC"):
            read_manifest(tmp_path, POOLS)
    for place in range(0, len(content), 9):
        flip(place)
        with suppress(UserError):
            read_manifest(tmp_path, POOLS)


@given(st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_agreement_against_sets(first: set[int], second: set[int]) -> None:
    found = agreement(len(first), len(second), len(first & second), 30)
    assert found.same_decision == pytest.approx(sum((i in first) == (i in second) for i in range(30)) / 30)
    assert found.of_all == pytest.approx(len(first & second) / 30)
    if first:
        assert found.of_first == pytest.approx(sum(i in second for i in first) / len(first))
    if first | second:
        assert found.jaccard == pytest.approx(len(first & second) / len(first | second))


def test_the_numbers_of_nieth_cannot_all_be_true() -> None:
    """With sets of half the images, s = q, J = q / (2 - q) and the share of all is q / 2 (papers.md, N11)."""
    found = agreement(500, 500, 335, 1000)
    assert (found.same_decision, found.of_first) == pytest.approx((0.67, 0.67))
    assert (found.jaccard, found.of_all) == pytest.approx((0.67 / 1.33, 0.335))


def test_two_manifests_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "A")
    write(tmp_path / "B", rows(index=[2, 8, 3, 19], label=[2, 2, 0, 1]))
    assert main(["show", str(tmp_path / "A"), str(tmp_path / "B")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("4 of 30 images kept")
    found = [[float(word) for word in line.split()[-2:]] for line in lines[3:7]]
    assert found == [[0.9333, 0.9333], [0.75, 0.9615], [0.6, 0.9259], [0.1, 0.8333]]
    assert lines[-2].split() == ["1", "2", "1", "0.5000", "0.2500", "-0.2500"]


def test_manifests_of_other_images_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose from other images"):
        compare_manifests(write(tmp_path / "A"), write(tmp_path / "B", pools=OTHER_POOLS))


def test_a_manifest_without_a_score_says_null(tmp_path: Path) -> None:
    path = write(tmp_path, rows(score=None)) / MANIFEST_FILE
    assert pq.read_table(path)["score"].null_count == 4
    assert read_rows(path, POOLS)[0].score is None


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path) / MANIFEST_FILE
    table = pq.read_table(path)
    for content in ("[]", '{"spec": {}, "facts": {"kept": 4}, "pools": {}}', "{", None):
        pq.write_table(table.replace_schema_metadata(content and {"robustprune": content}), path)
        with pytest.raises(UserError, match="not a readable manifest"):
            read_manifest(tmp_path, POOLS)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="not a readable manifest"):
        read_metadata(path)


SCORES = ("margin-train-2222222222", "margin-generated-3333333333")


def stage_of_margins(folder: Path, shards: list[int], length: int = 2**20) -> Path:
    """The pools, and their margins, with many ties, written in files of ``length`` rows in the order of ``shards``."""
    rng = np.random.default_rng(0)
    for number, (pool_id, score) in enumerate(zip(POOLS, SCORES, strict=True)):
        count, place = (40, 80)[number], folder / "pools" / pool_id
        place.mkdir(parents=True)
        labels = rng.integers(3, size=count).astype(np.int16)
        np.save(place / "images.npy", np.zeros((count, 1, 4, 4), np.uint8))
        np.save(place / "labels.npy", labels)
        (place / "pool.json").write_text(pool(count, "ab"[number] * 64).info.model_dump_json())
        margins = np.round(rng.normal(0.05, 0.05, count), 2).astype(np.float32)
        writer = StoreWriter(folder / "scores" / score / STORE_NAME, {"margin": "float32"}, count)
        for start in (length * shard for shard in shards if length * shard < count):
            writer.write({"margin": margins[start : start + length]}, start=start)
        meaning = {"column": "margin", "unit": "none", "easy": "high", "sign": "none"}
        writer.finish({"pool_digest": "ab"[number] * 64, "score": meaning})
    return folder


def make_manifest(folder: Path, strategy: Strategy, per: Per, groups: int | None = None) -> Path:
    job = Job(folder / "manifests" / f"{strategy}-{per}-{groups}", Execution(device="cpu"), threads=1, live=False)
    job.partial.mkdir(parents=True)
    spec = ManifestStage(
        pools=tuple(POOLS),
        scores=SCORES,
        margins=SCORES,
        difficulties=(),
        strategy=strategy,
        drop=DropShare(shares=(0.3,)),
        per=per,
        radius=RadiusSettings(rule="margin", epsilon=Fraction(8, 255), gap=Fraction(0)),
        validation_images=3,
        seed=1,
    )
    spec.run(job)
    return job.directory / MANIFEST_FILE


@pytest.mark.parametrize("per", ["all", "class", "source"])
@pytest.mark.parametrize("strategy", ["puma", "random", "random_with_replacement"])
def test_the_order_and_size_of_shards_moves_nothing(
    strategy: Strategy, per: Per, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_manifest(stage_of_margins(tmp_path / "whole", [0]), strategy, per)
    monkeypatch.setattr("robustprune.scores.store.layout.SHARD_ROWS", 16)
    monkeypatch.setattr("robustprune.scores.store.layout.CHUNK_ROWS", 8)
    shuffled = make_manifest(stage_of_margins(tmp_path / "shuffled", [3, 0, 4, 1, 2], 16), strategy, per)
    monkeypatch.setattr("robustprune.pruning.facts.GROUP_ROWS", 7)
    in_groups = make_manifest(tmp_path / "shuffled", strategy, per, groups=7)
    assert whole.read_bytes() == shuffled.read_bytes()
    assert pq.read_metadata(in_groups).num_row_groups == -(-read_metadata(whole).facts.kept // 7)
    assert pq.read_table(in_groups).equals(pq.read_table(whole), check_metadata=True)
