"""Characters drawn from the fonts that ship with matplotlib: many classes of several modes, nothing to download.

A class is a character, its modes are the faces: DejaVu Sans, Sans Mono and Serif, each regular, bold, oblique and bold
oblique. Size, place and proportions are normalised away, as they are by the random distortions.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageFilter, ImageFont, ImageOps, features
from PIL import __version__ as pillow_version
from pydantic import Field

from dml_bench.data.cache import cached_images, file_sha256
from dml_bench.data.dataset import DATASETS, Images, ImageSet, Split
from dml_bench.errors import DataError
from dml_bench.randomness import derive_seed

FAMILIES = (
    ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
    ("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
    ("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
)
SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN")
TURN = 26
"""How many code points a script offers before it is the next one's turn."""

ALIKE = 0.95
"""Cosine similarity of clean drawings, mean over the faces of one family, above which characters look alike."""

INK = 0.72
"""Longest side of an undistorted character, as a fraction of the image's."""

Ink = list[Image.Image]
"""One character, cropped to its ink, in every face."""


@DATASETS.register("glyphs")
def glyphs(
    root: Path | None,
    /,
    *,
    characters: Annotated[int, Field(ge=4, le=1000)] = 300,
    images_per_face: Annotated[int, Field(ge=1, le=100)] = 2,
    image_size: Annotated[int, Field(ge=16, le=128)] = 32,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Split:
    """Draw characters in 12 typefaces, distorted at random; half of the characters to train, half to test.

    ``characters`` counts train and test together; which half a character falls into is drawn from ``seed``. Images are
    grey, ink bright on black: ``characters * 12 * images_per_face`` of them. Characters that look alike, such as A,
    Alpha and the Cyrillic A, or o, O and 0, are one class: the first of them. ``root`` is not used.

    The same seed gives the same pixels for the same versions of Pillow, FreeType, NumPy and the fonts.

    Raises:
        DataError: if the installed fonts have fewer distinct characters.
    """
    fonts = font_files()
    key = {
        "dataset": "glyphs",
        "code": file_sha256(Path(__file__)),
        "options": [characters, images_per_face, image_size, seed],
        "fonts": [file_sha256(font) for font in fonts],
        "drawn by": [pillow_version, features.version("freetype2"), np.__version__],
    }
    arrays = cached_images(key, lambda: _build(fonts, characters, images_per_face, image_size, seed))
    generator = np.random.default_rng(derive_seed(seed, "glyphs", "split"))
    shuffled = generator.permutation(characters)
    train, test = np.sort(shuffled[: characters // 2]), np.sort(shuffled[characters // 2 :])
    return Split("glyphs", _part(arrays, train), _part(arrays, test))


def font_files() -> list[Path]:
    """Return the font files of all families, family by family.

    Raises:
        DataError: naming the first that is not installed.
    """
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [folder / f"DejaVu{face}.ttf" for family in FAMILIES for face in family]
    if missing := [font for font in fonts if not font.is_file()]:
        raise DataError(f"{missing[0]}: this font, which comes with matplotlib, is not installed")
    return fonts


def distinct_characters(fonts: list[Path], count: int) -> dict[int, Ink]:
    """Return the first ``count`` code points, with their ink, that all fonts have and that look like none before them.

    The scripts take turns (Latin, Greek, Cyrillic, Armenian, Georgian, digits and signs), plain characters before
    those with accents, each script in the order of Unicode. Two characters look alike if they do so throughout one
    family, as I and l do in Sans though not in Serif.

    Raises:
        DataError: if there are fewer, saying how many there are.
    """
    faces = [ImageFont.truetype(font, 64, layout_engine=ImageFont.Layout.BASIC) for font in fonts]
    kept: dict[int, Ink] = {}
    looks = np.empty((len(FAMILIES), count, len(faces) // len(FAMILIES), 32 * 32), dtype=np.float32)
    for code in _candidates(fonts):
        ink = [_ink(face, chr(code)) for face in faces]
        drawn = [image for image in ink if image is not None]
        if len(drawn) < len(faces):  # a blank
            continue
        look = np.stack([_look(image) for image in drawn]).reshape(looks[:, 0].shape)
        cosines = np.einsum("fkip,fip->fki", looks[:, : len(kept)], look)
        if (cosines.mean(axis=2) > ALIKE).any():
            continue
        looks[:, len(kept)] = look
        kept[code] = drawn
        if len(kept) == count:
            return kept
    raise DataError(
        f"glyphs: the installed fonts have {len(kept)} distinct characters, fewer than the {count} asked for"
    )


def _candidates(fonts: list[Path]) -> Iterator[int]:
    """Yield the letters, digits and signs that every font maps to a glyph, scripts taking turns."""
    common = set.intersection(*(set(FT2Font(str(font)).get_charmap()) for font in fonts))
    seen: dict[tuple[bool, int], int] = {}
    ranked = []
    for code in sorted(common):
        category = unicodedata.category(chr(code))
        if category[0] not in "LNS" or category in ("Lm", "Sk") or 0x2500 <= code < 0x25A0:
            continue  # punctuation, accents and box drawing are told apart by size and place, which are normalised away
        word = unicodedata.name(chr(code), "?").split()[0]
        script = SCRIPTS.index(word) if category[0] == "L" and word in SCRIPTS else len(SCRIPTS)
        group = (bool(unicodedata.decomposition(chr(code))), script)
        ranked.append((group[0], seen.get(group, 0) // TURN, script, code))
        seen[group] = seen.get(group, 0) + 1
    return (code for *_, code in sorted(ranked))


def _ink(face: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """Draw a character and crop it to its ink; None if it has none."""
    mask = face.getmask(character, mode="L")
    drawn = Image.frombytes("L", mask.size, bytes(mask))
    box = drawn.getbbox()
    return drawn.crop(box) if box else None


def _look(ink: Image.Image) -> npt.NDArray[np.float32]:
    """Return the ink stretched over a square and blurred, as a unit vector: what two look-alikes share."""
    square = Image.new("L", (32, 32))
    square.paste(ink.resize((28, 28), Image.Resampling.LANCZOS), (2, 2))
    pixels = np.asarray(square.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32).ravel()
    unit: npt.NDArray[np.float32] = pixels / np.linalg.norm(pixels)
    return unit


def _build(fonts: list[Path], characters: int, copies: int, size: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """Draw every image: ``images`` (characters, faces * copies, H, W, 1) and ``codes`` (characters,)."""
    chosen = distinct_characters(fonts, characters)
    images = np.empty((characters, len(fonts) * copies, size, size, 1), dtype=np.uint8)
    for drawings, (code, ink) in zip(images, chosen.items(), strict=True):
        # its own generator for each character, so that asking for more of them changes no image
        generator = np.random.default_rng(derive_seed(seed, "glyphs", code))
        for i, drawing in enumerate(drawings):
            drawing[:, :, 0] = distort(ink[i // copies], size, generator)
    return {"images": images, "codes": np.array(list(chosen), dtype=np.int64)}


def distort(ink: Image.Image, size: int, generator: np.random.Generator) -> Images:
    """Draw ink centred in a ``(size, size)`` uint8 image, with a random affine map, Gaussian blur and noise.

    Rotation within 15 degrees, size 0.75 to 1.15, shear within 10 degrees, shift within 8 % of the image; blur of
    0 to 1 pixel and noise of 0 to 0.15 standard deviation (white is 1), in pixels of a 32-pixel image.
    """
    turn, shear = np.radians(generator.uniform((-15, -10), (15, 10)))
    double = 2 * size  # drawn twice as large and halved, against jagged edges
    zoom = generator.uniform(0.75, 1.15) * INK * double / max(ink.size)
    ink = ImageOps.expand(ink, border=1)  # for interpolation to fade into
    centre = double * (0.5 + generator.uniform(-0.08, 0.08, 2))
    forward = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    back = np.linalg.inv(forward @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]]))
    shift = np.array(ink.size) / 2 - back @ centre
    rows = (*back[0], shift[0], *back[1], shift[1])
    image = ink.transform((double, double), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC).reduce(2)
    image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0, 1) * size / 32))
    noise = generator.normal(0, 255 * generator.uniform(0, 0.15), (size, size))
    return np.clip(np.rint(np.asarray(image) + noise), 0, 255).astype(np.uint8)


def _part(arrays: dict[str, npt.NDArray[np.generic]], chosen: npt.NDArray[np.int64]) -> ImageSet:
    images: Images = arrays["images"][chosen].astype(np.uint8, copy=False)
    names = tuple(f"U+{code:04X} {chr(code)}" for code in arrays["codes"][chosen].tolist())
    labels = np.repeat(np.arange(len(chosen)), images.shape[1]).astype(np.int64)
    return ImageSet(images.reshape(-1, *images.shape[2:]), labels, names)
