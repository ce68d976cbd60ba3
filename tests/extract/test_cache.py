"""The cache as its readers meet it: in other processes, in mid-compaction, without our code."""

import hashlib
import json
import multiprocessing
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from c4c.cache.compact import compact
from c4c.cache.head_init import save_head_init
from c4c.cache.inspect import damage
from c4c.cache.manifests import load_manifests, save_manifest
from c4c.cache.open import Cache, create_cache
from c4c.cache.plan import plan
from c4c.cache.shard import make_shard
from c4c.cache.stored import read_shard, shard_damage, write_shard
from c4c.core.errors import C4CError
from c4c.core.files import write_once
from c4c.core.records import Caption, Clip, Dataset, Fingerprint

DIM = 8


def dataset(count: int) -> Dataset:
    clips = tuple(Clip(f"clip {i:03d}", f"/videos/{i}.mp4") for i in range(count))
    captions = tuple(Caption(f"{c.id}#0", c.id, f"sentence of {c.id} ☂") for c in clips)
    return Dataset("folder", "all", clips, captions)


def fill(cache: Path, count: int, shard_clips: int = 4) -> None:
    """What an extraction of ``count`` clips leaves: number 3 of ten has failed."""
    made_by = Fingerprint("m", "w", "s", "p", "f", "d", "float32")
    owner = create_cache(cache, "folder", made_by).owner
    save_head_init(cache, {"visual_proj": torch.eye(2)}, made_by.sha256)
    manifest = plan(dataset(count), load_manifests(cache).get("all"), shard_clips)
    save_manifest(cache, manifest)
    for path, part in manifest.shards(cache):
        kind = path.parent.name
        seeds = [zlib.crc32(name.encode()) for name in part.ids]
        lengths = [seed % 5 + 1 if kind == "clips" else 1 for seed in seeds]
        failed = [kind == "clips" and name.endswith("3") for name in part.ids]
        rows = [
            np.random.default_rng(seed).standard_normal((0 if bad else n, DIM)).astype(np.float16)
            for seed, n, bad in zip(seeds, lengths, failed, strict=True)
        ]
        texts = {
            "ids": list(part.ids),
            "messages": ["no frame" * bad for bad in failed],
            "clip_ids": [name.split("#")[0] for name in part.ids],
            "texts": [f"sentence of {name}" for name in part.ids],
        }
        times = [np.arange(len(row), dtype=np.float32) for row in rows]
        status = ["failed" if bad else "ok" for bad in failed]
        write_shard(path, make_shard(kind, rows, times, status, texts, DIM), owner)


def content(cache: Path) -> dict[str, bytes]:
    clips, captions = Cache.open(cache).clips(), Cache.open(cache).captions()
    found = {name: b"".join(a.tobytes() for a in clips.read(i)) for i, name in enumerate(clips.ids)}
    found |= {failure.clip_id: failure.message.encode() for failure in clips.failed}
    return found | {c.id: captions.features[i].tobytes() for i, c in enumerate(captions.captions)}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    fill(tmp_path / "cache", 20)
    return tmp_path / "cache"


def test_any_flipped_byte_of_a_shard_is_found(cache: Path, tmp_path: Path) -> None:
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[1]
    whole, flipped = path.read_bytes(), tmp_path / "flipped.h5"
    for place in range(0, len(whole), 3):
        bad = bytearray(whole)
        bad[place] ^= 1 << place % 8
        flipped.write_bytes(bad)
        assert shard_damage(flipped), f"byte {place} of {len(whole)}"
    assert shard_damage(path) == []


@pytest.mark.parametrize("name", ["features", "times", "status", "messages_bytes", "ids_bytes"])
def test_a_flip_in_what_a_row_holds_names_its_clip(cache: Path, name: str) -> None:
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[0]
    with h5py.File(path) as file:
        place = file[name].id.get_offset() + (1 if name == "status" else 0)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    first = {"status": "clip 001", "messages_bytes": "clip 003", "ids_bytes": "blip 000"}
    assert any(f"'{first.get(name, 'clip 000')}'" in line for line in damage(cache))


