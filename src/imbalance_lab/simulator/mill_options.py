"""What the ``data:`` section of an experiment file may say of the simulated mill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from imbalance_lab.data.source_options import EncodingOptions

if TYPE_CHECKING:
    from imbalance_lab.simulator.mill import SimulatedMill


class SimulatedOptions(EncodingOptions):
    """The built-in simulated mill; its recordings are encoded like real ones.

    The parameters of the mill are those of :class:`imbalance_lab.simulator.mill.SimulatedMill`,
    which checks them.
    """

    source: Literal["simulated"]
    n_recordings: int = Field(default=36, ge=3)
    rows_per_recording: int = 250
    imbalance_ratio: float = 25.0
    noise: float = 1.0
    n_frames: int = 4
    seed: int = Field(default=0, ge=0)
    faults: dict[str, float] = Field(default_factory=dict)
    operations: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _mill_is_possible(self) -> Self:
        self.mill()
        if self.split.column is not None or self.split.files:
            raise ValueError("simulated recordings come without a file: split takes folds, or test with names")
        return self

    def mill(self) -> SimulatedMill:
        """The mill that these options describe."""
        from imbalance_lab.simulator.mill import OPERATIONS, SimulatedMill

        return SimulatedMill(
            n_recordings=self.n_recordings,
            rows_per_recording=self.rows_per_recording,
            imbalance_ratio=self.imbalance_ratio,
            noise=self.noise,
            n_frames=self.n_frames,
            seed=self.seed,
            faults=dict(self.faults),
            operations=OPERATIONS if self.operations is None else self.operations,
        )
