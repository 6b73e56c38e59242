"""Names of precisions, runtimes, masks, methods and averages; this module loads no library."""

from typing import Literal

from stemforge.train.config import InferencePrecision

NanPolicy = Literal["museval", "per_source"]
Undetermined = Literal["keep", "drop"]  # scores that rounding decides
Average = Literal["median", "mean"]
Precision = InferencePrecision
Runtime = Literal["tensorflow", "litert"]
Mask = Literal["ratio", "direct"]
MaskExtension = Literal["zeros", "average"]
MODEL = "stemforge"  # name of the method of our own models
# Methods that know the true stems, and the mixture as estimate; defined in eval.scoring.oracles.
UNPROCESSED = "UNPROCESSED"
ORACLES = (UNPROCESSED, "MIX", "IRM1", "IRM2", "IBM1", "IBM2", "MWF")
