"""What the sections of params.yaml have in common; pipelines/params.py has the sections."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stemforge.errors import UserError

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class Section(BaseModel):
    """A section of params.yaml: frozen; all keys are required, and no value is converted.

    Numbers are finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CheckedSection(Section):
    """A section whose values are those of another class, which checks them."""

    model_config = ConfigDict(allow_inf_nan=True)

    def read(self) -> Any:
        """The values as that class."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _checked(self) -> Self:
        try:
            self.read().check()
        except UserError as error:
            raise ValueError(str(error)) from None
        return self
