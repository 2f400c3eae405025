"""What is asked of a network: sets of inputs, properties, and the files that state them."""
