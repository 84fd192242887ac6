"""Train a colorizer: `python -m colorization pix2pix --epochs 2`.

Parses, prepares the pictures, opens a run, trains and logs; `mlflow run . -e pix2pix` calls it.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time

import psutil

from colorization import config as configuration

logger = logging.getLogger("colorization")


def main(argv=None):
    """Train the variant that the command line names; return the process's exit status."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        _end_launched_run()
        return 128 + signal.SIGINT
    except SystemExit as stop:
        if stop.code == 128 + signal.SIGTERM:
            _end_launched_run()
        raise


def _main(argv):
    arguments = parse(argv)
    try:
        config = configuration.from_arguments(configuration.VARIANTS[arguments.variant], arguments)
    except ValueError as error:
        return _refuse(error)
    logging.basicConfig(format="%(message)s")  # other libraries: warnings only
    for room in ("colorization", "serve"):
        logging.getLogger(room).setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _stop_with_launcher()

    from colorization.data import prepare, sources

    try:
        splits = prepare.prepare(sources.fetch(arguments.data))
    except (ValueError, OSError) as error:
        return _refuse(error)
    return run(config, splits, arguments)


def parse(argv=None):
    """Parse the command line: a variant, its config's fields as flags, and `--data`."""
    parser = argparse.ArgumentParser(prog="python -m colorization", description=__doc__)
    variants = parser.add_subparsers(dest="variant", required=True, metavar="VARIANT")
    for name, config in configuration.VARIANTS.items():
        variant = variants.add_parser(
            name, help=type(config).__doc__.splitlines()[0], allow_abbrev=False
        )
        variant.add_argument(
            "--data",
            default="sample",
            help="sample (painted birds), kaggle, or a folder or .zip of photographs",
        )
        variant.add_argument(
            "--register",
            default="yes",
            choices=("yes", "no"),
            help="yes: offer the model to the registry, which keeps the better one as champion",
        )
        configuration.add_arguments(variant, config)
    return parser.parse_args(argv)


def run(config, splits, arguments):
    """Train, log one MLflow run and offer its model to the registry; return the exit status."""
    # These bring TensorFlow, for which neither --help nor a bad argument should wait.
    from colorization import tracking, training
    from serve import registry
    from serve.colorizer import REQUIREMENTS, SIGNATURE

    try:
        with tracking.open_run(config.variant) as opened:
            tracking.log_config(config, data=arguments.data, register=arguments.register)
            tracking.log_data(splits)
            result = training.train(config, splits, [tracking.EpochLog(config, splits.val)])
            model, metrics = tracking.log_result(config, result, splits, SIGNATURE, REQUIREMENTS)
    except FloatingPointError as error:
        return _refuse(error)
    logger.info(
        "test: %.2f dB; plain gray %.2f dB, mean chroma %.2f dB",
        *(metrics[f"test_psnr{baseline}"] for baseline in ("", "_gray", "_mean_chroma")),
    )
    command = f"mlflow models serve -m {model.model_uri} -p 5001 --env-manager uv"
    if arguments.register == "yes":
        command = registry.offer(opened.info.run_id) or command
    logger.info("serve it: %s", command)
    return 0


def _refuse(error):
    logger.error("error: %s", error)
    return 2


def _end_launched_run():
    """End the run that `mlflow run` opened, if this process was stopped before it attached."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    from mlflow import MlflowClient

    client, run_id = MlflowClient(), os.environ["MLFLOW_RUN_ID"]
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "KILLED")


def _stop_with_launcher():
    """End with `mlflow run`: killed alone, it would leave this process training on unseen."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    ancestors = psutil.Process().parents()
    launcher = next((each for each in ancestors if _is_mlflow_run(each)), None)
    if launcher:

        def follow():
            with contextlib.suppress(psutil.NoSuchProcess):
                while launcher.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()


def _is_mlflow_run(process):
    words = {os.path.basename(word) for word in process.cmdline()}
    return {"mlflow", "run"} <= words


if __name__ == "__main__":
    sys.exit(main())