def test_a_flip_in_the_tables_is_an_error_on_reading(cache: Path) -> None:
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[0]
    with h5py.File(path) as file:
        place = file["offsets"].id.get_offset()
        offsets = file["offsets"][:]
    content = bytearray(path.read_bytes())
    content[place + 8] = int(offsets[1]) + 1  # still increasing: a frame moves to its neighbour
    path.write_bytes(content)
    with pytest.raises(C4CError, match="--repair"):
        Cache.open(cache).clips()


def test_repair_sets_aside_and_what_is_redone_is_whole(cache: Path) -> None:
    before = content(cache)
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[2]
    path.write_bytes(path.read_bytes()[:-100])
    assert [line for line in damage(cache, repair=True) if "set aside" in line]
    assert not path.exists()
    assert path.with_name(path.name + ".damaged").exists()
    fill(cache, 20)
    assert list(damage(cache)) == []
    assert content(cache) == before


def test_a_changed_manifest_is_found(cache: Path) -> None:
    (path,) = (cache / "manifests").glob("*.json")
    path.write_text(path.read_text().replace("sentence of clip 004", "sentence of clip 005"))
    assert any(path.name in line for line in damage(cache))


def test_of_two_plans_made_at_once_the_first_holds(cache: Path) -> None:
    standing = load_manifests(cache)["all"]
    save_manifest(cache, plan(dataset(22), standing, 4))
    with pytest.raises(C4CError, match="same time"):
        save_manifest(cache, plan(dataset(21), standing, 4))
    assert len(load_manifests(cache)["all"].clips) == 22


def test_compaction_keeps_every_row_and_frees_the_rest(cache: Path) -> None:
    fill(cache, 30)  # ten clips were added: a second plan
    before = content(cache)
    reader = Cache.open(cache).clips()
    late = Cache.open(cache)
    assert late.manifests
    done = compact(cache, 16)
    assert (done.before, done.after) == (5 + 3 + 1 + 1, 2 + 1)
    assert content(cache) == before
    assert list(damage(cache)) == []
    assert len(list((cache / "manifests").glob("*.json"))) == 1
    # Readers that had opened the cache, or only read its plan, go on.
    assert reader.read(0)[0].tobytes() + reader.read(0)[1].tobytes() == before[reader.ids[0]]
    assert late.clips().ids == reader.ids
    again = compact(cache, 16)
    assert (again.before, again.after, again.freed) == (3, 3, 0)
    fill(cache, 32)
    assert len(Cache.open(cache).clips()) == 32 - 3


def test_compaction_cut_short_anywhere_loses_nothing(cache: Path, tmp_path: Path) -> None:
    """The process ends (as by kill -9) before its nth change to the folder."""
    before = content(cache)
    script = """
import os, sys
from pathlib import Path
left = int(sys.argv[2])
def count(event, args):
    global left
    if event in ("os.link", "os.remove"):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(count)
from c4c.cache.compact import compact
compact(Path(sys.argv[1]), 8)
"""
    for changes in range(0, 20, 3):
        done = subprocess.run([sys.executable, "-c", script, str(cache), str(changes)])
        assert content(cache) == before
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert list(damage(cache)) == []


def test_a_damaged_cache_is_not_compacted(cache: Path) -> None:
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[2]
    path.write_bytes(path.read_bytes()[:-100])
    shards = set(cache.rglob("*.h5"))
    with pytest.raises(C4CError, match=path.name):
        compact(cache, 16)
    assert set(cache.rglob("*.h5")) == shards


