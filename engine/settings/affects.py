"""What a setting affects. Every field of the schema carries one `Affects`; `engine.settings.facts` reads them.

A field without one is an error when its section is defined: an unclassified setting would silently share
teachers, or results, with runs it must not share them with.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

Change = Literal["never", "any time", "rounding"]
"""Whether a setting may change on an existing run: `never`, because that would change the experiment; at `any time`;
or at any time with results that then differ by `rounding`."""

Part = Literal["teachers", "imported", "distilled", "random"]
"""The records that name settings; see the fields of `Affects`."""


@dataclass(frozen=True, kw_only=True)
class Affects:
    """What depends on a setting, besides the run that has it.

    The four records are compared as they are stored, so a name, once released, never changes. A dot in a name makes a
    table: `labels.kind` is `{"labels": {"kind": ...}}`.
    """

    images: bool = False
    """Whether it decides what the real images are. Every record has their fingerprint, and needs no name for it."""
    teachers: str = ""
    """Its name in the identity of teachers, which decides what runs share a buffer. Empty: teachers do not read it."""
    imported: str = ""
    """Its name in the identity of an imported buffer: a run must have the same value to use it."""
    distilled: str = ""
    """Its name in the protocol of a distilled set's results: they are measured again when it changes."""
    random: str = ""
    """Its name in the protocol of the results of random real images, which runs share where it is the same."""
    unnamed: tuple[Any, ...] = ()
    """Values that records leave out: what older records, which do not name it, were made with; or what has no effect
    there."""
    change: Change = "never"
    """Whether it may change on an existing run."""
    by_method: bool = False
    """Whether only some methods read it: those that list it in `Method.reads`. Otherwise all of them do."""


def affects_of(field: FieldInfo) -> Affects | None:
    """What a field of the schema declares; None if it declares nothing."""
    return next((part for part in field.metadata if isinstance(part, Affects)), None)


THE_RUN = Affects()
"""Decides what this run makes, and nothing that it shares with others."""
BY_METHOD = Affects(by_method=True)
"""As `THE_RUN`, for the methods that read it."""
REAL_IMAGES = Affects(images=True)
ANY_TIME = Affects(change="any time")
ROUNDING = Affects(change="rounding")


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values never change after validation, `"5"` is not 5.

    Raises:
        TypeError: when a section is defined with a setting that does not declare what it affects.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check the declarations."""
        for name, field in cls.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
            if not nested and affects_of(field) is None:
                raise TypeError(f"{cls.__name__}.{name} must declare what it affects: Annotated[..., Affects(...)].")
