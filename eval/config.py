"""How nets, masks, scores and tables can be made, in words: no library is loaded here."""

from typing import Literal

from stemforge.train.config import InferencePrecision

NanPolicy = Literal["museval", "per_source"]
Average = Literal["median", "mean"]
Precision = InferencePrecision
Runtime = Literal["tensorflow", "litert"]
Mask = Literal["ratio", "direct"]
MaskExtension = Literal["zeros", "average"]
MODEL = "stemforge"  # what the method is called whose models are ours
# Methods that know the truth, and the mixture as estimate: eval.scoring.oracles defines them.
ORACLES = ("MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
