"""The files for clusters: their syntax, and that the options they use exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<=\s)(--[a-z-]+|-np)(?=\s|$)", text))


def test_the_batch_script(tfopt: Any) -> None:
    script = DEPLOY / "slurm" / "tfopt.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    words = script.read_text().partition("launch ")[2]
    launched, _, inner = words.partition(" -- ")
    for used, verb in ((launched, "launch"), (inner, "run")):
        known = options_in(tfopt(verb, "--help").out.replace(",", " ").replace("│", " "))
        assert options_in(f" {used}")
        assert options_in(f" {used}") <= known


def test_hosts_of_the_batch_script() -> None:
    line = next(
        line
        for line in (DEPLOY / "slurm" / "tfopt.sbatch").read_text().splitlines()
        if line.startswith("HOSTS=")
    )
    program = (
        "scontrol() { printf 'node1\\nnode2\\n'; }; SLURM_JOB_NODELIST='node[1-2]'; "
        f'SLURM_NTASKS_PER_NODE=4; {line}; echo "$HOSTS"'
    )
    found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "node1:4,node2:4"


def test_the_job_of_kubernetes(tfopt: Any) -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes" / "mpijob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    specs = job["spec"]["mpiReplicaSpecs"]
    args = specs["Launcher"]["template"]["spec"]["containers"][0]["args"]
    processes = specs["Worker"]["replicas"] * job["spec"]["slotsPerWorker"]
    assert args[args.index("-np") + 1] == str(processes)
    inner = " ".join(args[args.index("run") :])
    known = options_in(tfopt("run", "--help").out.replace(",", " ").replace("│", " "))
    assert options_in(inner) <= known
    if shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed: apt-get install openmpi-bin")
    described = subprocess.run(
        ["mpirun", "--allow-run-as-root", "--help", "full"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for option in options_in(" ".join(args[: args.index("python")])) | {"--bind-to"}:
        assert option.lstrip("-") in described
