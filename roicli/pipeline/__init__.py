"""One run: inputs, order, stream and result; shards and clusters."""
