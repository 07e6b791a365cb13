import numpy as np

from tfopt.runtimes.litert.trial import _trial_run


def _job(path, **changes):
    return {"path": str(path), "rows": [1, 3], "samples": None, **changes}


def test_findings_by_kind(file_of, tmp_path):
    assert _trial_run(_job(file_of("dense"))).kind == "ok"
    assert _trial_run(_job(file_of("recurrent"))).kind == "ok"
    assert _trial_run(_job(file_of("erf"))).kind == "missing_ops"
    assert _trial_run(_job(tmp_path / "none.tflite")).kind == "invalid"


def test_rows_that_do_not_fit_fail(file_of, tmp_path):
    rows = tmp_path / "rows.npz"
    np.savez(rows, input_0=np.ones((2, 5), "float32"))
    assert _trial_run(_job(file_of("dense"), samples=str(rows))).kind == "failed"
