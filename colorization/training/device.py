"""What a training runs on and, where that is no GPU, why not."""

import functools
import logging
import os
import re
import subprocess
import sys

import pynvml
import tensorflow as tf

from colorization import plan, process

LIST_GPUS = "import tensorflow as tf; tf.config.list_physical_devices('GPU')"

logger = logging.getLogger(__name__)


@functools.cache  # and logged once
def describe() -> str:
    """Return the names of the GPUs, or the number of cores, and log it."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        found = ", ".join(each.get("device_name", "GPU") for each in details)
        logger.info("training on %s", found)
        return found
    cores = plan.counted(process.usable_cores(), "core")
    logger.info("training on %s: no GPU found%s", cores, why_not() if _has_nvidia_gpu() else "")
    return cores


def why_not() -> str:
    """Return TensorFlow's reason for not using the GPU that there is.

    It says so in C++ while it looks for GPUs, which `process.start` has silenced in this process.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-c", LIST_GPUS]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = re.findall(r"^.*(?:\.cc:\d+\]) (.*(?:GPU|CUDA|cuda|dlopen).*)$", said.stderr, re.M)
    return f" by TensorFlow, though there is one: {lines[-1]}" if lines else ""


def _has_nvidia_gpu() -> bool:
    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False
