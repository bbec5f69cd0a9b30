"""What several chaos tests need: processes, servers, workloads, and how to look at what became of them."""
