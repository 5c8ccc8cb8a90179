"""Files of other tools, imported and trained as they are but for the model, the length of the training and its numbers.

What `ftctl import` writes is submitted to a real daemon, and must train and leave an output.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hands import RealDaemon

from finetuned.v1 import job_service_pb2

FILES = Path(__file__).parents[1] / "data" / "import"
LLAMAFACTORY = ("model_name_or_path=smol-nano", "max_steps=2", "template=null", "bf16=false")
SWIFT = (
    "model=smol-nano",
    "max_steps=2",
    "torch_dtype=float32",
    "split_dataset_ratio=0",
    "eval_steps=null",
    "nproc_per_node=1",
)
AXOLOTL = (
    "base_model=smol-nano",
    "max_steps=2",
    "bf16=false",
    "val_set_size=0",
    "evals_per_epoch=null",
    "chat_template=null",
    "special_tokens=null",
    "flash_attention=null",
    "optimizer=adamw_torch",
)
# One row of data is too few to hold some back.
ALONE = ("val_size=0", "eval_strategy=no")


@pytest.fixture(scope="module")
def daemon(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    root = tmp_path_factory.mktemp("imported")
    shutil.copytree(FILES, root / "import")
    with RealDaemon(root, smol_nano) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("llamafactory/lora_sft.yaml", (*LLAMAFACTORY, *ALONE)),
        pytest.param("axolotl/qlora.yml", AXOLOTL, marks=pytest.mark.slow),
        pytest.param("llamafactory/lora_dpo.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("llamafactory/lora_rm.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("llamafactory/lora_kto.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("llamafactory/lora_orpo.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("llamafactory/lora_pt.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("llamafactory/full_sft.yaml", (*LLAMAFACTORY, "deepspeed=null"), marks=pytest.mark.slow),
        pytest.param("llamafactory/freeze_sft.yaml", LLAMAFACTORY, marks=pytest.mark.slow),
        pytest.param("swift/sft.sh", SWIFT, marks=pytest.mark.slow),
        pytest.param("swift/dpo.sh", SWIFT, marks=pytest.mark.slow),
        pytest.param("axolotl/full.yml", AXOLOTL, marks=pytest.mark.slow),
        pytest.param("axolotl/dpo.yml", AXOLOTL, marks=pytest.mark.slow),
    ],
)
def test_an_imported_file_trains(daemon: RealDaemon, file: str, changes: tuple[str, ...]) -> None:
    spec = f"{Path(file).stem}.yaml"
    said = daemon.ftctl("import", f"import/{file}", *(f"--set={change}" for change in changes), "-o", spec)
    assert said.code == 0, said.err
    job = daemon.ftctl("submit", "-f", spec, "--wait", "-q").ok.strip()
    done = daemon.jobs.GetJob(job_service_pb2.GetJobRequest(job=job)).job
    assert done.progress.step == 2
    assert Path(done.output_path).is_dir()
