"""Speed and memory, beside peers where there are any: `./run bench`."""
