"""Videos with something wrong: a status, one line that says why, the good frames and no other."""

import os
import socket
import struct
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video.decode import Decoded, decode_clip
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request

DEADLINE = 60.0  # seconds; none takes one
KEY = "00112233445566778899aabbccddeeff"
INTRA = {"g": "4", "bf": "0"}


def noise(films: Any, seed: int) -> Any:
    """Pictures that compress badly, so that frames lie far apart in the file."""
    draw = np.random.default_rng(seed)
    return lambda time: np.clip(
        np.array(films.colour(int(time))) + draw.integers(-25, 26, (48, 64, 3)), 0, 255
    ).astype(np.uint8)


def filled(data: bytearray, tag: bytes, content: bytes) -> None:
    """Fill an MP4 box with something else."""
    start = data.index(tag) + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0] - 8
    data[start : start + size] = (content * size)[:size]


def put(data: bytearray, tag: bytes, offset: int, content: bytes) -> None:
    """Write over what lies ``offset`` behind each ``tag``."""
    place = data.find(tag)
    assert place >= 0
    while place >= 0:
        data[place + offset : place + offset + len(content)] = content
        place = data.find(tag, place + len(tag))


def share(part: float) -> Any:
    """Cuts the end off."""
    return lambda data: data[: int(len(data) * part)]


def flipped(data: bytearray) -> None:
    """Some bytes in the middle are other ones."""
    for place in range(len(data) // 2, len(data) // 2 + 300):
        data[place] ^= 0x5A


def stretched(data: bytearray) -> None:
    """Matroska's Duration, a float of eight bytes, is ten times as long."""
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 10 * struct.unpack(">d", data[at : at + 8])[0])


def build(films: Any) -> None:
    """Every file of ``EXPECTED``."""
    drawn = {"draw": noise(films, 0), "options": INTRA}
    for name in ("a.mp4", "a.mkv", "a.ts"):
        films.make(name, **drawn)
    films.make("fast.mp4", container={"movflags": "faststart"}, **drawn)
    films.make("a.webm", "libvpx-vp9", draw=noise(films, 0), options={"g": "4"})
    films.make("a.avi", "mpeg4", draw=noise(films, 0))
    films.make("mj.avi", "mjpeg", "yuvj420p")
    films.make("raw.avi", "rawvideo", "bgr24")
    films.make("a.gif", "gif", "rgb8")
    films.make("av1.mp4", "libsvtav1", draw=noise(films, 0))
    edit = films.edit
    edit("a.mp4", "no moov.mp4", share(0.5))
    edit("fast.mp4", "cut.mp4", share(0.6))
    edit("a.mkv", "cut.mkv", share(0.6))
    edit("a.webm", "cut.webm", share(0.6))
    edit("a.avi", "cut.avi", share(0.9))
    edit("a.mkv", "long.mkv", stretched)
    edit("a.mp4", "zeros.mp4", lambda data: filled(data, b"mdat", b"\0"))
    edit(
        "a.mp4", "noise.mp4", lambda data: filled(data, b"mdat", np.random.default_rng(0).bytes(99))
    )
    edit("a.mp4", "flips.mp4", flipped)
    edit("a.ts", "flips.ts", flipped)
    edit("a.webm", "flips.webm", flipped)
    edit("av1.mp4", "flips av1.mp4", flipped)
    large = struct.pack("<HH", 30000, 30000)
    edit("a.gif", "huge.gif", lambda data: put(data, b"GIF89a", 6, large))
    large = struct.pack(">HH", 30000, 30000)
    edit("mj.avi", "huge jpeg.avi", lambda data: put(data, b"\xff\xc0", 5, large))
    large = struct.pack("<II", 30000, 30000)
    edit("raw.avi", "huge.avi", lambda data: put(data, b"strf", 12, large))
    films.make("secret.mp4", container={"encryption_scheme": "cenc-aes-ctr",
               "encryption_key": KEY, "encryption_kid": KEY})  # fmt: skip
    target = films.root / "a.mp4"
    port = films.port
    lists = {
        "list.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        "hls url.mp4": f"#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "list url.mp4": f"ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/a.ts'\n",
        "sdp.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                   f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
                    'type="static" mediaPresentationDuration="PT3S"><Period><AdaptationSet '
                    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
                    f"http://127.0.0.1:{port}/a.mp4</BaseURL></Representation>"
                    "</AdaptationSet></Period></MPD>",
    }  # fmt: skip
    for name, text in lists.items():
        (films.root / name).write_text(text)
    (films.root / "folder.mp4").mkdir()
    (films.root / "device.mp4").symlink_to("/dev/zero")
    (films.root / "loop.mp4").symlink_to(films.root / "loop.mp4")


# The statuses that are right, a word of the reason, and the most seconds that are shown.
EXPECTED = {
    "no moov.mp4": ("failed", "moov atom not found", 0),
    "cut.mp4": ("partial", "frames", 2),
    "cut.mkv": ("partial", "ends early", 2),
    "cut.webm": ("partial", "ends early", 2),
    "cut.avi": ("partial", "of 3 frames", 2),
    "long.mkv": ("partial", "ends early", 4),
    "zeros.mp4": ("corrupt", "Invalid data", 0),
    "noise.mp4": ("corrupt", "Invalid data", 0),
    "flips.mp4": ("partial", "damaged", 3),
    "flips.ts": ("partial", "damaged", 3),
    "flips.webm": ("partial", "damaged", 3),
    "flips av1.mp4": ("corrupt partial", "", 3),
    "huge.gif": ("corrupt failed", "", 0),
    "huge jpeg.avi": ("corrupt failed", "30000x30000", 0),
    "huge.avi": ("corrupt failed", "", 0),
    "secret.mp4": ("failed", "is encrypted", 0),
    "list.mp4": ("failed", "not on whitelist", 0),
    "hls.mp4": ("failed", "Invalid data", 0),
    "hls url.mp4": ("failed", "Invalid data", 0),
    "list url.mp4": ("failed", "not on whitelist", 0),
    "sdp.mp4": ("failed", "not on whitelist", 0),
    "dash.mp4": ("failed", "Invalid data", 0),
    "folder.mp4": ("failed", "not a regular file", 0),
    "device.mp4": ("failed", "not a regular file", 0),
    "loop.mp4": ("failed", "symbolic links", 0),
    "never there.mp4": ("failed", "No such file", 0),
}


