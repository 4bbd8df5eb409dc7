# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation: what it says is what the code does, as far as a machine can tell."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from test_bundle import write_bundle

from av_compress.build.recipe import load_recipe
from av_compress.cli.main import make_parser
from av_compress.nodes import telemetry_output
from av_compress.tasks.registry import make_task
from av_compress.telemetry.batches import BatchMonitor
from av_compress.telemetry.monitor import Limits, Monitor

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SCRIPTS = ROOT / "scripts"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_script(name: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", ["render_reference.py", "render_benchmarks.py"])
def test_generated_regions_are_up_to_date(script, tmp_path):
    done = run_script(script, "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/recipe.md"])
def test_recipes_of_the_pages_are_valid(page, tmp_path):
    found = [yaml.safe_load(block) for block in blocks(page, "yaml")]
    recipes = [content for content in found if "model" in content]
    assert recipes
    task = next(r["task"] for r in recipes if isinstance(r["task"], dict))
    (tmp_path / "detector.task.yaml").write_text(yaml.safe_dump(task))
    for content in recipes:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        recipe = load_recipe(path)
        assert make_task(recipe.task).class_names


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(str(page.relative_to(ROOT)), "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line) for line in lines if line.startswith("av-compress ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_of_the_pages_parse(page, line):
    arguments = shlex.split(line, comments=True)[1:]
    assert make_parser().parse_args(arguments).verb == arguments[0]


def test_every_verb_is_shown_somewhere():
    shown = {shlex.split(line)[1] for _, line in commands()}
    assert shown >= {"build", "inspect", "lint", "diff", "evaluate", "replay"}


def test_the_python_of_the_bundle_page_runs(tmp_path, monkeypatch, capsys):
    write_bundle(tmp_path / "bundle")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((16, 16, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/bundle.md", "python")
    exec(compile(code, "docs/bundle.md", "exec"), {})
    assert "a.png [[ 2.  4. 10. 12.]] [0.75] [0]" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:config|scripts|benchmarks|launch)/[\w./]+\.\w+)`", text):
        assert (ROOT / name).is_file() or "results" in name, name


def test_launch_arguments_of_the_pages_are_declared():
    files = [*(ROOT / "launch").glob("*.launch.py"), ROOT / "av_compress/nodes/launching.py"]
    launch = "".join(path.read_text(encoding="utf-8") for path in files)
    declared = set(re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', launch))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"(\w+):=", text)) <= declared


def test_the_node_page_names_every_figure_of_the_diagnostics():
    text = (ROOT / "docs/node.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([\w.]+)`", text))
    suffixes = [name.removeprefix("...") for name in documented if name.startswith("...")]
    figures = [*Monitor(Limits()).report(0).figures, *BatchMonitor(1).report().figures]
    for figure in figures:
        names = [figure, *(figure.removesuffix(suffix) for suffix in suffixes)]
        assert documented & set(names), figure


def test_the_node_page_names_every_debug_time():
    text = (ROOT / "docs/node.md").read_text(encoding="utf-8")
    listed = re.search(r"`~/debug/processing_time/{([\w,]+)}_ms`", text)[1].split(",")
    assert [f"processing_time/{name}_ms" for name in listed] == list(telemetry_output._TIMES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- reference:nobody -->\n<!-- /reference -->", "reference:nobody is unknown"),
        ("<!-- reference:one -->\nno end", "1 regions of kind reference begin, 0 are whole"),
        (
            "<!-- reference:one -->\n<!-- reference:two -->\n<!-- /reference -->",
            "2 regions of kind reference begin, 1 are whole",
        ),
    ],
)
def test_regions_that_are_broken_are_told(text, reason, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from markdown_regions import fill

    with pytest.raises(ValueError, match=reason):
        fill(text, "reference", {"one": lambda: "1", "two": lambda: "2"})


def test_only_what_is_inside_a_region_changes(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from markdown_regions import fill, table

    text = (
        "before\n<!-- k:one -->\nold\n<!-- /k -->\nbetween\n<!-- k:one -->\n<!-- /k -->\nafter\n"
    )
    region = "<!-- k:one -->\nnew\n<!-- /k -->"
    filled = fill(text, "k", {"one": lambda: "new\n"})
    assert filled == f"before\n{region}\nbetween\n{region}\nafter\n"
    assert fill(filled, "k", {"one": lambda: "new"}) == filled
    assert fill(text, "other", {}) == text
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 2 |"
