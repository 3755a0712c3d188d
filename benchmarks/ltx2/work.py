"""How much there is to do: operations and bytes of a forward pass and of an update, from the shapes alone.

Operations are those of matrix products, 2 per multiply-and-add. Bytes are the fewest that these products can move: each
operand read once and each result written once. What lies between them (norms, modulation, rotary embeddings) is not
counted: a good kernel does it on the way.

Letters: D width of the video stream, d of the audio stream (and of attention between them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from justdub.sequence import Layout, StreamLayout

Mode = Literal["masked", "sliced", "isolated", "cached", "prefill"]
FREQUENCIES = 256  # of a timestep's embedding
ACTIVATION_BYTES = 2


@dataclass(frozen=True)
class Work:
    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times)


@dataclass(frozen=True)
class Linear:
    """rows through a linear module. trained: adapters change it. differentiable: its input needs a gradient."""

    rows: int
    wide_in: int
    wide_out: int
    trained: bool = True
    differentiable: bool = True

    def forward(self, weight_bytes: float) -> Work:
        moved = weight_bytes * self.wide_in * self.wide_out + ACTIVATION_BYTES * self.rows * (
            self.wide_in + self.wide_out
        )
        return Work(2 * self.rows * self.wide_in * self.wide_out, moved)

    def adapter(self, rank: int) -> Work:
        """Its factors' products in a forward pass."""
        down, up = (Linear(self.rows, self.wide_in, rank), Linear(self.rows, rank, self.wide_out))
        return (down.forward(4) + up.forward(4)) * self.trained

    def backward(self, weight_bytes: float, rank: int) -> Work:
        """Gradient of the input through the frozen weight and the factors, and of the factors."""
        through = self.forward(weight_bytes) * self.differentiable
        down, up = Linear(self.rows, self.wide_in, rank).forward(4), Linear(self.rows, rank, self.wide_out).forward(4)
        return through + (down * (1 + self.differentiable) + up * 2) * self.trained


@dataclass(frozen=True)
class Attention:
    queries: int
    keys: int
    width: int

    def forward(self) -> Work:
        moved = ACTIVATION_BYTES * 2 * self.width * (self.queries + self.keys)
        return Work(4 * self.queries * self.keys * self.width, moved)

    def backward(self) -> Work:
        """Four products for two; a fused kernel's second look at the scores is not counted."""
        return self.forward() * 2


