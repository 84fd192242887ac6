import tracemalloc
from types import SimpleNamespace

import numpy as np

from colorization import evaluation


def test_a_large_test_set_is_scored_in_a_few_times_its_own_memory():
    real = np.random.default_rng(0).integers(30, 220, (256, 32, 32, 3), "uint8")
    names = ("a",) * len(real)
    split = SimpleNamespace(name="test", images=real, species=names, paths=names)
    tracemalloc.start()
    try:
        tested = evaluation.evaluate(lambda grays: grays, split, 3, np.zeros(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The predicted pictures, three baselines, and the work on 16 pictures.
    assert peak < 9 * real.nbytes
    assert tested.metrics["test_psnr"] == tested.metrics["test_psnr_gray"]