@pytest.fixture(scope="module")
def decoded(films: Any) -> Any:
    """What became of each, decoded one behind the other by one process."""
    listener = socket.create_server(("127.0.0.1", 0))
    films.port = listener.getsockname()[1]
    films.called = []
    threading.Thread(
        target=lambda: films.called.append(listener.accept()), daemon=True
    ).start()  # fmt: skip
    build(films)
    clips = [Clip(name, str(films.root / name)) for name in EXPECTED]
    found = dict(decode_many(clips, Request(), workers=1, deadline=DEADLINE))
    return {clip.id: found[place] for place, clip in enumerate(clips)}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_what_is_wrong_is_said_and_good_frames_are_kept(
    name: str, films: Any, decoded: dict[str, Decoded]
) -> None:
    statuses, words, most = EXPECTED[name]
    done = decoded[name]
    assert done.status in statuses.split(), done.message
    assert words in done.message
    assert done.message and "\n" not in done.message and str(films.root) not in done.message
    assert len(done.frames) <= most
    assert (len(done.frames) > 0) == (done.status == "partial")
    seconds = [min(int(time), 2) for time in done.frames.times]
    assert films.shows(done.frames.pixels, seconds) if seconds else True


def test_no_list_leads_to_the_network(films: Any, decoded: dict[str, Decoded]) -> None:
    assert {"hls url.mp4", "list url.mp4", "dash.mp4", "sdp.mp4"} <= set(decoded)
    assert films.called == []


def test_frames_after_damage_are_left_out_until_the_next_key_frame(films: Any) -> None:
    """Damage in the second second: the frames of the first and the third are as they were."""
    clean = films.make("keys.mp4", draw=noise(films, 1), options={"g": "8", "bf": "0"})

    def spoil(data: bytearray) -> None:
        start = data.index(b"mdat")
        end = start + struct.unpack(">I", data[start - 4 : start])[0]
        middle = (start + end) // 2
        data[middle - 100 : middle] = bytes(100)

    spoiled = films.edit("keys.mp4", "spoiled keys.mp4", spoil)
    before = decode_clip(Clip("x", str(clean)), Request(fps=8))
    after = decode_clip(Clip("x", str(spoiled)), Request(fps=8))
    assert (before.status, after.status) == ("ok", "partial")
    kept = np.round(after.frames.times * 8).astype(int)
    assert set(range(8)) | set(range(16, 24)) <= set(kept)
    assert len(kept) < 24
    assert np.array_equal(after.frames.pixels, before.frames.pixels[kept])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("size", [100, 3000])
def test_holes_of_zeros_are_seen_and_no_frame_that_suffers_from_them_is_kept(
    size: int, codec: str, films: Any
) -> None:
    """As a lost sector leaves them, or a download that was never finished."""
    options = {"g": "4", "bf": "2", "x265-params": "log-level=none:keyint=4"}
    options = {key: options[key] for key in (("x265-params",) if "265" in codec else ("g", "bf"))}
    clean = films.make(f"{codec}.mp4", codec, draw=noise(films, 2), options=options)
    before = decode_clip(Clip("x", str(clean)), Request(fps=8))
    assert before.status == "ok"
    data = clean.read_bytes()
    start = data.index(b"mdat")
    end = start + struct.unpack(">I", data[start - 4 : start])[0]
    for place in range(start + 2000, end - size, (end - start) // 12):
        clean.write_bytes(data[:place] + bytes(size) + data[place + size :])
        after = decode_clip(Clip("x", str(clean)), Request(fps=8))
        assert after.status != "ok"
        kept = np.round(after.frames.times * 8).astype(int)
        assert np.array_equal(after.frames.pixels, before.frames.pixels[kept]) or not len(kept)


def test_a_file_that_grows_while_it_is_read_is_not_ok(
    films: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = films.make("growing.ts", options=INTRA)
    whole = decode_clip(Clip("x", str(path)))
    monkeypatch.setattr(
        "c4c.extract.video.decode._decode_pyav", grow(path, "c4c.extract.video.decode._decode_pyav")
    )
    found = decode_clip(Clip("x", str(path)))
    assert whole.status == "ok"
    assert (found.status, "changed while" in found.message) == ("partial", True)


def grow(path: Path, name: str) -> Any:
    """The function of that name, which finds that the file has grown before it is done."""
    from c4c.extract.video import decode

    inner = getattr(decode, name.rpartition(".")[2])

    def outer(*arguments: Any) -> Any:
        with path.open("ab") as stream:
            stream.write(bytes(188))
        return inner(*arguments)

    return outer


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read_is_named_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        path.write_bytes(b"x")
        path.chmod(0)
        os.chmod(folder, 0o755)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.setuid(65534)
            os.write(writer, decode_clip(Clip("x", str(path))).message.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"Permission denied" in os.read(reader, 1000)
        os.close(reader)
        os.close(writer)
