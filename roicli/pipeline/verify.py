"""A run that is checked while it goes on: a sample of its RoIs computed again, in float64.

The sample is random, but the RoIs themselves decide it, so that equal calls check the same ones.
Of a RoI with many channels a part is compared, another part of each next one: what is wrong with a
channel shows on any RoI, and so do more RoIs in the same time.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from roicli.core.exceptions import ParameterError, VerificationError
from roicli.core.record import frozen
from roicli.core.types import Array, FloatArray, FloatType, IntArray, RoIs
from roicli.core.vocabulary import Provider
from roicli.operators.interface import OperatorSpec
from roicli.operators.reference import Expected

DEFAULT_ROIS = 64
# Channels compared of one RoI, more where each channel would be compared on fewer RoIs than that.
CHANNELS_A_ROI, ROIS_A_CHANNEL = 64, 4
# nvcc fuses multiplications with additions, so that CUDA's sampling points may differ in their last
# bits: at most one rounding less in the start and in the end of a box, and two in a point.
CUDA_COORDINATE_ULP = 8.0


@frozen
class Deviation:
    """One element of the result against the reference.

    ``roi``, ``channel`` and ``bin_index`` (row, column) say which; ``ulp`` is the distance in units
    in the last place of the compute dtype at the size of what was added (``Expected.magnitude``,
    which is the element's own size unless signs cancelled); ``bound`` is absolute.
    """

    roi: int
    channel: int
    bin_index: tuple[int, int]
    found: float
    expected: float
    bound: float
    ulp: float

    @property
    def place(self) -> str:
        """Where it is, in words."""
        row, column = self.bin_index
        return f"RoI {self.roi}, channel {self.channel}, bin ({row}, {column})"


@frozen
class Verification:
    """What a verified run found: ``rois`` of ``rois_in_all`` were computed again.

    ``values`` elements were compared, NaN and infinities too; ``left_out`` were not, for they may
    overflow, or (on CUDA) may read a cell that is not finite. ``largest`` is the one furthest from
    the reference, in ULP; None where nothing was compared.
    """

    rois: int
    rois_in_all: int
    values: int
    left_out: int
    largest: Deviation | None

    def __str__(self) -> str:
        line = f"verified {self.rois} of {self.rois_in_all} RoIs, {self.values} values: "
        if self.largest is None:
            line += "nothing to compare"
        elif self.largest.ulp == 0:
            line += "all equal"
        else:
            line += f"largest deviation {self.largest.ulp:.3g} ULP at {self.largest.place}"
        return line + (f"; {self.left_out} that may overflow, left out" if self.left_out else "")


def join_verifications(parts: Sequence[Verification]) -> Verification:
    """What the blocks of a run found together."""
    largest = max(
        (part.largest for part in parts if part.largest is not None),
        key=lambda found: found.ulp,
        default=None,
    )
    rois, in_all, values, left_out = (
        sum(getattr(part, name) for part in parts)
        for name in ("rois", "rois_in_all", "values", "left_out")
    )
    return Verification(rois, in_all, values, left_out, largest)


def sample_size(verify: object) -> int:
    """How many RoIs the option ``verify`` asks for: True for 64, or a number.

    Raises ParameterError.
    """
    if verify is True:
        return DEFAULT_ROIS
    if not isinstance(verify, int) or verify < 1:
        raise ParameterError(
            f"verify is {verify!r}, expected True or a number of RoIs of at least 1"
        )
    return verify


def sample_rows(rois: RoIs, count: int) -> IntArray:
    """(n,) rows of ``count`` RoIs, or of all, in order; the same for the same RoIs.

    The CRC-32 of the RoIs starts a SplitMix64 generator (Steele, Lea, Flood 2014), whose numbers
    rank the rows; this is quicker to start than NumPy's generators, and the same in every version.
    """
    seed = zlib.crc32(rois.corners.tobytes(), zlib.crc32(rois.batch_index.tobytes()))
    state = np.arange(1, len(rois) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    order = np.argsort(state ^ (state >> np.uint64(31)), kind="stable")
    return np.sort(order[:count])


class Verifier:
    """Compares blocks of a result, on their way to the writer, with the reference.

    ``specs`` has one entry per level; ``provider`` is the one that computes. Nothing but the sample
    is looked at, and nothing is changed. ``row_numbers`` (K,) are what RoIs are called where they
    are a block of more.
    """

    def __init__(
        self,
        rois: RoIs,
        specs: Sequence[OperatorSpec],
        dtype: FloatType,
        provider: Provider,
        count: int = DEFAULT_ROIS,
        row_numbers: IntArray | None = None,
    ) -> None:
        self._specs, self._dtype, self._provider = specs, dtype, provider
        self._coordinate_ulp = CUDA_COORDINATE_ULP if provider == "cuda" else 0.0
        self._row_numbers = row_numbers
        self._chosen = np.zeros(len(rois), bool)
        self._chosen[sample_rows(rois, count)] = True
        self._sample = max(min(count, len(rois)), 1)
        self._rois = self._values = self._left_out = 0
        self._largest: Deviation | None = None

    def check_block(
        self,
        level: int,
        feature_map: FloatArray,
        rows: IntArray,
        corners: FloatArray,
        block: Array,
    ) -> None:
        """Compare the RoIs of the sample that are in a block (k, C, P_h, P_w), just computed.

        ``feature_map`` (C, H, W), ``corners`` (k, 4) in image pixels, ``rows`` (k,) their numbers.
        Raises VerificationError where an element is beyond its bound.
        """
        for place in np.flatnonzero(self._chosen[rows]):
            part = self._next_channels(block.shape[1])
            self._rois += 1
            spec, row = self._specs[level], int(rows[place])
            read = feature_map[spec.input_channels(part)]
            roi = row if self._row_numbers is None else int(self._row_numbers[row])
            steps = spec.expect(read, corners[place], self._coordinate_ulp)
            # Sums past the compute dtype have no bound, and are left out.
            with np.errstate(over="ignore", invalid="ignore"):
                for channels, expected in steps:
                    found = block[place, part][channels]
                    self._compare(roi, part.start + channels.start, found, expected)

    def _next_channels(self, channels: int) -> slice:
        """Which channels of the next RoI are compared: they go round all channels."""
        width = max(CHANNELS_A_ROI, -(-channels * ROIS_A_CHANNEL // self._sample))
        first = self._rois * width % channels if width < channels else 0
        return slice(first, min(first + width, channels))

    def _compare(self, roi: int, first_channel: int, found: FloatArray, expected: Expected) -> None:
        """Compare some channels of one RoI, and keep what is furthest from the reference."""
        compared = np.isfinite(expected.bound)
        self._values += int(compared.sum())
        self._left_out += compared.size - int(compared.sum())
        if not compared.any():
            return
        with np.errstate(invalid="ignore"):
            distance = np.abs(found - expected.values)
        # NaN and infinities are as far from anything else as can be.
        same = (found == expected.values) | (np.isnan(found) & np.isnan(expected.values))
        distance = np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf))
        distance = np.where(compared, distance, -1.0)
        ulp = distance / np.spacing(expected.magnitude.astype(self._dtype)).astype(np.float64)
        beyond = distance > expected.bound
        worst = int(np.argmax(np.where(beyond, distance, -1.0) if beyond.any() else ulp))
        channel, row, column = (int(n) for n in np.unravel_index(worst, distance.shape))
        element = Deviation(
            roi,
            first_channel + channel,
            (row, column),
            float(found[channel, row, column]),
            float(expected.values[channel, row, column]),
            float(expected.bound[channel, row, column]),
            float(ulp[channel, row, column]),
        )
        if beyond.any():
            self._fail(element)
        if self._largest is None or element.ulp > self._largest.ulp:
            self._largest = element

    def _fail(self, element: Deviation) -> None:
        exactly = f"to within {element.bound:.3g}" if element.bound else "exactly"
        raise VerificationError(
            f"verification failed at {element.place}: found {element.found:.9g}, expected "
            f"{element.expected:.9g} {exactly} (provider {self._provider} against float64)",
            "nothing was kept; run again, with another --provider too, and check the machine's "
            "memory where the failure comes and goes",
        )

    def summary(self) -> Verification:
        """What was found so far."""
        return Verification(
            self._rois, len(self._chosen), self._values, self._left_out, self._largest
        )
