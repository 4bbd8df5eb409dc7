# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pages: one HTML file each, with everything in it; no script, nothing fetched."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from av_compress.errors import AvCompressError
from av_compress.report.tables import Tone

_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Verdict:
    """The result first: in a word, in a sentence, and where there is more to say, in lines."""

    tone: Tone
    word: str
    sentence: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """A key figure: the value, what it is, and what to hold it against."""

    value: str
    label: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Picture:
    """An embedded picture.

    Attributes:
        uri: data URI.
        alt: what it shows, for those who do not see it.

    """

    uri: str
    alt: str


def svg_picture(svg: bytes, alt: str) -> Picture:
    """Embed an SVG."""
    return Picture(_data_uri("image/svg+xml", svg), alt)


def jpeg_picture(pixels: npt.NDArray[np.uint8], alt: str) -> Picture:
    """Embed a uint8 [height, width, 3] BGR image as JPEG."""
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        height, width = pixels.shape[:2]
        raise AvCompressError(f"a picture of {width} x {height} cannot be encoded as JPEG")
    return Picture(_data_uri("image/jpeg", data.tobytes()), alt)


def render(template: str, **content: Any) -> str:
    """Fill a template of this package; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("av_compress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**content)


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
