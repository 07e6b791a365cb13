"""Ways to make a model smaller, and the measurements that prove they did."""
