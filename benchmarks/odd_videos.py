"""What c4c and its peers give of odd videos, side by side: a picture a second, as each has it.

python benchmarks/odd_videos.py [--folder FOLDER]

Makes the videos, has each tool that is installed take a picture at 0, 1, 2, … seconds up to the
end that it sees, and prints a table. ``ffmpeg`` is the binary on the path, or imageio-ffmpeg's.
"""

import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import json_option, keep  # benchmarks/figures.py

WIDTH, HEIGHT, RATE = 96, 64, 8
COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
GREY = (128, 128, 128)
Pictures = Sequence[Any]


def picture(second: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """The colour of a second, with a white block at the top left: [H, W, 3]."""
    drawn = np.full((height, width, 3), COLOURS[second % 4], np.uint8)
    drawn[: height // 2, : width // 4] = 250
    return drawn


def write(path: Path, tracks: Sequence[dict[str, Any]], sound: float = 0.0) -> None:
    """A file with video tracks, under so many seconds of silence."""
    import av

    packets: list[Any] = []
    with av.open(str(path), "w") as file:
        for track in tracks:
            packets += _track(file, **track)
        if sound:
            packets += _silence(file, sound)
        for packet in sorted(packets, key=lambda one: float(one.dts * one.time_base)):
            file.mux(packet)


def _track(
    file: Any,
    codec: str = "libx264",
    times: Sequence[float] = tuple(n / RATE for n in range(4 * RATE)),
    last: float = 1 / RATE,
    aspect: Fraction = Fraction(1),
    default: bool | None = None,
    still: bool = False,
    transfer: int = 2,
) -> Iterator[Any]:
    import av

    options = {"bf": "0"} if codec == "libx264" else {}
    stream: Any = file.add_stream(codec, rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.codec_context.time_base = base = Fraction(1, 1000)
    if codec == "ffv1":
        stream.codec_context.time_base = base = Fraction(1, RATE)
    stream.codec_context.sample_aspect_ratio = aspect
    stream.codec_context.color_trc = transfer
    if default is not None:
        stream.disposition = av.stream.Disposition(int(default))
    packets: list[Any] = []
    for time in times[:1] if still else times:
        drawn = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8) if still else picture(int(time))
        frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
        frame.pts, frame.time_base = round(time / base), base
        packets += stream.encode(frame)
    packets += stream.encode()
    final = max(packets, key=lambda packet: packet.pts)
    final.duration = round(last / final.time_base)
    yield from packets


def _silence(file: Any, seconds: float) -> Iterator[Any]:
    import av

    stream: Any = file.add_stream("mp2" if file.format.name == "mpeg" else "aac", rate=48000)
    stream.layout = "mono"
    for start in range(0, int(48000 * seconds), 1024):
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 48000, start
        yield from stream.encode(frame)
    yield from stream.encode()


def matrix(path: Path, values: tuple[int, int, int, int]) -> None:
    """Give an MP4 another display matrix: its a, b, c and d."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (one << 16 for one in values)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Keep 60 % of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def without_program(path: Path) -> None:
    """Take the packets of the first stream out of a transport stream."""
    data = path.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    kept = [one for one in packets if int.from_bytes(one[1:3], "big") & 0x1FFF != 0x100]
    path.write_bytes(b"".join(kept))


def twice(path: Path) -> None:
    """Two recordings in one file, whose time stamps begin anew."""
    path.write_bytes(path.read_bytes() * 2)


@dataclass(frozen=True)
class Kind:
    """A kind of video.

    Attributes:
        name: in words; ``file`` is what it is written to.
        tracks: settings of ``_track``.
        right: seconds whose pictures are on display at 0, 1, 2, … seconds.
        size: width and height as it is shown.
        sound: seconds of silence.
        change: what is done to the file afterwards.
        turned: how the picture lies, as matrix.
        starts: second of the file at which the first picture is asked for.
    """

    name: str
    file: str
    tracks: tuple[dict[str, Any], ...] = ({},)
    right: tuple[int, ...] = (0, 1, 2, 3)
    size: tuple[int, int] = (WIDTH, HEIGHT)
    sound: float = 0.0
    change: Callable[[Path], None] | None = None
    turned: tuple[int, int, int, int] = (1, 0, 0, 1)
    starts: float = 0.0


SLIDES = {"times": (0.0, 0.5, 1.0), "last": 7.0}
WIDE = {"aspect": Fraction(4, 3)}
STILL: dict[str, Any] = {"still": True}
KINDS = [
    Kind("plain", "plain.mp4"),
    Kind("variable rate", "vary.mkv", ({"times": (0, 0.1, 0.9, 1.05, 1.8, 2.5, 2.9, 3.1)},),
         (0, 0, 1, 2)),
    Kind("sound outlasts the picture", "sound.mkv", sound=12.0),
    Kind("sound outlasts the picture", "sound.flv", ({"codec": "flv"},), sound=12.0),
    Kind("last picture stays 7 s", "slides.mp4", (SLIDES,), (0, *[1] * 7)),
    Kind("last picture stays 7 s", "slides.mkv", (SLIDES,), (0, *[1] * 7)),
    Kind("pixels of 4:3", "wide.mp4", (WIDE,), size=(128, HEIGHT)),
    Kind("pixels of 4:3", "wide.mkv", (WIDE,), size=(128, HEIGHT)),
    Kind("turned", "turned.mp4", size=(HEIGHT, WIDTH), turned=(0, 1, -1, 0)),
    Kind("pixels of 4:3, turned", "both.mp4", (WIDE,), size=(HEIGHT, 128), turned=(0, 1, -1, 0)),
    Kind("mirrored", "mirror.mp4", turned=(-1, 0, 0, 1)),
    Kind("upside down and mirrored", "flip.mp4", turned=(1, 0, 0, -1)),
    Kind("a still first", "still.mkv", (STILL, {})),
    Kind("default track second", "second.mp4", ({"default": False, "times": (2.0,)},
                                                {"default": True})),
    Kind("first program without packets", "program.ts", ({}, {}), change=without_program),
    Kind("cut in its third second", "cut.avi", ({"codec": "ffv1"},), (0, 1), change=cut),
    Kind("two recordings in one", "twice.ts", right=(0, 1, 2, 3) * 2, change=twice),
    Kind("picture begins after 2 s, from 3.5 s on", "late.mp4",
         ({"times": tuple(2 + n / RATE for n in range(4 * RATE))},), (3, 0, 1), sound=6.0,
         starts=3.5),
    Kind("HDR (PQ)", "hdr.mp4", ({"transfer": 16},)),
]  # fmt: skip


def make(folder: Path) -> None:
    """Write every kind."""
    for kind in KINDS:
        path = folder / kind.file
        write(path, kind.tracks, kind.sound)
        if kind.turned != (1, 0, 0, 1):
            matrix(path, kind.turned)
        if kind.change:
            kind.change(path)


def by_c4c(path: Path, starts: float) -> tuple[Pictures, str]:
    """c4c: a clip, and what it says."""
    from c4c.core.records import Clip
    from c4c.extract.video.decode import decode_clip

    done = decode_clip(Clip("x", str(path), starts))
    words = "" if (done.status, done.message) == ("ok", "") else f"{done.status}, {done.message}"
    return list(done.frames.pixels), words


def by_ffmpeg(path: Path, starts: float) -> tuple[Pictures, str]:
    """The binary: ``-vf fps=1`` with rounding up, which shows what is on display."""
    seek = ["-ss", str(starts)] if starts else []
    command = [_ffmpeg(), "-v", "error", *seek, "-i", str(path), "-vf", "fps=1:round=up"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-"]
    data = subprocess.run(command, capture_output=True, timeout=60).stdout
    pictures = []
    while data:
        _, size, _, rest = data.split(b"\n", 3)
        width, height = map(int, size.split())
        pictures.append(np.frombuffer(rest[: width * height * 3], np.uint8))
        pictures[-1] = pictures[-1].reshape(height, width, 3)
        data = rest[width * height * 3 :]
    return pictures, ""


def _ffmpeg() -> str:
    if path := shutil.which("ffmpeg"):
        return path
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def by_torchcodec(path: Path, starts: float) -> tuple[Pictures, str]:
    """``VideoDecoder.get_frame_played_at``, from the stream's first second on."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC")
    about = decoder.metadata
    first = starts or about.begin_stream_seconds
    times = np.arange(first, about.end_stream_seconds - 1e-6, 1.0)
    return [decoder.get_frame_played_at(time).data.numpy() for time in times], ""


def by_decord(path: Path, starts: float) -> tuple[Pictures, str]:
    """``VideoReader``, by its time stamps."""
    import decord

    reader = decord.VideoReader(str(path))
    stamps = reader.get_frame_timestamp(range(len(reader)))
    times = np.arange(starts or stamps[0, 0], stamps[-1, 1] - 1e-6, 1.0)
    places = np.maximum(np.searchsorted(stamps[:, 0], times + 1e-6, "right") - 1, 0)
    return list(reader.get_batch(places.tolist()).asnumpy()), ""


def by_opencv(path: Path, starts: float) -> tuple[Pictures, str]:
    """``VideoCapture``, read to the end, by ``CAP_PROP_POS_MSEC``."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    frames, times = [], []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(frame[..., ::-1])
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    if not frames:
        return [], ""
    step = 1 / (capture.get(cv2.CAP_PROP_FPS) or RATE)
    wanted = np.arange(starts or times[0], times[-1] + step - 1e-6, 1.0)
    places = np.maximum(np.searchsorted(times, wanted + 1e-6, "right") - 1, 0)
    return [frames[place] for place in places], ""


TOOLS: dict[str, tuple[str, Callable[[Path, float], tuple[Pictures, str]]]] = {
    "c4c": ("av", by_c4c),
    "ffmpeg": ("", by_ffmpeg),
    "torchcodec": ("torchcodec", by_torchcodec),
    "decord2": ("decord2", by_decord),
    "OpenCV": ("opencv-python-headless", by_opencv),
}


def verdict(kind: Kind, pictures: Pictures, words: str) -> str:
    """What is wrong with the pictures of a kind; what the tool said, in brackets."""
    wrong = []
    if len(pictures) != len(kind.right):
        wrong.append(f"{len(pictures)} of {len(kind.right)} pictures")
    if len(pictures):
        height, width = np.shape(pictures[0])[:2]
        if (width, height) != kind.size:
            wrong.append(f"{width} x {height} for {kind.size[0]} x {kind.size[1]}")
        if not all(map(_shows, pictures, kind.right)):
            wrong.append("other content")
        if _white(pictures[0]) != _expected_white(kind):
            wrong.append("lies wrongly")
    said = f" [{words}]" if words else ""
    return (", ".join(wrong) or "right") + said


def _shows(drawn: Any, second: int) -> bool:
    inner = np.asarray(drawn, float)
    colours = inner[inner.min(2) < 200]  # without the white block
    close = np.abs(np.median(colours, 0) - COLOURS[second % 4]).max() < 40 if len(colours) else 0
    return bool(close)


def _white(drawn: Any) -> tuple[bool, bool]:
    """Whether the white block lies to the right, and at the bottom."""
    ys, xs = np.nonzero(np.asarray(drawn).min(2) > 200)
    height, width = np.shape(drawn)[:2]
    return bool(len(xs) and xs.mean() > width / 2), bool(len(ys) and ys.mean() > height / 2)


def _expected_white(kind: Kind) -> tuple[bool, bool]:
    a, b, c, d = kind.turned  # the block lies at (-1, -1), from the middle
    return -a - c > 0, -b - d > 0


def _verdicts(tool: str, folder: Path) -> list[str]:
    lines = []
    for kind in KINDS:
        try:
            pictures, words = TOOLS[tool][1](folder / kind.file, kind.starts)
            lines.append(verdict(kind, pictures, words))
        except ImportError as error:
            return [f"not installed ({error.name})"] * len(KINDS)
        except Exception as error:
            lines.append(f"{type(error).__name__}")
    return lines


def _named(tool: str) -> str:
    try:
        if tool != "ffmpeg":
            return f"{tool} {version(TOOLS[tool][0])}" if tool != "c4c" else "c4c"
        words = subprocess.run([_ffmpeg(), "-version"], capture_output=True, text=True).stdout
        return " ".join(words.split()[:3]).replace(" version", "").partition("-")[0]
    except (PackageNotFoundError, ImportError):
        return tool


@click.command()
@json_option
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the videos there.")
@click.option("--tool", type=click.Choice(list(TOOLS)), help="Ask this one, as JSON.")
def main(folder: Path | None, tool: str | None) -> None:
    """Print what each tool gives of each kind of video."""
    if tool and folder:
        print(json.dumps(_verdicts(tool, folder)))
        return
    folder = folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    make(folder)
    columns = []
    for name in TOOLS:  # a process each: their copies of FFmpeg do not get along
        command = [sys.executable, __file__, "--folder", str(folder), "--tool", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        lines = done.stdout.strip().splitlines()
        columns.append(json.loads(lines[-1]) if lines else ["crashed"] * len(KINDS))
    print("| video | " + " | ".join(map(_named, TOOLS)) + " |")
    print("| --- |" + " --- |" * len(TOOLS))
    for kind, *cells in zip(KINDS, *columns, strict=True):
        keep({"video": kind.file, **dict(zip(map(_named, TOOLS), cells, strict=True))})
        print(f"| {kind.name} (`{kind.file}`) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
