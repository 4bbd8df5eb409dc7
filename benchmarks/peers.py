# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What other quantisers make of real detectors, each at its own share of INT8.

    python benchmarks/peers.py [--data ../shared/data] [--models NAME ...] [--peers NAME ...]

Every peer runs in a virtual environment of its own (made under out/peers, packages pinned) and
gets the prepared FP32 model and the train images' input tensors; what it writes is judged here on
the val images, every Q/DQ pair computed as it stands, as our own forms are. Signed and symmetric
INT8 with a weight scale a channel, FP32 around it, otherwise the peer's defaults. Accuracy control
measures on the train images. A peer that fails has the reason for its row. What a peer made of
the same inputs before is judged again, not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from common import save_results
from fidelity import MODELS, ROOT, Detector, Judge
from peer_tools.counting import as_figures, count_int8
from peer_tools.environments import (
    CACHE,
    REQUIREMENTS,
    Environment,
    PeerError,
    open_driver,
    store_inputs,
)

from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.metrics.average_precision import (
    average_precision,
    average_precision_against,
    map_labels,
)
from av_compress.tasks.base import Detections2D

ORT = {"activations": "int8", "reduce_range": False}
NNCF = {
    "preset": "performance",
    "activations": "per_channel",
    "fast_bias_correction": True,
    "max_drop": None,
}


@dataclass(frozen=True)
class Peer:
    """A quantiser and how it is asked.

    Attributes:
        label: what the tables call it.
        environment: where it runs; also names its driver.
        options: what the driver does.
        metric: what its accuracy control measures: `ap50` on labels or `agreement_ap`.

    """

    label: str
    environment: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None


PEERS: Mapping[str, Peer] = {
    **{
        f"onnxruntime_{method.lower()}": Peer(
            f"ONNX Runtime `quantize_static`, {method}", "onnxruntime", {**ORT, "method": method}
        )
        for method in ("MinMax", "Entropy", "Percentile")
    },
    "nncf_performance": Peer("NNCF, preset performance", "nncf", NNCF),
    "nncf_mixed": Peer("NNCF, preset mixed", "nncf", {**NNCF, "preset": "mixed"}),
    "nncf_bias_correction": Peer(
        "NNCF, performance, full bias correction", "nncf", {**NNCF, "fast_bias_correction": False}
    ),
    "nncf_per_tensor": Peer(
        "NNCF, performance, activations per tensor", "nncf", {**NNCF, "activations": "per_tensor"}
    ),
    "nncf_control_ap50": Peer(
        "NNCF, accuracy control, AP50 drop 0.25", "nncf", {**NNCF, "max_drop": 0.0025}, "ap50"
    ),
    **{
        f"nncf_control_agreement_{drop}": Peer(
            f"NNCF, accuracy control, agreement AP drop {drop}",
            "nncf",
            {**NNCF, "max_drop": drop / 100},
            "agreement_ap",
        )
        for drop in (5, 15)
    },
    "nncf_control_per_tensor": Peer(
        "NNCF, the same with 5, activations per tensor",
        "nncf",
        {**NNCF, "max_drop": 0.05, "activations": "per_tensor"},
        "agreement_ap",
    ),
    **{
        f"modelopt_{method}": Peer(f"ModelOpt, {method}", "modelopt", {"method": method})
        for method in ("max", "entropy")
    },
}


@dataclass(frozen=True)
class TrainJudge:
    """Answers accuracy control: the metric of a model on some of the train images."""

    detector: Detector
    reference: Sequence[Detections2D]

    def measure(self, model: Path, metric: str, images: Sequence[int]) -> float:
        """Return the metric in 0..1."""
        results = detect_train(self.detector, onnx.load(model), images)
        names, train = self.detector.task.class_names, self.detector.train
        if metric == "ap50":
            truths = [map_labels(train.labels(i), train.class_names, names) for i in images]
            return average_precision(results, truths, names).ap50
        chosen = [self.reference[i] for i in images]
        return average_precision_against(chosen, results, class_names=names).ap


def detect_train(
    detector: Detector, model: onnx.ModelProto, images: Sequence[int]
) -> list[Detections2D]:
    options = OrtOptions(intra_op_threads=1, exact_quantization=True)
    pipeline = Pipeline(detector.task, OnnxRuntimeEngine(model.SerializeToString(), options))
    results = [pipeline.process(detector.train.read(index)).result for index in images]
    pipeline.close()
    return results


