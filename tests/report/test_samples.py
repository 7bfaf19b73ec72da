"""A tile shows an image, a text or a table, of whatever shape, kind and range a dataset has them, and says what it cannot show."""

import base64
import io
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("platformdirs")

from PIL import Image

from adaptive_sampler.report.pictures import is_picture, picture
from adaptive_sampler.report.samples import TEXT, show

HALF = np.full((4, 5), 128, np.uint8)


def pixels(value: Any) -> np.ndarray:
    """The PNG that is shown of an image."""
    found = picture(value).source.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((4, 5), (4, 5)),
        ((1, 4, 5), (4, 5)),
        ((4, 5, 1), (4, 5)),
        ((3, 4, 5), (4, 5, 3)),
        ((4, 5, 3), (4, 5, 3)),
        ((4, 4, 5), (4, 5, 4)),
        ((4, 5, 4), (4, 5, 4)),
        ((2, 5, 6), (5, 6)),
        ((3, 5, 3), (3, 5, 3)),
    ],
)
def test_channels_may_come_first_or_last(shape: tuple[int, ...], shown: tuple[int, ...]) -> None:
    assert is_picture(np.zeros(shape, np.uint8))
    assert pixels(np.zeros(shape, np.uint8)).shape == shown


def test_where_both_could_be_channels_torch_has_them_first() -> None:
    torch = pytest.importorskip("torch")
    image = torch.zeros(3, 4, 4, requires_grad=True)
    assert is_picture(image)
    assert pixels(image).shape == (4, 4, 3)
    assert pixels(torch.zeros(3, 5, 3)).shape == (5, 3, 3)
    assert pixels(torch.ones(4, 4, dtype=torch.bfloat16)).tolist() == [[255] * 4] * 4


@pytest.mark.parametrize(
    ("values", "shown", "note"),
    [
        ([[0, 128, 255]] * 2, [0, 128, 255], ""),
        (np.array([[0, 0.5, 1]] * 2, np.float16), [0, 128, 255], ""),
        (np.array([[-1, 0, 1.0]] * 2), [0, 128, 255], ""),
        (np.array([[0, 128, 255.0]] * 2), [0, 128, 255], ""),
        (np.array([[False, True, True]] * 2), [0, 255, 255], ""),
        (np.array([[-2, 0, 2.0]] * 2), [0, 128, 255], "values -2 … 2 stretched"),
        (np.array([[0, 1000, 2000]] * 2, np.uint16), [0, 128, 255], "values 0 … 2e+03 stretched"),
        (np.array([[0, np.nan, np.inf]] * 2), [0, 128, 128], "4 values not finite"),
        (np.full((2, 3), np.nan), [128, 128, 128], "no value is finite"),
        (np.full((2, 3), -7.0), [0, 0, 0], "values -7 … -7 stretched"),
    ],
)
def test_values_of_any_range_are_shown_and_a_stretch_is_said(values: Any, shown: list[int], note: str) -> None:
    assert pixels(np.asarray(values))[0].tolist() == shown
    assert picture(np.asarray(values)).note == note


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I", "F", "LA"])
def test_an_image_of_pil_may_have_any_mode(mode: str) -> None:
    assert show([Image.new(mode, (6, 5))], 0).picture


def test_a_large_image_is_made_small() -> None:
    assert max(pixels(np.zeros((500, 3000), np.uint8)).shape) == 80


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 4), (1, 7), (2, 900), (6, 7, 8), ()])
def test_what_is_no_image_is_told_by_its_kind_and_shape(shape: tuple[int, ...]) -> None:
    assert not is_picture(np.zeros(shape))
    assert show([np.zeros(shape)], 0).text


def test_a_text_of_a_megabyte_is_shortened_and_says_so() -> None:
    shown = show(["word " * 200_000], 0).text
    assert len(shown) < TEXT + 50
    assert shown.endswith("… (1,000,000 characters)")


Pair = namedtuple("Pair", ["image", "label"])


@pytest.mark.parametrize(
    ("sample", "kind", "label"),
    [
        ((HALF, 3), "picture", "3"),
        ([HALF, np.array([7])], "picture", "7"),
        ((HALF,), "picture", ""),
        (Pair(HALF, "cat"), "picture", "cat"),
        ({"image": HALF, "label": 1}, "picture", "1"),
        ({"text": "a longer text " * 9, "label": "spam"}, "text", "spam"),
        (("a text", 0), "text", "0"),
        ({"age": 31, "income": 2.5, "target": True}, "table", "True"),
        ((HALF, HALF, 3), "picture", ""),
        (3.5, "text", ""),
        (b"bytes", "text", ""),
        (None, "text", ""),
    ],
)
def test_a_sample_and_its_label_are_found_in_any_of_the_usual_shapes(sample: Any, kind: str, label: str) -> None:
    shown = show([sample], 0)
    assert (shown.failed, shown.label) == ("", label)
    assert getattr(shown, kind)


def test_a_row_of_a_data_frame_is_a_table() -> None:
    frame = pytest.importorskip("pandas").DataFrame({"age": [31], "town": ["Graz"]})
    assert show(frame.iloc, 0).table == {"age": "31", "town": "Graz"}


def test_a_wide_table_is_cut_and_says_how_much_is_left() -> None:
    shown = show([{f"column {i}": i for i in range(100)}], 0).table
    assert list(shown)[-1] == "…"
    assert shown["…"] == "92 more"


def test_a_sample_that_cannot_be_read_is_said_in_its_tile(tmp_path: Path) -> None:
    class Broken:
        def __getitem__(self, row: int) -> Any:
            raise OSError(f"{row}.png is truncated")

    assert show(Broken(), 3).failed == "OSError: 3.png is truncated"


def test_a_sample_whose_error_cannot_be_told_is_said_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    class Broken(list[int]):
        def __getitem__(self, row: Any) -> Any:
            raise Odd

    assert show(Broken([1]), 0).failed == "Odd: an error that cannot be shown"


def test_complex_numbers_of_torch_are_told_and_not_drawn() -> None:
    torch = pytest.importorskip("torch")
    assert not is_picture(torch.eye(8) * 1j)
