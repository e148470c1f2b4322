import numpy as np
import pytest

from experiments.callbacks import pictures


def colours(image):
    return {tuple(c) for c in np.asarray(image.convert("RGB")).reshape(-1, 3)}


def cell(image, classes, row, column):
    """The background of a cell, beside names of one letter and above the lower edge."""
    pixels = np.asarray(image.convert("RGB"))
    left, bottom = 24 + pictures.fonts.width("b", pictures.SMALL), image.height - 8
    return tuple(pixels[bottom - (classes - row) * 28 + 2, left + column * 28 + 2].tolist())


def test_mistakes_stand_out_against_the_hits_however_rare_they_are():
    counts = np.diag([5000, 5000, 5000])
    counts[0, 2], counts[1, 0] = 1, 4
    image = pictures.confusion_matrix(counts, ["a", "b", "c"], "")
    empty = cell(image, 3, 2, 0)
    rare, frequent, hit = (cell(image, 3, *at) for at in ((0, 2), (1, 0), (1, 1)))
    assert cell(image, 3, 0, 1) == empty == cell(image, 3, 1, 2)
    assert frequent == pictures.ORANGE
    # More mistakes are darker; hits are green, mistakes orange.
    assert sum(frequent) < sum(rare) < sum(empty)
    assert hit[1] > hit[0]
    assert rare[0] > rare[1]


@pytest.mark.parametrize(
    "names", [["a"], ["zero", "a very long name, longer than there is room"], [str(i) for i in range(120)]]
)
def test_any_number_of_classes_and_length_of_names_fits(names):
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    image = pictures.confusion_matrix(counts, names, "nothing was counted")
    assert image.width < 1000
    assert image.height < 1000


def test_mistake_grid_shows_every_image_unchanged():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    grid = np.asarray(pictures.mistake_grid(images, list("abcde"), list("bcdea"), [0.5] * 5, "t"))
    for image in pictures.resized(images, 56):
        windows = np.lib.stride_tricks.sliding_window_view(grid, image.shape)[:, :, 0]
        corner = (windows[..., 0, 0, :] == image[0, 0]).all(-1)
        assert any((windows[y, x] == image).all() for y, x in np.argwhere(corner))


def test_mistake_grid_of_a_faultless_classifier_is_empty():
    grid = pictures.mistake_grid(np.zeros((0, 28, 28, 3), np.uint8), [], [], [], "none")
    assert pictures.RED not in colours(grid)


def test_as_rgb_keeps_bytes_and_stretches_floats():
    images = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)
    rgb = pictures.as_rgb(images)
    assert rgb.shape == (2, 2, 2, 3)
    assert (rgb == images.transpose(0, 2, 3, 1)).all()
    normalised = (images.astype(np.float32) - 3) / 2
    stretched = pictures.as_rgb(normalised)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert pictures.as_rgb(np.zeros((1, 3, 2, 2), np.float32)).max() == 0
    assert pictures.as_rgb(np.zeros((0, 1, 2, 2), np.uint8)).shape == (0, 2, 2, 3)


def test_filters_show_sign_as_colour_on_one_scale():
    weights = np.zeros((3, 1, 1, 1), np.float32)
    weights[:, 0, 0, 0] = [2.0, -2.0, 1.0]
    seen = colours(pictures.filter_grid(weights, ""))
    assert {(255, 0, 0), (0, 0, 255), (255, 127, 127)} <= seen


def test_filters_of_three_channels_are_colours_around_grey():
    weights = np.zeros((2, 3, 1, 1), np.float32)
    weights[1, :, 0, 0] = [1.0, 0.0, -1.0]
    seen = colours(pictures.filter_grid(weights, ""))
    assert {(127, 127, 127), (255, 127, 0)} <= seen


@pytest.mark.parametrize("shape", [(1, 1, 7, 7), (512, 1, 28, 28), (40, 5, 3, 3)])
def test_filter_grids_stay_of_a_size_to_look_at(shape):
    image = pictures.filter_grid(np.random.default_rng(0).standard_normal(shape), "first layer")
    assert image.width < 1200
    assert image.height < 700


def test_untrained_weights_of_zero_are_drawn_too():
    assert pictures.filter_grid(np.zeros((4, 1, 3, 3)), "zeros").width > 0