@dataclass(frozen=True)
class Workshop:
    """Where peers work on one model.

    Attributes:
        source: the prepared FP32 model; the calibration's inputs lie beside it as .npz.
        cache: folder of the environments.
        answer: metric of a model for accuracy control: file, metric, train images.

    """

    source: Path
    cache: Path
    answer: Callable[[Path, str, Sequence[int]], float]

    def quantise(self, key: str, peer: Peer) -> tuple[onnx.ModelProto, float]:
        """Let a peer quantise the model; what it made of the same inputs before is used again.

        Returns:
            the model, and the seconds that it took.

        Raises:
            PeerError: it cannot be installed, failed, or wrote nothing; its own last words.

        """
        output, made = (self.source.with_name(f"{key}{end}") for end in (".onnx", ".made.json"))
        inputs = self._hash(peer)
        if made.is_file() and output.is_file():
            known = json.loads(made.read_text(encoding="utf-8"))
            if known["inputs"] == inputs:
                return onnx.load(output), known["seconds"]
        output.unlink(missing_ok=True)
        started = time.perf_counter()
        self._run(peer, output)
        seconds = time.perf_counter() - started
        if not output.is_file():
            raise PeerError("it wrote no model")
        made.write_text(json.dumps({"inputs": inputs, "seconds": seconds}), encoding="utf-8")
        return onnx.load(output), seconds

    def _run(self, peer: Peer, output: Path) -> None:
        options = output.with_suffix(".json")
        options.write_text(json.dumps(dict(peer.options)), encoding="utf-8")
        environment = Environment(peer.environment, self.cache)
        arguments = [self.source, self.source.with_suffix(".npz"), output, options]
        driver = f"drive_{peer.environment}.py"
        log = output.with_suffix(".log")
        with open_driver(environment, driver, [str(a) for a in arguments], log) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"model"'):
                    asked = json.loads(line)
                    metric = self.answer(Path(asked["model"]), str(peer.metric), asked["samples"])
                    print(metric, file=process.stdin, flush=True)

    def _hash(self, peer: Peer) -> str:
        driver = Path(__file__).parent / "peer_tools" / f"drive_{peer.environment}.py"
        asked = [dict(peer.options), peer.metric, REQUIREMENTS[peer.environment]]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        for path in (self.source, self.source.with_suffix(".npz"), driver):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def measure(name: str, data: Path, cache: Path, peers: Sequence[str]) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = Judge(detector, detector.detect(detector.model))
    trained = TrainJudge(detector, judge.reference[len(detector.val) :])
    folder = cache / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "prepared.onnx"
    onnx.save(detector.model, source)
    store_inputs(source.with_suffix(".npz"), list(detector.calibration()))
    workshop = Workshop(source, cache, trained.measure)
    figures: dict[str, Any] = {"fp32": judge.measure(judge.reference), "peers": {}}
    for key in peers:
        peer = PEERS[key]
        try:
            model, seconds = workshop.quantise(key, peer)
            results = detector.detect(model)
        except Exception as error:  # Whatever a peer's graph does to the runtime is its result.
            found: dict[str, Any] = {"failed": " ".join(str(error).split())[:300]}
        else:
            row = judge.measure(results)
            found = {
                **as_figures(count_int8(model)),
                "seconds": round(seconds, 1),
                "ap50_loss": round(figures["fp32"]["ap50"] - row["ap50"], 2),
                **row,
            }
        figures["peers"][key] = {"label": peer.label, **found}
        show(name, figures["peers"][key])
    return figures


def show(name: str, row: Mapping[str, Any]) -> None:
    if "failed" in row:
        print(f"{name:22} {row['label']:46} {row['failed']}", flush=True)
        return
    print(
        f"{name:22} {row['label']:46} {row['int8_mac_share']:6.1%} INT8 "
        f"({row['tensorrt_mac_share']:6.1%} as TensorRT takes it): AP50 {row['ap50']:5.2f}, lost "
        f"{row['ap50_loss']:5.2f}, agreement "
        f"{row['agreement_ap50']:.2f} / {row['agreement_ap']:.2f}; "
        f"{row['per_channel_activation_quantisers']} of {row['activation_quantisers']} per "
        f"channel, {row['unsigned_activation_quantisers']} unsigned, "
        f"{row['offset_activation_quantisers']} offset; {row['seconds']:.0f} s",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--peers", nargs="+", choices=tuple(PEERS), default=tuple(PEERS))
    parser.add_argument("--cache", type=Path, default=CACHE, help="environments and models")
    args = parser.parse_args()
    figures = {
        name: measure(name, args.data, args.cache.resolve(), args.peers) for name in args.models
    }
    if tuple(args.models) == MODELS and tuple(args.peers) == tuple(PEERS):
        save_results("peers", {"packages": REQUIREMENTS, "models": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
