"""How scores and tables can be made, in words: no library is loaded here."""

from typing import Literal

NanPolicy = Literal["museval", "per_source"]
Average = Literal["median", "mean"]
