"""How nets, masks, scores and tables can be made, in words: no library is loaded here."""

from typing import Literal

NanPolicy = Literal["museval", "per_source"]
Average = Literal["median", "mean"]
Runtime = Literal["tensorflow", "litert"]
Precision = Literal["float32", "bfloat16"]  # that TensorFlow computes in
Mask = Literal["ratio", "direct"]
MaskExtension = Literal["zeros", "average"]
MODEL = "stemforge"  # what the method is called whose models are ours
# Methods that know the truth, and the mixture as estimate: eval.scoring.oracles defines them.
ORACLES = ("MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
