"""The served model as a function of a column of Spark, as docs/folders.md shows it."""

import io
import re
import shutil

import mlflow
import numpy as np
import pytest
from PIL import Image

from colorization.registry import lookup
from tests import test_folder
from tests.conftest import ROOT

sql = pytest.importorskip("pyspark.sql", reason="needs pyspark, which conda.yaml leaves out")
store, color = test_folder.store, test_folder.color  # a champion that tints red

SNIPPET = re.compile(r"^```python\n(# [^\n]* unless pyspark.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("java"), reason="needs Java")
def test_the_champion_is_a_function_of_a_column(color):
    (snippet,) = SNIPPET.findall((ROOT / "docs" / "folders.md").read_text())
    snippet = snippet.replace(lookup.model_name("pix2pix"), lookup.model_name("naive"))
    content = io.BytesIO()
    test_folder.scene().save(content, "JPEG")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.getOrCreate()
    try:
        pictures = spark.createDataFrame([(content.getvalue(),)], "image binary")
        names = {"spark": spark, "pictures": pictures, "mlflow": mlflow}
        exec(snippet, names)
        (row,) = names["colored"].collect()
    finally:
        spark.stop()
    levels = np.asarray(Image.open(io.BytesIO(row.colored)), int).mean((0, 1))
    assert levels[0] - levels[2] > 20
