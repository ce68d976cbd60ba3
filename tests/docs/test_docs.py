"""What README and docs say is so: commands parse, options and files exist, tables are the code's.

What is marked ``run`` behind its language is carried out too, by ``test_docs_run.py``.
"""

import inspect
import re
import runpy
import tomllib
from collections.abc import Iterable
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import click
import pytest
from docs_blocks import PAGES, ROOT, Block, blocks, commands, inline

from c4c import kernels
from c4c.cli.app import COMMANDS, group
from c4c.cli.defaults import default_map
from c4c.core.presets import preset_datasets
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets import DATASETS
from c4c.extract.datasets.shared import Counts
from c4c.heads import HEADS
from c4c.study.config import StudyConfig
from c4c.study.plan import plan_runs
from c4c.study.spec import built_in, make_study

SHELL = blocks("sh", "bash", "console", "")
# Commands of shells, of make and of Python that blocks use beside our own.
OTHERS = {"make", "pip", "source", "eval", "echo", "pytest", "python", "torchrun", "C4C_GOLDEN"}
# Options in sentences that are other programs'.
FOREIGN = {"--nproc-per-node", "--array"}


def below(command: click.Command) -> list[click.Command]:
    """A command and all that are below it."""
    inner = getattr(command, "commands", {}).values()
    return [command, *(one for each in inner for one in below(each))]


EVERY = [
    (text, option)
    for name in COMMANDS
    for command in below(COMMANDS[name])
    for option in command.params
    if isinstance(option, click.Option)
    for text in [*option.opts, *option.secondary_opts]
]


