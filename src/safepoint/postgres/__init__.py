"""PostgreSQL: how it is reached, its tools, its catalogue, servers of our own, its replication stream."""
