"""The view of MLflow's runs table that answers which run of a family is best."""

import json
from pathlib import Path

import mlflow

from colorization import charts
from colorization.address import shown
from colorization.registry.lookup import Candidate

SHARED_VIEW = "mlflow.sharedViewState."  # a tag of the experiment: what "Share" in the UI writes


def link(candidate: Candidate) -> str:
    """Make the view of a finished run's rivals, the best first; return its address.

    They are the tested runs of its family on the same pictures of the same size. What does not test
    (tools, trials) is not among them. Where the store is not a server, the command that starts one
    stands before the address.
    """
    best, test = charts.best_of(candidate.criterion), f"test_{candidate.criterion.metric}"
    metrics = dict.fromkeys([best, test, *(f"test_{name}" for name in charts.TESTED)])
    columns = ["tags.`variant`", *(f"metrics.`{name}`" for name in metrics)]
    view = {
        "searchFilter": f"tags.family = '{candidate.family}' and metrics.{test} >= 0 and "
        f"tags.dataset_digest = '{candidate.digest}' and params.size = '{candidate.size}'",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": not candidate.criterion.higher_is_better,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {"tags.`variant`": 140},
    }
    key = f"best-{candidate.family}-{candidate.digest[:8]}-{candidate.size}"
    experiment = candidate.run.info.experiment_id
    mlflow.MlflowClient().set_experiment_tag(experiment, SHARED_VIEW + key, json.dumps(view))
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    uri = shown(mlflow.get_tracking_uri())
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/") + page
    own = "" if uri == f"sqlite:///{Path('mlflow.db').resolve()}" else f" --backend-store-uri {uri}"
    return f"mlflow ui{own}, then http://127.0.0.1:5000{page}"
