"""How many kernels a training step may have on a GPU, in float32: the one place of these numbers.

They are what a step of the two heads of :mod:`pretended_cuda.cases` had when they were last lowered. A step that
needs fewer may lower them; one that needs more should say for what.
"""

STEP = {"steps": 190, "tokens": 254, "table": 120}
"""Plain cross-entropy, by the shape of the data: MM-DTAE-LSTM, the same with a token decoder, perceptron."""

MORE = 90
"""What one other loss, head or augmentation may add (the most: LDAM with its cosine head, 86)."""

MORE_OF = {"influence-balanced": 140}
"""Which adds more: it computes both of the losses that it passes between."""
