"""A seeded walk over damage that nobody thought of: no crash, no hang, one line each."""

import random
from pathlib import Path
from typing import Any

import numpy as np

from c4c.core.records import Clip
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request

SOURCES: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "pieces.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "h264.mkv": {},
    "lossless.mkv": {"codec": "ffv1", "pixel": "yuv444p"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "h264.ts": {},
    "part2.avi": {"codec": "mpeg4"},
    "jpeg.avi": {"codec": "mjpeg", "pixel": "yuvj420p"},
    "gif.gif": {"codec": "gif", "pixel": "rgb8"},
    "flv.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2", "kind": "asf"},
    "prores.mov": {"codec": "prores_ks", "pixel": "yuv422p10le"},
    "mpeg2.mpg": {"codec": "mpeg2video", "kind": "mpeg", "rate": 25},
}
EACH = 12


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with bytes changed, removed, put in, zeroed or copied, often in the headers."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        place = chance.randrange(min(len(found), chance.choice([64, 600, len(found)])))
        size = chance.randrange(1, 64)
        number = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\0\0\0\1"])
        other = chance.randrange(len(found))
        end, into = chance.choice(
            [
                (place + 1, bytes([chance.randrange(256)])),
                (place + size, b""),
                (place, chance.randbytes(size)),
                (place + size, bytes(size)),
                (place + 4, bytes(found[other : other + 4])),
                (place + 4, number),
            ]
        )
        found[place:end] = into
        found = found or bytearray(b"x")
    return bytes(found)


def test_no_mutation_of_a_video_gives_anything_but_a_line(films: Any) -> None:
    chance = random.Random(0)
    draw = np.random.default_rng(0)
    clips = []
    for name, settings in SOURCES.items():
        data = films.make(
            name, **settings, draw=lambda _: draw.integers(0, 255, (48, 64, 3), np.uint8)
        ).read_bytes()
        for number in range(EACH):
            path = films.root / f"{number} {name}"
            path.write_bytes(mutated(data, chance))
            clips.append(Clip(path.name, str(path)))
    seen = set()
    for place, done in decode_many(clips, Request(fps=2, max_frames=100), deadline=60):
        seen.add(done.status)
        assert not any(word in done.message for word in ("died", "deadline", "Traceback"))
        assert "\n" not in done.message and str(Path(films.root)) not in done.message
        assert (done.status == "ok") == (not done.message), clips[place].id
        assert (len(done.frames) > 0) == (done.status in ("ok", "partial"))
        assert (np.diff(done.frames.times) > 0).all()
    assert seen == {"ok", "partial", "corrupt", "failed"}
