"""Miniatures of the real layouts: real names, separators and quirks, videos of one byte."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from c4c.core.config import DatasetSource
from c4c.extract.datasets.lsmdc import FILES


@dataclass
class Place:
    """A folder with a dataset in it."""

    root: Path

    def put(self, name: str, content: str | bytes | Any) -> Path:
        """Write a file: text, bytes, or a value as JSON."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def videos(self, *names: str) -> None:
        for name in names:
            self.put(name, b"x")

    def source(self, name: str, captions: str = "") -> DatasetSource:
        path = self.root / captions if captions else None
        return DatasetSource(name, self.root, captions=path, looked="--root")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


VIDEOS = ["video0", "video1", "video6513", "video7010", "video9770"]


def msrvtt(place: Place) -> None:
    splits = ["train", "train", "validate", "test", "test"]
    videos = [
        {
            "category": 9,
            "url": "https://www.youtube.com/watch?v=x",
            "video_id": name,
            "start time": 137.72,
            "end time": 149.44,
            "split": split,
            "id": number,
        }
        for number, (name, split) in enumerate(zip(VIDEOS, splits, strict=True))
    ]
    sentences = [
        {"caption": f"caption {number} of {name}", "video_id": name, "sen_id": number}
        for number in range(2)
        for name in VIDEOS
    ]
    data = {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}
    place.put("msrvtt_data/MSRVTT_data.json", data)
    place.put("msrvtt_data/MSRVTT_train.9k.csv", "\n".join(["video_id", *VIDEOS[:4], ""]))
    place.put("msrvtt_data/MSRVTT_train.7k.csv", "\n".join(["video_id", *VIDEOS[:3], ""]))
    row = 'ret0,msr9770,video9770,"a person is connecting something, to ""system"""'
    place.put("msrvtt_data/MSRVTT_JSFUSION_test.csv", f"key,vid_key,video_id,sentence\n{row}\n")
    place.videos(*(f"MSRVTT_Videos/{name}.mp4" for name in VIDEOS))


MSVD = {"train": "-4wsuPCjDBc_5_15", "val": "_O9kWD8nuRU_45_49", "test": "mv89psg6zh4_33_46"}
SAID = {name: [["a", "squirrel", "eats"], ["an", "animal", "eats"]] for name in MSVD.values()}


def msvd(place: Place) -> None:
    for split, name in MSVD.items():
        place.put(f"{split}_list.txt", f"{name}\n")
        place.videos(f"YouTubeClips/{name}.avi")
    place.put("raw-captions.pkl", pickle.dumps(SAID))


MOVIES = {
    "train": "0001_American_Beauty_00.00.51.926-00.00.54.129",
    "val": "1004_Juno_00.00.32.801-00.00.37.522",
    "test": "3009_BATTLE_LOS_ANGELES_00.01.08.250-00.01.13.043",
}


def lsmdc(place: Place) -> None:
    times = "00.00.51,926\t00.00.54,129\t00.00.51,926\t00.00.54,129"
    for split, name in MOVIES.items():
        place.put(FILES[split], f"{name}\t{times}\tSOMEONE takes a puff.\r\n")
        place.videos(f"videos/{name.split('.')[0][:-3]}/{name}.avi")


PARAGRAPH = {
    "duration": 82.73,
    "timestamps": [[0.83, 19.86], [17.37, 60.81]],
    "sentences": ["A woman stands in a room.", " The girl dances around the room."],
}


def activitynet(place: Place) -> None:
    place.put("train_ids.json", ["v_QOlSCBRmfWY", "v_ehGHCYKzyZ8", "v_uncaptioned"])
    place.put("val_ids.json", ["v_uqiMw7tQ1Cc"])
    place.put("train.json", {"v_QOlSCBRmfWY": PARAGRAPH, "v_ehGHCYKzyZ8": PARAGRAPH})
    place.put("val_1.json", {"v_uqiMw7tQ1Cc": PARAGRAPH, "v_unlisted": PARAGRAPH})
    place.videos("v/QOlSCBRmfWY.mp4", "v/v_ehGHCYKzyZ8.mkv", "v/uqiMw7tQ1Cc.webm")


HOLIDAY = {
    "train": ["12090392@N02_13482799053_87ef417396.mov", "54322086@N00_2408598493_274c77d26a."],
    "val": ["10015927@N08_2941739677_a4a0c8b2a6.mpg"],
    "test": ["10287332@N07_2813439026_b4d3f1b3a2.3gp"],
}


def didemo(place: Place) -> None:
    for split, names in HOLIDAY.items():
        place.put(f"{split}_list.txt", "\n".join(names) + "\n")
        rows = [
            {
                "annotation_id": number,
                "num_segments": 6,
                "description": text,
                "dl_link": "https://www.flickr.com/video_download.gne?id=1",
                "times": [[5, 5], [4, 5], [0, 99]],
                "video": name,
            }
            for number, text in enumerate(("camera zooms in\n", "man turns"))
            for name in names
        ]
        place.put(f"{split}_data.json", rows)
    place.videos(
        "videos/12090392@N02_13482799053_87ef417396.mov.mp4",
        "videos/54322086@N00_2408598493_274c77d26a",
        "videos/10015927@N08_2941739677_a4a0c8b2a6.",
        "videos/10287332@N07_2813439026_b4d3f1b3a2.mp4",
    )


VATEX = {
    "train": "i0ccSYMl0vo_000027_000037",
    "val": "-_aaMGK6GGw_000057_000067",
    "test": "G9zN5TTuGO4_000179_000189",
}


def vatex(place: Place) -> None:
    for split, name in VATEX.items():
        place.put(f"{split}_list.txt", f"{name}\n")
        place.videos(f"videos/{name}.mp4")
    said = {name: {"enCap": [f"one of {name}", "two"], "chCap": ["二"]} for name in VATEX.values()}
    place.put("vatex_data.json", said)


def howto100m(place: Place) -> None:
    place.put(
        "HowTo100M_v1.csv",
        "video_id,category_1,category_2,rank,task_id\n"
        "nVbIUDjzWY4,Cars & Other Vehicles,Motorcycles,27,52907\n",
    )
    said = {"start": [0.08, 2.37], "end": [4.0, 8.5], "text": ["hi folks", "so let's begin"]}
    place.put("caption.json", {"nVbIUDjzWY4": said})
    place.videos("videos/nVbIUDjzWY4.mp4")


def manifest(place: Place) -> None:
    place.put("train.csv", 'video_id,caption\na,"one, two"\n')
    place.put("test.jsonl", '{"video": "b.mp4", "caption": ["three", "four"]}\n')
    place.videos("videos/a.mp4", "videos/b.mp4")


BUILDERS: dict[str, Callable[[Place], None]] = {
    "msrvtt": msrvtt,
    "msvd": msvd,
    "lsmdc": lsmdc,
    "activitynet": activitynet,
    "didemo": didemo,
    "vatex": vatex,
    "howto100m": howto100m,
    "manifest": manifest,
}


@pytest.fixture
def build(place: Place) -> Callable[[str], DatasetSource]:
    """Writes the miniature of a dataset."""

    def make(name: str) -> DatasetSource:
        if name not in BUILDERS:
            pytest.fail(f"dataset '{name}' is not tested: add a miniature of it to {__file__}")
        BUILDERS[name](place)
        return place.source(name)

    return make
