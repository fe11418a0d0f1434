"""From a checkpoint or a graph to a graph that an engine runs, proven against its parent."""
