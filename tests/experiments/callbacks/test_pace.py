"""By a clock of its own, a fit's pace and the time it needs are what they are by hand."""

import torch

from experiments.callbacks.pace import Pace, batch_size


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_pace_keeps_training_and_the_rest_apart():
    clock = Clock()
    pace = Pace(clock)
    pace.resume()
    clock.now += 30  # compilation
    pace.count(8)
    assert pace.samples_per_second() is None
    assert pace.seconds_left(10, 1) is None
    for _ in range(4):
        clock.now += 2
        pace.count(8)
    assert pace.samples_per_second() == 4
    assert pace.seconds_left(10, 1) == 20  # no validation seen yet
    pace.pause()
    clock.now += 5
    assert pace.samples_per_second() == 4
    pace.resume()  # validation is over
    pace.end_period()
    clock.now += 1  # a checkpoint
    pace.resume()
    clock.now += 2
    pace.count(8)
    assert pace.samples_per_second() == 4
    assert pace.seconds_left(10, 3) == 10 * 2 + 3 * (5 + 1)
    assert pace.seconds_left(float("inf"), 3) is None


def test_batch_size_is_found_in_nested_batches():
    images = torch.zeros(5, 3)
    assert batch_size(images) == 5
    assert batch_size((images, torch.zeros(7))) == 5
    assert batch_size([{"a": (images,)}, 1]) == 5
    assert batch_size({"words": ["a", "b"], "ids": torch.zeros(3)}) == 3
    assert batch_size(["a"]) == 0
