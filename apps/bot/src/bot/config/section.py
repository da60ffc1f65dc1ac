"""What the sections of the settings are made of, beside the models of the layers."""

import os
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: no other names, nothing that is no number."""

    # Its validator is built when the first is made, not at import.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def _expanded(path: str | None) -> str | None:
    return os.path.expanduser(path) if path is not None and path.startswith("~/") else path


# A path as a shell would have it, which a file does not pass through.
AT_HOME: Final = AfterValidator(_expanded)
HomePath = Annotated[str, AT_HOME]
