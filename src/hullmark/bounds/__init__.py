"""Sound bounds by propagation, batched on torch."""
