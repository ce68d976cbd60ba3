"""What goes in and comes out of the HTTP API, as its OpenAPI description has it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Words = Annotated[str, Field(min_length=1, max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
VideoId = Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]


class Narrowed(BaseModel):
    """Which clips may answer, and how many answers there are."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    k: int = Field(10, ge=1, le=100, description="Hits at most.")
    path: Words | None = Field(None, description="Pattern of the path or name: *beach*.")
    folder: Words | None = Field(None, description="The video lies in it or below.")
    after: date | None = Field(None, description="The file was changed on this day or later.")
    before: date | None = Field(None, description="On this day or earlier.")
    longer: Seconds | None = Field(None, description="Seconds that the clip lasts at least.")
    shorter: Seconds | None = Field(None, description="At most.")
    caption: Words | None = Field(None, description="Words that a caption of it contains.")
    per_video: int | None = Field(None, ge=1, le=100, description="Hits of a video at most.")
    missing: Literal["show", "hide"] = Field("show", description="Hits without a video file.")
    gallery: Words | None = Field(None, description="Which gallery; none is the first.")


class Wanted(Narrowed):
    """What is asked, in words or by a video."""

    q: list[Words] = Field([], max_length=8, description="What hits are to show; repeatable.")
    weight: list[Annotated[float, Field(gt=0, le=1000)]] = Field(
        [], max_length=8, description="Of each q, in their order; none given is 1 each."
    )
    avoid: list[Words] = Field([], alias="not", max_length=8, description="Not to show.")
    like: VideoId | None = Field(None, description="A video that hits are to be like.")
    at: Seconds | None = Field(None, description="The second of it.")
    min_confidence: float | None = Field(None, ge=0, le=1, description="Hits below are left out.")


class Hit(BaseModel):
    """A moment that answers; ``video`` names it in other requests."""

    rank: int
    score: float
    confidence: float | None
    clip: str
    video: str
    path: str
    name: str
    start: float
    end: float | None
    best: float | None
    notes: list[str]


class Answer(BaseModel):
    """The hits, best first; ``nothing_fits``: unrelated sentences score as well as the best."""

    query: str
    gallery: str
    hits: list[Hit]
    nothing_fits: bool


class Suggestions(BaseModel):
    """Captions that go on as the words do."""

    captions: list[str]


class ClipInfo(BaseModel):
    """A clip of a video; ``status`` is ``ok``, ``partial``, ``corrupt`` or ``failed``."""

    id: str
    split: str
    start: float
    end: float | None
    captions: list[str]
    status: str
    message: str


class VideoLine(BaseModel):
    """A video in a list."""

    id: str
    name: str
    path: str
    clips: int
    status: Literal["ok", "partial", "failed"]


class VideoList(BaseModel):
    """Some of the videos, and how many there are."""

    total: int
    videos: list[VideoLine]


class VideoInfo(BaseModel):
    """A video; ``played``: browsers play its file, else ask for previews."""

    id: str
    name: str
    path: str
    gallery: str
    status: Literal["ok", "partial", "failed"]
    clips: list[ClipInfo]
    exists: bool
    played: bool
    seconds: float | None
    width: int | None
    height: int | None
    codec: str | None


class Scores(BaseModel):
    """The cosine of each frame with a question, by the second of the video."""

    seconds: list[float]
    scores: list[float]


class Problem(BaseModel):
    """A clip that is partial or has no features, and why."""

    video: str
    path: str
    clip: str
    status: str
    message: str


class GalleryInfo(BaseModel):
    """A gallery: what it holds, what failed, what made it, how far extraction is."""

    name: str
    path: str
    dataset: str
    videos: int
    clips: int
    frames: int
    captions: int
    partial: int
    failed: int
    missing: int
    problems: list[Problem]
    bytes: int
    backbone: str
    weights: str
    head: str
    shards_written: int
    shards_planned: int
    waiting_for: str
    folders: list[str]


class LibraryInfo(BaseModel):
    """All galleries; the first one answers where a request names none."""

    galleries: list[GalleryInfo]


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"]
    version: str


class Session(BaseModel):
    """What a browser sends once, to get a cookie."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=1000)


class Error(BaseModel):
    """What is wrong, and what to do."""

    error: str
