"""Train a colorizer: `python -m colorization pix2pix --epochs 2`; or all of them: `... compare`.

Parses, prepares the pictures, opens a run, trains and logs; `mlflow run .` calls it.
"""

import logging
import sys

from colorization import config as configuration
from colorization import process
from colorization.address import shown

logger = logging.getLogger("colorization")

COMPARE = "compare"  # stands where a variant's name does


def parse(argv=None):
    """Parse the command line: a variant and its config's fields as flags, or `compare`."""
    parser = process.Parser(prog="python -m colorization", description=__doc__)
    variants = parser.add_subparsers(dest="variant", required=True, metavar="VARIANT")
    for name, config in configuration.VARIANTS.items():
        variant = variants.add_parser(name, help=type(config).__doc__.splitlines()[0])
        _add_flags(variant)
        variant.add_argument(
            "--start_from",
            default="",
            help="begin with these weights: an earlier run's id, a .keras or .h5 file, a URL, or "
            "an id or URL of Google Drive",
        )
        configuration.add_arguments(variant, config)
    every = variants.add_parser(COMPARE, help="Train several and compare them.")
    _add_flags(every)
    every.add_argument(
        "--variants",
        default=",".join(name for name, each in configuration.VARIANTS.items() if each.compared),
        help="with commas",
    )
    every.add_argument("--epochs", default="12", help="of every training (default: 12)")
    return parser.parse_args(argv)


def _add_flags(parser):
    parser.add_argument(
        "--data",
        default="sample",
        help="sample (painted birds), kaggle, or a folder or .zip of photographs",
    )
    parser.add_argument(
        "--register",
        default="yes",
        choices=("yes", "no"),
        help="yes: offer the model to the registry, which keeps the better one as champion",
    )


def _configs(arguments):
    if arguments.variant == COMPARE:
        return configuration.every_head(arguments.variants, arguments.epochs)
    return [configuration.from_arguments(configuration.VARIANTS[arguments.variant], arguments)]


@process.entry_point(parse)
def main(arguments):
    """Train what the command line names; every training is a run of its own."""
    configs = _configs(arguments)
    # TensorFlow and MLflow come later: no bad argument should wait for them.
    from colorization.data import prepare, sources

    splits = prepare.prepare(sources.fetch(arguments.data))
    if arguments.variant == COMPARE:
        return compare(configs, splits, arguments)
    return run(*configs, splits, arguments)


def run(config, splits, arguments):
    """Train, log one MLflow run and offer its model to the registry."""
    from colorization.registry import promotion

    start_from = _starting_weights(config, splits, arguments.start_from)
    run_id, model = _train(config, splits, arguments, start_from=start_from)
    command = promotion.serve_command(model.model_uri)
    if arguments.register == "yes":
        command = promotion.offer(run_id) or command
    logger.info("serve it: %s", command)


def compare(configs, splits, arguments):
    """Train what has not been trained yet, compare all and offer the best of each family.

    Returns:
        The exit status: 2 if a training broke down, the others are compared all the same.
    """
    import mlflow

    from colorization import comparison, tracking
    from colorization.registry import promotion

    contenders, status = [], 0
    with tracking.open_run("compare") as opened:
        flags = {name: getattr(arguments, name) for name in ("variants", "epochs", "register")}
        tracking.log_flags(arguments.data, **flags)
        tracking.log_data(splits)
        for config in configs:
            finished = comparison.find_finished(config, splits.digest)
            if finished:
                logger.info("%s: was trained already, run %s", config.label, finished.info.run_id)
            else:
                try:
                    run_id, _ = _train(config, splits, arguments, opened.info.run_id)
                except (FloatingPointError, ValueError) as error:
                    process.refuse(error)
                    status = process.REFUSED
                    continue
                finished = mlflow.get_run(run_id)
            contenders.append(comparison.Contender(config, finished))
        if not contenders:
            raise FloatingPointError("Every training broke down: there is nothing to compare.")
        for line in comparison.as_text(comparison.log(contenders, splits)).split("\n"):
            logger.info("%s", line)
    for best in comparison.best_of_families(contenders):
        command = promotion.serve_command(best.model_uri)
        if arguments.register == "yes":
            command = promotion.offer(best.run.info.run_id) or command
        logger.info(
            "best of the %s family: %s; serve it: %s", best.config.family, best.label, command
        )
    return status


def _starting_weights(config, splits, reference):
    """Return the weights that `--start_from` names, or None; refuse here what will not fit."""
    if not reference:
        return None
    from colorization.models import build
    from colorization.training import train
    from colorization.weights import download, safe_keras

    found = safe_keras.load(download.fetch(reference)).get_weights()
    colorizer = build.build_plain(config, splits.train.images.shape[1])
    train.require_same_shapes(config, colorizer, found)
    return found


def _train(config, splits, arguments, parent_run_id=None, start_from=None):
    """Train in a run of its own; return the run's id and the logged model."""
    from colorization import tracking
    from colorization.training import train

    with tracking.open_run(config.label, parent_run_id) as opened:
        origin = shown(getattr(arguments, "start_from", ""))
        flags = {"register": arguments.register, "start_from": origin}
        tracking.log_config(config, data=arguments.data, **flags)
        tracking.log_data(splits)
        callbacks = [tracking.EpochLog(config, splits.val)]
        result = train.train(config, splits, callbacks, start_from)
        model, metrics = tracking.log_result(config, result, splits, origin)
    logger.info(
        "%s: test %.2f dB; plain gray %.2f dB, mean chroma %.2f dB",
        config.label,
        *(metrics[f"test_psnr{baseline}"] for baseline in ("", "_gray", "_mean_chroma")),
    )
    return opened.info.run_id, model


if __name__ == "__main__":
    sys.exit(main())
