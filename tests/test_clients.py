"""Base64 as clients write it, in every JSON form of MLflow's scoring server."""

import base64
import json

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from tests.test_pyfunc import encode, paint, save_colorizer

FORMS = {
    "inputs": lambda cells: {"inputs": {"image": cells}},
    "inputs-rows": lambda cells: {"inputs": [{"image": cell} for cell in cells]},
    "inputs-text": lambda cells: {"inputs": cells},
    "instances": lambda cells: {"instances": [{"image": cell} for cell in cells]},
    "instances-text": lambda cells: {"instances": cells},
    "split": lambda cells: {
        "dataframe_split": {"columns": ["image"], "data": [[cell] for cell in cells]}
    },
    "records": lambda cells: {"dataframe_records": [{"image": cell} for cell in cells]},
}
DECODED_BY_MLFLOW = {"split", "records"}


def picture():
    """A picture whose base64 has padding and the letters that the two alphabets do not share."""
    for seed in range(99):
        data = encode(paint(size=(30, 20), seed=seed))
        if len(data) % 3 and {"+", "/", "="} <= set(base64.b64encode(data).decode()):
            return data
    raise AssertionError


DATA = picture()
STANDARD = base64.b64encode(DATA).decode()
WEB_SAFE = base64.urlsafe_b64encode(DATA).decode()
PERCENT = STANDARD.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")
SPELLINGS = {
    "web-safe": WEB_SAFE,
    "web-safe, no padding": WEB_SAFE.rstrip("="),
    "no padding": STANDARD.rstrip("="),
    "blanks and newlines": f" \n{STANDARD[:50]} \r\n\t{STANDARD[50:]}\n",
    "data URL": f"data:image/png;base64,{STANDARD}",
    "data URL, web-safe": f"\n DATA:image/png;charset=utf-8;base64, {WEB_SAFE.rstrip('=')}",
    "data URL, percent-encoded": f"data:;base64,{PERCENT}",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return mlflow.pyfunc.load_model(str(save_colorizer(tmp_path_factory.mktemp("m"), 1, "chroma")))


def colored(model, body):
    schema = model.metadata.get_input_schema()
    answer = scoring_server.invocations(json.dumps(body), "application/json", model, schema)
    assert answer.status == 200
    return [row["image"] for row in json.loads(answer.response)["predictions"]]


@pytest.mark.parametrize("form", FORMS)
def test_every_spelling_of_base64_is_colored_where_the_text_reaches_us(model, form):
    (expected,) = colored(model, FORMS["split"]([STANDARD]))
    texts = [STANDARD] if form in DECODED_BY_MLFLOW else [STANDARD, *SPELLINGS.values()]
    assert colored(model, FORMS[form](texts)) == [expected] * len(texts)


@pytest.mark.parametrize("form", sorted(DECODED_BY_MLFLOW))
def test_where_mlflow_decodes_only_plain_base64_is_colored(model, form):
    """The README says so; if MLflow learns more, it should no longer."""
    colored(model, FORMS[form]([SPELLINGS["blanks and newlines"]]))
    for name in SPELLINGS.keys() - {"blanks and newlines"}:
        with pytest.raises(MlflowException):
            colored(model, FORMS[form]([SPELLINGS[name]]))


@pytest.mark.parametrize("text", ["a", "data:", "data:image/png;base64,", "-_-_", "=", "%2B"])
def test_what_is_no_picture_in_any_spelling_is_refused_with_its_row(model, text):
    with pytest.raises(MlflowException, match="Row 1: the picture is ") as refused:
        colored(model, FORMS["inputs"]([STANDARD, text]))
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
