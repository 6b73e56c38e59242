"""Names of precisions, runtimes, masks, methods and averages; no library is loaded here."""

from typing import Literal

NanPolicy = Literal["museval", "per_source"]
Average = Literal["median", "mean"]
Runtime = Literal["tensorflow", "litert"]
Precision = Literal["float32", "bfloat16"]  # what TensorFlow computes in
Mask = Literal["ratio", "direct"]
MaskExtension = Literal["zeros", "average"]
MODEL = "stemforge"  # name of the method of our own models
# Methods that know the truth, and the mixture as estimate: eval.scoring.oracles defines them.
ORACLES = ("MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