class TransformerWork:
    """Of an LTX-2.0 transformer, batch 1.

    Args:
        config: of `LTX2VideoTransformer3DModel`.
        layout: tokens of both streams; in mode `cached` the reference's are in the cache, in `prefill` they are alone.
        text: tokens of the prompt.
        mode: `masked` also stands for stock attention without a reference (a layout that has none).
        weight_bytes: of a stored weight.
    """

    def __init__(self, config: Any, layout: Layout, text: int, mode: Mode, weight_bytes: float = 2) -> None:
        self.config, self.layout, self.text, self.mode, self.weight_bytes = config, layout, text, mode, weight_bytes
        self.width = config.num_attention_heads * config.attention_head_dim
        self.audio_width = config.audio_num_attention_heads * config.audio_attention_head_dim
        self.rows = self._rows(layout.video)
        self.audio_rows = self._rows(layout.audio)

    def forward(self) -> Work:
        return self._block_forward() * self.config.num_layers + self._outside()

    def update(self, rank: int, *, checkpointing: bool) -> Work:
        """Forward and backward pass of an adapter of `rank` on all linear modules, and the optimizer's step."""
        with_adapter = self._block_forward() + sum((one.adapter(rank) for one in self._linears()), Work())
        blocks = with_adapter * (2 if checkpointing else 1) + self._block_backward(rank)
        # Nothing before the first block is trained: its self-attention's projections pass no gradient on.
        first = [one for one in self._self_attention_inputs()]
        unneeded = sum(
            (one.forward(self.weight_bytes) + Linear(one.rows, one.wide_in, rank).forward(4) for one in first), Work()
        )
        outputs = Linear(self.rows, self.width, self.config.out_channels).forward(self.weight_bytes)
        outputs += Linear(self.audio_rows, self.audio_width, self.config.audio_out_channels).forward(self.weight_bytes)
        parameters = sum(rank * (one.wide_in + one.wide_out) for one in self._linears()) * self.config.num_layers
        optimizer = Work(0, 4 * 8 * parameters)  # AdamW in float32: weight, gradient, two means read; three written
        return blocks * self.config.num_layers + self._outside() + outputs + unneeded * -1 + optimizer

    # -- one block ----------------------------------------------------------------------------------------------------

    def _block_forward(self) -> Work:
        linears = (one.forward(self.weight_bytes) for one in (*self._linears(), *self._zero_rows()))
        return sum(linears, Work()) + sum((one.forward() for one in self._attentions()), Work())

    def _block_backward(self, rank: int) -> Work:
        linears = (one.backward(self.weight_bytes, rank) for one in self._linears())
        return sum(linears, Work()) + sum((one.backward() for one in self._attentions()), Work())

    def _streams(self) -> Iterator[tuple[int, int]]:
        yield self.rows, self.width
        yield self.audio_rows, self.audio_width

    def _self_attention_inputs(self) -> Iterator[Linear]:
        for rows, width in self._streams():
            yield from [Linear(rows, width, width)] * 3

    def _linears(self) -> Iterator[Linear]:
        yield from self._self_attention_inputs()
        for rows, width in self._streams():
            yield from [Linear(rows, width, width)] * 3  # self-attention's output, text attention's queries and output
            yield from [Linear(self.text, width, width, differentiable=False)] * 2  # the prompt is given
            yield from (Linear(rows, width, 4 * width), Linear(rows, 4 * width, width))
        for asking, answering, wide, other in self._between():
            yield from (Linear(asking, wide, self.audio_width), Linear(asking, self.audio_width, wide))
            yield from [Linear(answering, other, self.audio_width)] * 2

    def _zero_rows(self) -> Iterator[Linear]:
        """Reference rows get the output projection of one row of zeros (`CrossModalAttention`)."""
        streams = ((self.layout.video, self.width), (self.layout.audio, self.audio_width))
        for stream, width in streams:
            if self.mode == "prefill" or (self.mode in ("sliced", "isolated") and stream.reference):
                yield Linear(1, self.audio_width, width)

    def _attentions(self) -> Iterator[Attention]:
        for stream, width in ((self.layout.video, self.width), (self.layout.audio, self.audio_width)):
            whole, reference, target = stream.length, stream.reference, stream.target
            if self.mode in ("masked", "sliced"):
                yield Attention(whole, whole, width)
            if self.mode in ("isolated", "prefill"):
                yield Attention(reference, reference, width)
            if self.mode in ("isolated", "cached"):
                yield Attention(target, whole, width)
            yield Attention(self._rows(stream), self.text, width)
        for asking, answering, _, _ in self._between():
            yield Attention(asking, answering, self.audio_width)

    def _between(self) -> Iterator[tuple[int, int, int, int]]:
        """Of attention between the streams: rows that ask, rows that answer, widths of their streams."""
        if self.mode == "prefill":
            return
        video, audio = self.layout.video, self.layout.audio
        if self.mode == "masked":
            rows, audio_rows = video.length, audio.length
        else:
            rows, audio_rows = video.target, audio.target
        yield rows, audio_rows, self.width, self.audio_width
        yield audio_rows, rows, self.audio_width, self.width

    def _rows(self, stream: StreamLayout) -> int:
        """Tokens that pass through the blocks."""
        return {"cached": stream.target, "prefill": stream.reference}.get(self.mode, stream.length)

    # -- around the blocks --------------------------------------------------------------------------------------------

    def _outside(self) -> Work:
        config, found = self.config, []
        channels = ((config.in_channels, config.out_channels), (config.audio_in_channels, config.audio_out_channels))
        for (rows, width), (into, out) in zip(self._streams(), channels, strict=True):
            found += [Linear(rows, into, width), Linear(rows, width, out)]
            found += [Linear(self.text, config.caption_channels, width), Linear(self.text, width, width)]
            for numbers in (6, 4, 1):  # modulation of the block, of attention between the streams, and its gate
                found += [
                    Linear(rows, FREQUENCIES, width),
                    Linear(rows, width, width),
                    Linear(rows, width, numbers * width),
                ]
        return sum((one.forward(self.weight_bytes) for one in found), Work())
