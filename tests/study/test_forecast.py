"""``c4c study --dry-run``: what would run, what is there, and what it would take."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.study.config import StudyConfig
from c4c.study.forecast import forecast_study

WORDS = 'settings = {{ epochs = 1, batch = 16, max_frames = 4 }}\nmode = "{mode}"\n[grid]\n{grid}\n'


@pytest.fixture(autouse=True)
def here(
    tmp_path_factory: pytest.TempPathFactory, made: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    for mode, grid in (("cached", 'head = ["meanP", "seqLSTM"]'), ("e2e", 'head = ["meanP"]')):
        (here / f"{mode}.toml").write_text(WORDS.format(mode=mode, grid=grid))
    (here / "c4c.toml").write_text(f'[datasets.shapes]\nroot = "{made}"\n')
    return here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, Recipe(seed=5, train=32, val=8, test=8))
    return root


def study(name: str, *words: str) -> str:
    command = ["study", name, "--dataset", "shapes", "--workers", "1", "--device", "cpu", *words]
    done = CliRunner().invoke(group, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def listing(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "state" not in path.parts}


@pytest.mark.shows("study", "--dry-run")
def test_a_dry_run_says_what_is_there_and_what_is_not_and_does_nothing(here: Path) -> None:
    before = listing(here)
    words = study("cached.toml", "--seeds", "2", "--dry-run")
    assert listing(here) == before
    assert words.startswith("study cached: 0 of 4 runs are done in c4c-studies/cached\n")
    row = next(line for line in words.split("\n") if line.startswith("shapes features")).split()
    assert row[2:6] == ["48", "48", "384", "0.1"]  # clips, missing, frames of 8 seconds, MB
    assert "of 4 runs only a step was timed" in words  # no run of the kind was done yet

    study("cached.toml", "--slice", "1/2")
    words = study("cached.toml", "--seeds", "2", "--dry-run")
    assert "1 of 4 runs are done" in words
    states = [line.split()[1:] for line in words.split("\n") if line.startswith("shapes_head")]
    assert [own[0] for own in states] == ["to", "done", "to", "to"]
    row = next(line for line in words.split("\n") if line.startswith("shapes features")).split()
    assert row[2:5] == ["48", "0", "0"]
    assert "of 2 runs only a step was timed" in words  # seqLSTM is known by its other seed
    assert "not known" not in words


def test_time_follows_epochs_and_devices(here: Path) -> None:
    study("cached.toml", "--slice", "1/2")

    def spent(*devices: str, epochs: int = 1) -> float:
        config = StudyConfig(
            name="cached.toml", datasets=("shapes",), seeds=3, settings={"epochs": epochs},
            devices=devices,
        )  # fmt: skip
        takes = [one.takes for one in forecast_study(config).todo]
        known = [one.seconds for one in takes if one and not one.tried]
        assert known
        return sum(known) / len(known)

    assert spent("cpu", epochs=10) == pytest.approx(10 * spent("cpu"))
    assert (
        forecast_study(
            StudyConfig(name="cached.toml", datasets=("shapes",), seeds=3, devices=("cpu", "cpu"))
        ).devices
        == 2
    )


def test_end_to_end_needs_frames_and_those_of_the_cache_are_there(here: Path) -> None:
    words = study("e2e.toml", "--dry-run")
    row = next(line for line in words.split("\n") if line.startswith("shapes frames")).split()
    # train and val; four frames of 3 x 64 x 64 bytes each
    assert row[2:6] == ["40", "40", "160", f"{160 * 3 * 64 * 64 / 1e6:.1f}"]
    assert not (here / "c4c-cache").exists()
    study("e2e.toml")
    words = study("e2e.toml", "--seeds", "2", "--dry-run")
    row = next(line for line in words.split("\n") if line.startswith("shapes frames")).split()
    assert row[2:5] == ["40", "0", "0"]
    size = int(next(line for line in words.split("\n") if line.startswith("disk")).split()[2][0])
    assert size >= 1  # a run leaves its checkpoints


def test_a_synthetic_dataset_is_not_made_by_asking(here: Path) -> None:
    (here / "c4c.toml").unlink()
    words = study("cached.toml", "--dry-run")
    assert "shapes videos: made first" in words
    assert "not counted, as nothing is known of them: 2 runs, 1 of what is needed" in words
    assert not (here / "c4c-data").exists()


def test_a_post_pretraining_that_comes_first_is_named(here: Path) -> None:
    (here / "both.toml").write_text(
        'mode = "e2e"\nsettings = { head = "meanP", epochs = 1, batch = 16, max_frames = 4 }\n'
        '[grid]\npost_pretrain = [true]\n[pretrain]\ndataset = "shapes"\nepochs = 1\n'
    )
    words = study("both.toml", "--backbone", "tiny", "--dry-run")
    assert "post-pretraining: made first" in words
    assert "shapes frames" in words