class Rows(torch.utils.data.Dataset[torch.Tensor]):
    """The view in a torch DataLoader."""

    def __init__(self, cache: Path) -> None:
        self.clips = Cache.open(cache).clips()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.clips.batch([index]).features[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_dataloader_processes_read_what_the_parent_reads(
    cache: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # where a spawned child finds Rows
    rows = Rows(cache)
    expected = [rows[index] for index in range(len(rows))]
    if method == "spawn":
        compact(cache, 16)  # between the parent's opening and the child's
    context = multiprocessing.get_context(method)
    loader = torch.utils.data.DataLoader(
        rows, batch_size=None, num_workers=1, multiprocessing_context=context
    )
    for found, wanted in zip(loader, expected, strict=True):
        assert torch.equal(found, wanted)


def test_more_shards_than_a_process_may_open_files(tmp_path: Path) -> None:
    fill(tmp_path / "cache", 120, shard_clips=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        assert len(Cache.open(tmp_path / "cache").clips()) == 108
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_never_come_out(tmp_path: Path, value: float) -> None:
    fill(tmp_path / "cache", 5)
    for path in (tmp_path / "cache/shards/all/clips").glob("*.h5"):
        held = read_shard(path)
        rows = [np.array(held.row(i)) for i in range(len(held.status))]
        rows[0][0, 3] = value
        made = make_shard("clips", rows, [held.seconds(i) for i in range(len(rows))],
                          ["ok"] * len(rows), held.texts, DIM)  # fmt: skip
        path.unlink()
        write_shard(path, made, Cache.open(tmp_path / "cache").owner)
    clips = Cache.open(tmp_path / "cache").clips()
    with pytest.raises(C4CError, match="'clip 000' are not finite"):
        clips.batch([1, 0])
    assert any("not finite" in line for line in damage(tmp_path / "cache"))


def change(path: Path, kind: str) -> None:
    """Put another shard, well made, where ``path`` stands."""
    held = read_shard(path)
    dim, ids = DIM, list(held.texts["ids"])
    if kind == "another width":
        dim = DIM * 2
    elif kind == "an id twice":
        ids[1] = ids[0]
    elif kind == "others' ids":
        ids = [name + "x" for name in ids]
    rows = [np.zeros((1, dim), np.float16)] * len(ids)
    texts = {**held.texts, "ids": ids, "clip_ids": ids, "texts": ids}
    made = make_shard(
        "captions" if kind == "of captions" else "clips",
        rows, [np.zeros(1, np.float32)] * len(ids), ["ok"] * len(ids), texts, dim,
    )  # fmt: skip
    path.unlink()
    write_shard(path, made, Cache.open(path.parents[3]).owner)


@pytest.mark.parametrize("kind", ["another width", "an id twice", "others' ids", "of captions"])
def test_a_shard_that_does_not_fit_is_refused(cache: Path, kind: str) -> None:
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[1]
    change(path, kind)
    with pytest.raises(C4CError, match=f"{path.name} does not fit"):
        Cache.open(cache).clips()


def test_a_copy_of_a_shard_is_never_read_and_verify_says_so(cache: Path) -> None:
    before = content(cache)
    path = sorted((cache / "shards/all/clips").glob("*.h5"))[1]
    path.with_name("part-00000009-00ff.h5").write_bytes(path.read_bytes())
    assert content(cache) == before
    assert any("part-00000009" in line for line in damage(cache))


def test_what_is_written_once_stays_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_once(tmp_path / "a", b"first", tmp_path / "tmp")
    write_once(tmp_path / "a", b"second", tmp_path / "tmp")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert list((tmp_path / "tmp").iterdir()) == []


def write_schema_1(path: Path, rows: list[np.ndarray]) -> None:
    """A shard as the first schema had it: checksums of the features alone, no trailer."""
    lengths = [len(row) for row in rows]
    blobs = {"ids": [f"clip {i}".encode() for i in range(len(rows))], "messages": [b""] * len(rows)}
    with h5py.File(path, "w") as file:
        file.attrs["schema"], file.attrs["kind"] = 1, np.bytes_("clips")
        file["features"] = np.concatenate(rows)
        file["offsets"] = np.cumsum([0, *lengths])
        file["times"] = np.zeros(sum(lengths), np.float32)
        file["crc32"] = np.array([zlib.crc32(row.tobytes()) for row in rows], np.uint32)
        file["status"] = np.zeros(len(rows), np.uint8)
        for name, blob in blobs.items():
            file[f"{name}_bytes"] = np.frombuffer(b"".join(blob), np.uint8)
            file[f"{name}_offsets"] = np.cumsum([0, *map(len, blob)])


def test_shards_of_the_first_schema_are_still_read(tmp_path: Path) -> None:
    rows = [np.full((2, DIM), i, np.float16) for i in range(3)]
    write_schema_1(tmp_path / "old.h5", rows)
    assert np.array_equal(read_shard(tmp_path / "old.h5").row(2), rows[2])
    assert shard_damage(tmp_path / "old.h5") == []
    content = bytearray((tmp_path / "old.h5").read_bytes())
    content[bytes(content).index(rows[1].tobytes())] ^= 1
    (tmp_path / "old.h5").write_bytes(content)
    assert "'clip 1'" in shard_damage(tmp_path / "old.h5")[0]


def test_the_format_is_as_its_page_says(cache: Path) -> None:
    """A reader written from cache-format.md, with h5py, numpy and the standard library."""
    newest = max((cache / "manifests").glob("all.*.json"))
    manifest = json.loads(newest.read_text())
    sealed = {name: value for name, value in manifest.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(sealed).encode() + b"\0").hexdigest()
    assert manifest["sha256"] == digest
    about = json.loads((cache / "cache.json").read_text())
    defaults = {"features": "final", "batch": None, "compiled": False}
    defaults |= {"tokenizer": "", "frames": "exact", "backend": "torch", "calibrated": ""}
    made = {
        key: value
        for key, value in about["fingerprint"].items()
        if key != "weights" and (key not in defaults or defaults[key] != value)
    }
    text = json.dumps({"dataset": about["dataset"], "fingerprint": made}, sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()
    found = {}
    for name, ids in manifest["parts"]:
        path = cache / "shards" / manifest["split"] / "clips" / name
        data = path.read_bytes()
        assert data[-8:] == b"c4cshard"
        assert data[-40:-8] == hashlib.sha256(data[:-40]).digest()
        with h5py.File(path) as file:
            assert file.attrs["schema"] == 3
            assert bytes(file.attrs["kind"]) == b"clips"
            held = {key: file[key][:] for key in file}
            start = file["features"].id.get_offset()
        head, mark = data[-136:-104], data[-104:-72]
        first, last, schema, word = struct.unpack("<QQQ8s", data[-72:-40])
        assert (schema, word) == (3, b"c4cbound")
        tables = data[:first] + data[last:-136] + data[-104:-40]
        assert head == hashlib.sha256(tables).digest()
        place = f"shards/{manifest['split']}/clips/{name}"
        assert mark == hashlib.sha256(f"{identity}\n{place}".encode()).digest()
        width = held["features"].shape[1]
        assert (first, last) == (start, start + held["features"].nbytes)
        for row in range(len(held["status"])):
            first, last = held["offsets"][row : row + 2]
            mapped = data[start + 2 * width * first : start + 2 * width * last]
            text = {}
            for column in ("ids", "messages"):
                a, b = held[f"{column}_offsets"][row : row + 2]
                text[column] = held[f"{column}_bytes"][a:b].tobytes()
            times = held["times"][first:last].tobytes()
            status = bytes([held["status"][row]])
            crc = zlib.crc32(mapped + times + status + text["ids"] + text["messages"])
            assert crc == held["crc32"][row]
            if status != b"\3" and text["ids"].decode() in ids:
                found[text["ids"].decode()] = mapped + times
    expected = content(cache)
    clips = Cache.open(cache).clips()
    assert found == {name: expected[name] for name in clips.ids}
