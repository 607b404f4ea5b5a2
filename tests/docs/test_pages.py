"""README and docs/: commands resolve, snippets run or parse, links and names lead somewhere."""

import ast
import importlib.util
import itertools
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import tiny_run
from absl import flags

from configs import base
from delt_jax.runtime.command_line import resolve_config
from delt_jax.stages.preflight import check_options
from delt_jax.sweep.planning import load_sweep

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python -m ((?:delt_jax|benchmarks)[.\w]*)((?:[^\n`\\|]|\\\n)*)")
FENCE = re.compile(r"(?:<!-- run: (\w+) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|^)((?: {4}[^\n]*\n)+)", re.M)


def commands(program):
    """The words of every command of a program, up to whatever a shell does with what it says."""
    found = []
    for page in PAGES:
        for name, rest in COMMAND.findall(page.read_text()):
            rest = rest.replace("\\\n", " ")
            if rest.count('"') % 2:  # the command itself is in quotes
                rest = rest[: rest.rindex('"')]
            words = shlex.split(rest, comments=True)
            words = list(itertools.takewhile(lambda word: word not in ("&&", ">", "|"), words))
            if name == program and words:
                found.append(pytest.param(words, id=f"{page.stem}-{len(found)}"))
    return found


def snippets():
    """(page, name or "", code) of every block of Python."""
    for page in PAGES:
        text = page.read_text()
        for name, language, code in FENCE.findall(text):
            if language == "python":
                yield page, name, code
        for block in INDENTED.findall(FENCE.sub("", text)):
            code = re.sub(r"^ {4}", "", block, flags=re.M)
            if code.startswith(("from ", "import ")):
                yield page, "", code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_exist(page):
    for name, _ in COMMAND.findall(page.read_text()):
        assert importlib.util.find_spec(name.rstrip(".")) is not None, name


@pytest.mark.parametrize("words", commands("delt_jax.main"))
def test_a_command_of_a_run_resolves(words, tmp_path, monkeypatch):
    from delt_jax import main  # noqa: F401 (defines the flags)

    tiny_run.write_archive(tmp_path / "birds.npz")
    monkeypatch.chdir(ROOT)
    # Data sets of one's own are opened for their classes.
    words = [word.replace("=/data/birds", f"={tmp_path / 'birds.npz'}") for word in words]
    passed = {word.partition("=")[0].lstrip("-") for word in words if "config." not in word}
    assert passed <= set(flags.FLAGS)
    config = resolve_config([word for word in words if word.startswith("--config")])
    check_options(config)
    assert config.keys() == base.get_base().keys()


@pytest.mark.parametrize("words", commands("delt_jax.sweep"))
def test_a_command_of_a_sweep_has_points_that_resolve(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    of_points = [word for word in words if word.startswith("--config.")]
    values = dict(word.lstrip("-").partition("=")[::2] for word in words if word not in of_points)
    assert values.keys() <= {"sweep", "workdir", "collect", "point", "dry-run", "overwrite"}
    points = load_sweep(values["sweep"]).points
    assert points
    for point in points:
        check_options(resolve_config([*point.arguments, *of_points]))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (f"benchmarks.{path.stem}", word.values[0])
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        for word in commands(f"benchmarks.{path.stem}")
    ],
)
def test_the_flags_of_a_benchmark_exist(program, words):
    files = [program.rpartition(".")[2], "command", "machine"]
    known = "".join((ROOT / "benchmarks" / f"{name}.py").read_text() for name in files)
    for word in words:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in known, word


@pytest.mark.parametrize(
    ("page", "name", "code"),
    [
        pytest.param(
            *found,
            marks=[pytest.mark.slow] if found[1] == "digits" else [],
            id=f"{found[0].stem}-{found[1] or number}",
        )
        for number, found in enumerate(snippets())
    ],
)
def test_a_snippet_parses_and_runs_if_it_says_so(page, name, code, tmp_path, program_environment):
    assert ast.parse(code).body
    if name:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=program_environment, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        # What a page says that a snippet prints follows it in a block of its own.
        said = re.search(
            re.escape(code) + r"```\n\nprints\n\n```\n(.*?)```", page.read_text(), re.S
        )
        assert said is None or done.stdout.strip() == said[1].strip()


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"`|\*|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            assert anchor in map(slug, headings), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:delt_jax|configs|tests|docs|notebooks|launch|benchmarks)/[\w/.]+?)(?::[^`]*)?`",
        page.read_text(),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_that_are_named_exist(page):
    config = base.get_base()
    sections = [name for name, value in config.items() if hasattr(value, "items")]
    files = "html|json|md|npz|safetensors"
    pattern = (
        rf"(?:`|--config\.)((?:{'|'.join(sections)})\.(?!(?:{files})\b)[a-z][\w.]*)(?=[`=\s,*])"
    )
    for option in re.findall(pattern, page.read_text()):
        part = config
        for name in option.rstrip(".").split("."):
            assert name in part, option
            part = part[name]
