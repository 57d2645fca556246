"""Figures as bytes inside a page: made smaller step by step until the page fits."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, features

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PER_INCH = 114
"""Pixels of the page for an inch of a figure: the widest fills the text's column, and letters are alike in all."""


@dataclass(frozen=True)
class FigureView:
    """A picture of the page: PNG bytes, its size in pixels of the page, an alternative text and a caption.

    ``name`` is the file's name in the run's ``figures`` folder.
    """

    name: str
    png: bytes
    alt: str
    width: int
    height: int
    caption: str = ""
    kind: str = "figure"


@dataclass(frozen=True)
class Picture:
    """Encoded bytes and their media type."""

    data: bytes
    media: str


def figure_view(name: str, figure: Figure, *, caption: str = "") -> FigureView:
    """A matplotlib figure as part of a page; its finding and data become the alternative text."""
    from imbalance_lab.plots.style import png_bytes, title_of

    png = png_bytes(figure)
    with Image.open(BytesIO(png)) as picture:
        pixels = picture.size
    width = round(_PER_INCH * figure.get_figwidth())
    height = round(width * pixels[1] / pixels[0])
    alt = ". ".join(part for part in (title_of(figure), title_of(figure, "subtitle")) if part)
    return FigureView(name=name, png=png, alt=alt, width=width, height=height, caption=caption)


def data_uri(picture: Picture) -> str:
    """``data:`` address that holds the picture itself."""
    return f"data:{picture.media};base64,{base64.b64encode(picture.data).decode('ascii')}"


def fit(pngs: Sequence[bytes], budget: int) -> list[Picture | None]:
    """All pictures in one form, the best of four (first as they are) whose base64 text fits into ``budget`` bytes.

    Returns
    -------
    list of Picture or None
        None for those at the end that fit in no form.
    """
    pictures: list[Picture] = []
    for encode in _ENCODERS:
        pictures = [encode(png) for png in pngs]
        if sum(map(_cost, pictures)) <= budget:
            return list(pictures)
    kept: list[Picture | None] = []
    left = budget
    for picture in pictures:
        left -= _cost(picture)
        kept.append(picture if left >= 0 else None)
    return kept


def _cost(picture: Picture) -> int:
    return 4 * -(-len(picture.data) // 3) + 32


def _as_it_is(png: bytes) -> Picture:
    return Picture(png, "image/png")


def _webp(quality: int, scale: float) -> Callable[[bytes], Picture]:
    def encode(png: bytes) -> Picture:
        if not features.check("webp"):
            return _as_it_is(png)
        with Image.open(BytesIO(png)) as image:
            picture = image.convert("RGB")
            if scale < 1:
                size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            buffer = BytesIO()
            picture.save(buffer, "WEBP", lossless=quality == 100, quality=quality, method=4)
        return Picture(buffer.getvalue(), "image/webp")

    return encode


_ENCODERS: tuple[Callable[[bytes], Picture], ...] = (_as_it_is, _webp(100, 1.0), _webp(80, 1.0), _webp(70, 0.6))