def leaf(words: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The command that words name, and what is left of them.

    Raises:
        click.UsageError: there is no such command.
    """
    context, command = click.Context(group, info_name="c4c"), click.Command("none")
    found: click.Command = group
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        name, inner, words = found.resolve_command(context, words)
        assert inner is not None
        found, context = inner, click.Context(inner, info_name=name, parent=context)
    command = found
    return context, command, words


def parse(words: list[str]) -> None:
    """Parse words as the command line would, without doing anything.

    Raises:
        click.UsageError: they are not what the command takes.
    """
    context, command, rest = leaf(words)
    assert not isinstance(command, click.Group), f"{words} is no whole command"
    plain = [re.sub(r"\$\w+", "0", word) for word in rest]
    command.make_context(command.name, plain, parent=context.parent)


def check_options(
    code: str,
    words: list[str],
    known: list[tuple[str, click.Option]],
    others: Iterable[str] = ("--help",),
) -> None:
    """Options that words name are among those known, and take the choices that follow them."""
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        kinds = [option.type for text, option in known if text == word]
        if not word.startswith("--") or (not kinds and word in others):
            continue
        assert kinds, f"`{code}`: no {word}"
        choices = {str(one) for kind in kinds for one in getattr(kind, "choices", ())}
        chosen = all(isinstance(kind, click.Choice) for kind in kinds) and after
        assert not chosen or set(after.split("|")) <= choices, f"`{code}`: no {word} {after}"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_in_blocks_are_those_that_there_are(block: Block) -> None:
    assert block.kind or "c4c " not in block.text, "name the language of the block: sh"
    for command in commands(block.text) if block.kind else ():
        first, *rest = command.words
        if first == "c4c":
            parse(rest)
        elif first == "make":
            assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        else:
            assert first.partition("=")[0] in OTHERS, f"{first}: no command that the docs may use"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_are_those_that_there_are(page: Path) -> None:
    """They may leave out what is required, and stand for several: ``c4c cache info|verify``."""
    for code in inline(page):
        if not code.startswith("c4c "):
            continue
        name, *rest = code.split()[1:]
        several = rest[0].split("|") if rest and "|" in rest[0] else []
        for words in [[name, one, *rest[1:]] for one in several] or [[name, *rest]]:
            if words[0] == "COMMAND":
                continue
            _, command, left = leaf([word for word in words if word != "…"])
            check_options(code, left, [pair for pair in EVERY if pair[1] in command.params])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_sentences_are_those_that_there_are(page: Path) -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    for code in inline(page):
        words = re.split(r"[ /]", code)
        if code.startswith("--"):
            others = FOREIGN | {word for word in words if f'"{word}"' in scripts}
            check_options(code, words, EVERY, others)


def leads(page: Path, link: str) -> bool:
    """Whether a link leads to a file, and to a heading in it if it names one."""
    name, _, heading = link.partition("#")
    target = page.parent / name if name else page
    if "://" in link or not heading:
        return "://" in link or target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
    return heading in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    missing = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not leads(page, link)]
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = [code for code in inline(page) if re.fullmatch(r"[\w./-]+\.(py|toml|h|c|json)", code)]
    named = [one for one in named if one.split("/")[0] in rooms and "NAME" not in one]
    missing += [one for one in named if not (ROOT / one).exists()]
    for script in re.findall(r"python (benchmarks/\S+\.py|\.ci/\S+\.py)", text):
        missing += [] if (ROOT / script).exists() else [script]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_benchmarks_are_theirs(page: Path) -> None:
    for script, rest in re.findall(r"python (benchmarks/[\w.]+)([^`\n]*)", page.read_text()):
        source = (ROOT / script).read_text()
        for option in re.findall(r"--[a-z-]+", rest):
            assert f'"{option}"' in source, f"{page.name}: {script} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_python_are_those_that_there_are(page: Path) -> None:
    """Modules and what is in them, and the arguments of the kernels."""
    for code in inline(page):
        if dotted := re.match(r"c4c(\.\w+)+", code):
            module, _, name = dotted[0].rpartition(".")
            found = import_module(module) if module != "c4c" else None
            assert found is None or hasattr(found, name) or import_module(dotted[0]), code
        called = re.fullmatch(r"(\w+)\((.*)\)", code)
        if called and called[1] in kernels.__all__:
            own = inspect.signature(getattr(kernels, called[1])).parameters
            assert set(re.findall(r"\w+(?=[,=)]|$)", called[2])) <= {*own, "…"}, code


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_tables_in_blocks_are_read(block: Block) -> None:
    content = tomllib.loads(block.text)
    if "grid" not in content:
        assert default_map(content, COMMANDS) is not None
        return
    study = make_study("mine", content)
    assert plan_runs(study, StudyConfig(name="mine", datasets=("shapes",)))


def test_every_command_and_option_is_in_the_reference() -> None:
    written = runpy.run_path(str(ROOT / ".ci/reference.py"))["page"]()
    assert (ROOT / "docs/reference/commands.md").read_text() == written, "make reference"


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``header``."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith(header))
    table = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return table


def counted(text: str) -> list[Counts]:
    """``9,000 / 180,000; 1,000 / 1,000`` as counts; ``10,009`` is a caption a clip."""
    found = []
    for part in re.sub(r"\(.*?\)", "", text).split(";"):
        cells = [cell.strip().replace(",", "") for cell in part.split("/")]
        numbers = [None if cell == "-" else int(cell) for cell in cells]
        found.append(Counts(numbers[0], numbers[-1]))
    return found


def test_the_table_of_datasets_has_every_one_with_its_counts() -> None:
    table = {row[0]: row for row in rows("howto/datasets.md", "| name |")}
    assert set(table) <= set(DATASETS)
    assert len(table) >= 10
    for name, (_, _, splits, counts) in table.items():
        expected = DATASETS[name].EXPECTED
        if not expected:
            continue
        usual = [split.strip() for split in splits.partition(";")[0].split(",")]
        assert usual == list(DATASETS[name].SPLITS)
        assert counted(counts) == [expected[split] for split in usual]


def test_the_table_of_msr_vtts_splits_is_the_loaders() -> None:
    told = {}
    for names, counts, _ in rows("howto/datasets.md", "| split |"):
        each = [name.strip() for name in names.split(",")]
        numbers = re.findall(r"[\d,]+\d / [\d,]+\d", counts)
        told |= dict(zip(each, [counted(number)[0] for number in numbers], strict=True))
    assert told == DATASETS["msrvtt"].EXPECTED


def test_heads_studies_and_presets_are_those_that_there_are() -> None:
    told = {row[0]: row[2:] for row in rows("explanation/heads.md", "| head |")}
    kinds = {name: HEADS[name] for name in told}
    assert set(told) >= {name for name, kind in HEADS.items() if kind.in_authors_code}
    yes = {True: "yes", False: "no"}
    assert told == {name: [yes[k.sees_order], yes[k.loose]] for name, k in kinds.items()}
    study = (ROOT / "docs/howto/study.md").read_text().partition("Built in:")[2].partition(";")[0]
    assert re.findall(r"`([\w-]+)`", study) == list(built_in())
    readme = " ".join((ROOT / "README.md").read_text().split())
    for name, datasets in preset_datasets().items():
        listed = f"`{name}` ({', '.join(datasets)})"
        assert listed in readme


def test_the_tiny_backbone_has_the_parameters_that_its_page_says() -> None:
    told = re.search(r"([\d,]+) parameters", (ROOT / "docs/explanation/tiny.md").read_text())
    assert told is not None
    model = load_backbone("tiny").model
    assert int(told[1].replace(",", "")) == sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_every_benchmark_keeps_its_figures_in_a_file_when_asked(path: Path) -> None:
    source = path.read_text()
    if "__main__" in source:
        assert "@json_option" in source or '"--json"' in source
