"""What the Python tests and tools share: a throwaway daemon, a client for its API, the lab's logs."""
