"""Writes a model as other files: adapters merged into it, in another format, in shards, as GGUF files, to a hub.

The weights are those of the folders that the spec names, and the files are written as a training writes its output. It
must never need rows.
"""

from __future__ import annotations

from peft import PeftModel

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import card, machine, origins, output
from fttrain.export import merge
from fttrain.methods import DTYPES
from fttrain.model import load_adapted, load_tokenizer
from fttrain.rank import stops
from fttrain.report import Report


def run(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Writes the output. Raises Refused and whatever the libraries raise."""
    spec = bootstrap.spec
    machine.set_up(bootstrap)
    report.phase(event_pb2.PHASE_LOADING_MODEL)
    with machine.measured(report):
        model, tokenizer = load_adapted(bootstrap), load_tokenizer(bootstrap)
        output.check(bootstrap, model.config, tokenizer)
        if stops.asked:
            return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
        report.phase(event_pb2.PHASE_EXPORTING)
        whole = merge.merged if isinstance(model, PeftModel) else merge.converted
        model = whole(model, DTYPES[spec.output.dtype])
        with output.appearing(bootstrap) as folder:
            model.save_pretrained(folder, max_shard_size=spec.output.max_shard_bytes)
            tokenizer.save_pretrained(folder)
            output.export(spec.output, bootstrap.job_name, model.config, tokenizer, folder)
            origins.write(bootstrap.lineage, folder)
            (folder / "README.md").write_text(card.text(bootstrap))
    output.push(bootstrap, report)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)