def test_attention_is_shaded_from_white_to_blue_by_layer_and_head():
    maps = np.zeros((2, 3, 4, 4))
    maps[1, 2, 3, 1] = 1
    maps[0, 0, 2, 2] = 0.25
    picture = np.asarray(pictures.attention_grid(maps, "title"))
    cell = 6
    step = 4 * cell + 5

    def patch(layer, head, row, column):
        y, x = 44 + layer * step + row * cell, 26 + head * step + column * cell
        return picture[y : y + cell, x : x + cell].reshape(-1, 3)

    assert (patch(1, 2, 3, 1) == pictures.BLUE).all()
    halfway = np.rint((np.array(pictures.PAPER) + np.array(pictures.BLUE)) / 2)
    assert (patch(0, 0, 2, 2) == halfway).all()  # the square root of a quarter
    assert (patch(0, 1, 2, 2) == 255).all()


def test_many_heads_still_make_a_picture_about_as_wide_as_a_card():
    picture = pictures.attention_grid(np.zeros((12, 12, 24, 24)), "title " * 50)
    assert pictures.CARD <= picture.width <= 1.2 * pictures.CARD


def test_a_map_names_its_tokens_at_both_edges():
    weights = np.eye(3)
    plain = np.asarray(pictures.attention_map(weights, ["a", "bb", "…"], "title"))
    other = np.asarray(pictures.attention_map(weights, ["a", "bb", "c"], "title"))
    blue = (plain == pictures.BLUE).all(-1)
    assert blue.sum() == 3 * 12 * 12
    rows, columns = np.nonzero(blue)
    changed = np.argwhere((plain != other).any(-1))
    assert len(changed)
    assert changed[:, 0].min() < rows.min()  # above
    assert changed[:, 1].min() < columns.min()  # to the left


def test_large_images_are_averaged_to_the_size_of_a_tile():
    images = np.zeros((2, 300, 150, 3), np.uint8)
    images[1, :, 75:] = (40, 80, 120)
    small = pictures.resized(images, 30)
    assert small.shape == (2, 30, 15, 3)
    assert small[0].max() == 0
    assert small[1, 10, 12].tolist() == [40, 80, 120]
    assert pictures.resized(images[:0], 30).shape == (0, 30, 15, 3)
    grid = pictures.mistake_grid(images, ["a", "b"], ["b", "a"], [0.5, 0.5], "t")
    assert grid.width <= 400
    assert (40, 80, 120) in colours(grid)


@pytest.mark.parametrize(("count", "shown"), [(7, "7"), (980, "980"), (5421, "5421"), (60_000, "60k")])
def test_digits_of_a_confusion_matrix_fit_its_cells(count, shown):
    text, size = pictures._number(count, 24)
    assert text == shown
    assert pictures.fonts.width(text, size) <= 24
    assert size >= pictures.SMALLEST


@pytest.mark.parametrize(
    ("names", "largest"),
    [([str(i) for i in range(10)], 9999), ([str(i) for i in range(10)], 70_000), (["sneaker"] * 10, 999)],
)
def test_a_matrix_of_ten_classes_fits_a_card_which_would_cut_the_digits_of_a_wider_one(names, largest):
    image = pictures.confusion_matrix(np.full((10, 10), largest), names, "test: 1,234 of 10,000 wrong")
    assert image.width == pictures.CARD


def test_predictions_are_counted_over_the_true_values_and_the_diagonal_is_right():
    true = np.array([[0.0], [1.0], [0.0], [np.nan]])
    predicted = np.array([[0.0], [1.0], [1.0], [0.5]])
    picture = np.asarray(pictures.density(true, predicted, "t"))
    blue = (picture == pictures.BLUE).all(-1)
    rows, columns = np.nonzero(blue)
    corners = {(r > 26 + 128, c > 76 + 128) for r, c in zip(rows, columns, strict=True)}
    assert corners == {(True, False), (False, True), (False, False)}  # low-low, high-high, and one too high


@pytest.mark.parametrize("values", [[], [2.0], [np.inf, np.nan], [1e308, -1e308]])
def test_few_or_no_predictions_are_drawn_too(values):
    assert pictures.density(np.array(values), np.array(values), "t").width == pictures.CARD
