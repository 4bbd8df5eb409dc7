# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The package as ROS and pip see it: one version, one set of files, floors that hold."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import av_compress

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "av_compress"

# A package -> the only places that may import it.
FLOORS = {
    "tensorrt": ("engines",),
    "tensorrt_rtx": ("engines",),
    "pycuda": ("engines",),
    "rclpy": ("nodes",),
    "sensor_msgs": ("nodes",),
    "vision_msgs": ("nodes",),
    "lifecycle_msgs": ("nodes",),
    "torch": ("train",),
    "rosbags": ("data",),
}


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_package_xml_is_format_3_and_ament_python():
    root = manifest()
    assert root.attrib["format"] == "3"
    assert root.findtext("export/build_type") == "ament_python"
    assert 'schematypens="http://www.w3.org/2001/XMLSchema"' in (ROOT / "package.xml").read_text()
    parse = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    package = parse.parse_package(str(ROOT / "package.xml"))
    package.validate()
    assert package.get_build_type() == "ament_python"


def test_one_version_everywhere():
    version = manifest().findtext("version")
    assert version == av_compress.__version__
    assert re.search(rf"^{re.escape(version)} \(", (ROOT / "CHANGELOG.rst").read_text(), re.M)


def test_setup_names_what_a_workspace_needs():
    text = (ROOT / "setup.py").read_text()
    for needed in ("resource_index/packages", "package.xml", "launch", "config", "schema"):
        assert needed in text
    config = (ROOT / "setup.cfg").read_text()
    assert config.count("$base/lib/av_compress") == 2
    assert (ROOT / "resource" / "av_compress").exists()


def test_setup_builds_a_wheel_with_all_its_data(tmp_path: Path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", ".venv", "build", "out", "*.egg-info", ".*_cache"),
        symlinks=True,
    )
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel", "--dist-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if "invalid command 'bdist_wheel'" in done.stderr:
        pytest.skip("this setuptools builds no wheels")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for needed in (
        "av_compress/schema/recipe.schema.json",
        "av_compress/report/templates/build.html.j2",
        "av_compress/data/demo/detector.onnx",
        "av_compress/data/demo/detector.task.yaml",
        "av_compress/engines/kernels/camera_detection.cu",
        "share/av_compress/package.xml",
        "share/av_compress/launch/camera_detector.launch.py",
        "share/av_compress/config/fastdds_shm_profile.xml",
        "share/av_compress/schema/camera_detector.schema.json",
        "share/ament_index/resource_index/packages/av_compress",
    ):
        assert needed in listing, needed


def test_floors_import_only_from_below():
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra: dev)")
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", FLOORS)
def test_some_packages_are_imported_on_their_floor_alone(package: str):
    for path in PACKAGE.rglob("*.py"):
        floor = path.relative_to(PACKAGE).parts[0]
        if floor in FLOORS[package]:
            continue
        assert package not in imported(path), f"{path.relative_to(ROOT)} imports {package}"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_schemas_are_valid_and_reachable_at_the_top():
    import jsonschema

    for path in (ROOT / "schema").glob("*.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    assert (ROOT / "schema" / "recipe.schema.json").is_file()


def test_the_demo_detectors_card_is_that_of_the_committed_model():
    from av_compress.fileio import sha256_file

    folder = PACKAGE / "data" / "demo"
    card = json.loads((folder / "detector.card.json").read_text())
    assert card["sha256"] == sha256_file(folder / "detector.onnx")
    assert (folder / "detector.onnx").stat().st_size <= 2 * 2**20


@pytest.mark.parametrize(
    "verb", ["build", "sign", "verify", "inspect", "lint", "diff", "evaluate", "replay", "demo"]
)
def test_every_verb_explains_itself(verb: str, capsys):
    from av_compress.cli.main import main

    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert f"usage: av-compress {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), 1, "error: a.jpg: No such"),
        (OSError("the device is gone"), 1, "error: the device is gone"),
        (KeyboardInterrupt(), 130, ": interrupted"),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, code, words):
    from av_compress.cli import inspect
    from av_compress.cli.main import main

    def fail(args):
        raise error

    monkeypatch.setattr(inspect, "run", fail)
    assert main(["inspect", "bundle"]) == code
    message = capsys.readouterr().err
    assert message.startswith(f"av-compress inspect: {words.removeprefix(': ')}")
    # An interrupted build may have kept measurements: nothing is claimed of what was written.
    assert message.count("\n") == 1
    assert "nothing" not in message


def test_starting_the_command_line_loads_nothing_heavy():
    script = (
        "import sys; from av_compress.cli.main import make_parser; make_parser(); "
        "print([m for m in ('onnx', 'onnxruntime', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_module_imports_pycuda():
    names = re.compile(r"(?:import|from|import_module\(\")\s*pycuda\b")
    found = [path for path in PACKAGE.rglob("*.py") if names.search(path.read_text("utf-8"))]
    assert [path.relative_to(PACKAGE).as_posix() for path in found] == ["engines/cuda/driver.py"]
