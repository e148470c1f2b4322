"""What a task's directory shows in TensorBoard; the tasks themselves are tested beside their chain."""

import io
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.studies.tasks import show


def test_pictures_and_pages_are_shown(tmp_path: Path) -> None:
    Image.new("RGBA", (7, 5), (200, 0, 0, 255)).save(tmp_path / "layers.png")
    (tmp_path / "table.md").write_text("| α | margin |\n|---|---|\n| 1 | 0.5 |\n", encoding="utf-8")
    (tmp_path / "prompts.csv").write_text("prompt\n")
    show(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["layers"]
    assert events.Tags()["tensors"] == ["table/text_summary"]
    (image,) = events.Images("layers")
    with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
        assert (picture.size, picture.getpixel((3, 3))) == ((7, 5), (200, 0, 0))
    (page,) = events.Tensors("table/text_summary")
    assert page.tensor_proto.string_val[0].decode() == (tmp_path / "table.md").read_text(encoding="utf-8")


def test_nothing_is_written_where_there_is_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "states.safetensors").write_text("")
    show(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
