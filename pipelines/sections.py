"""What the sections of params.yaml have in common; pipelines/params.py has the sections."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A section of params.yaml: frozen; all keys are required, and no value is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
